/* >>limit: exact counts of parked polls by client and by address, and each address's share. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "fake.h"

static const uint8_t *address(const char *text) {
    static uint8_t bytes[4][16];
    static int at;
    at = (at + 1) % 4;
    CHECK(!lpi_address_parse(lp_s(text), bytes[at]));
    return bytes[at];
}

static uint64_t client_key(lp_slice name, const char *text) {
    const uint8_t *bytes = address(text);
    return lpi_client_key(fake.hub, name, bytes, lpi_address_key(fake.hub, bytes));
}

/* Nobody elsewhere can use up what a name may have. */
TEST(limit_client_is_its_name_at_its_address) {
    lp_slice none = lpi_slice(NULL, 0), amy = LPI_S("amy");
    fake_start(1);
    CHECK(client_key(amy, "10.0.0.1") == client_key(amy, "10.0.0.1"));
    CHECK(client_key(amy, "10.0.0.1") != client_key(amy, "10.0.0.2"));
    CHECK(client_key(amy, "10.0.0.1") != client_key(LPI_S("bob"), "10.0.0.1"));
    CHECK(client_key(amy, "2001:db8::1") == client_key(amy, "2001:db8::2"));
    CHECK(client_key(amy, "2001:db8::1") != client_key(amy, "2001:db8:0:1::1"));
    CHECK(client_key(none, "10.0.0.1") == client_key(none, "10.0.0.1"));
    CHECK(client_key(none, "10.0.0.1") != client_key(none, "10.0.0.2"));
    CHECK(client_key(none, "2001:db8::1") != client_key(none, "2001:db8::2"));
    fake_end();
}

/* A name that has the bytes of an address is still a name. */
TEST(limit_names_and_addresses_do_not_meet) {
    uint8_t bytes[16];
    lp_slice same = lpi_slice((const char *)bytes, 16);
    memcpy(bytes, address("10.0.0.1"), 16);
    fake_start(1);
    CHECK(client_key(same, "10.0.0.1") != client_key(lpi_slice(NULL, 0), "10.0.0.1"));
    CHECK(client_key(lpi_slice(NULL, 0), "10.0.0.1") != lpi_address_key(fake.hub, bytes));
    CHECK(client_key(same, "10.0.0.1") != lpi_address_key(fake.hub, bytes));
    fake_end();
}

TEST(limit_address_is_by_address_and_by_64_bits_of_ipv6) {
    fake_start(1);
    CHECK(lpi_address_key(fake.hub, address("10.0.0.1")) !=
          lpi_address_key(fake.hub, address("10.0.0.2")));
    CHECK(lpi_address_key(fake.hub, address("10.0.0.1")) ==
          lpi_address_key(fake.hub, address("::ffff:10.0.0.1")));
    CHECK(lpi_address_key(fake.hub, address("2001:db8:1:2::1")) ==
          lpi_address_key(fake.hub, address("2001:db8:1:2:ffff:ffff:ffff:ffff")));
    CHECK(lpi_address_key(fake.hub, address("2001:db8:1:2::1")) !=
          lpi_address_key(fake.hub, address("2001:db8:1:3::1")));
    fake_end();
}

/* Keys differ from server to server: nobody can prepare names that collide. */
TEST(limit_keys_are_keyed) {
    uint64_t key;
    fake_start(1);
    key = client_key(LPI_S("amy"), "10.0.0.1");
    fake_end();
    fake_start(1);
    CHECK(key != client_key(LPI_S("amy"), "10.0.0.1"));
    fake_end();
}

/* How many polls count under that key. */
static uint32_t count_of(uint64_t key) {
    uint32_t index = lpi_table_first(&fake.hub->counter_table, key);
    return index == LPI_NONE ? 0 : lpi_counter_value(fake.hub, index);
}

TEST(limit_tally_counts_up_and_down) {
    uint32_t index;
    fake_start(1);
    CHECK_INT(count_of(7), 0);
    index = lpi_counter_take(fake.hub, LPI_NONE, 7);
    CHECK_INT(lpi_counter_take(fake.hub, LPI_NONE, 7), index);
    CHECK_INT(count_of(7), 2);
    CHECK_INT(count_of(8), 0);
    lpi_counter_give(fake.hub, index);
    CHECK_INT(count_of(7), 1);
    lpi_counter_drop(fake.hub, index); /* one of the two closes */
    CHECK_INT(count_of(7), 1);
    lpi_counter_give(fake.hub, index);
    CHECK_INT(count_of(7), 0);
    CHECK_INT(fake.hub->counters.used, 1); /* the other may ask again */
    lpi_counter_drop(fake.hub, index);
    CHECK_INT(fake.hub->counters.used, 0);
    CHECK_INT(fake.hub->counter_table.count, 0);
    lpi_counter_drop(fake.hub, index); /* there is none any more */
    CHECK_INT(fake.hub->counters.used, 0);
    fake_end();
}

/* A client that asks again at once finds its counter where it was, and costs no memory. */
TEST(limit_tally_at_zero_is_found_again) {
    uint32_t index;
    size_t calls;
    fake_start(1);
    index = lpi_counter_take(fake.hub, LPI_NONE, 7);
    lpi_counter_give(fake.hub, index);
    calls = fake.memory.calls;
    CHECK_INT(lpi_counter_take(fake.hub, index, 7), index);
    CHECK_INT(count_of(7), 1);
    lpi_counter_give(fake.hub, index);
    CHECK_INT(lpi_counter_take(fake.hub, LPI_NONE, 7), index); /* another connection of it */
    CHECK_INT(count_of(7), 1);
    CHECK_INT(fake.hub->counters.used, 1);
    CHECK_INT(fake.memory.calls, calls);
    lpi_counter_give(fake.hub, index);
    fake_end();
}

/* A connection that names another client leaves nothing of the one before behind, however
   often: what is kept is bounded by the connections. */
TEST(limit_tally_goes_when_its_connection_counts_elsewhere) {
    uint32_t index = LPI_NONE, other;
    uint64_t key;
    fake_start(1);
    other = lpi_counter_take(fake.hub, LPI_NONE, 3);
    for (key = 10; key < 2000; key++) {
        index = lpi_counter_take(fake.hub, index, key);
        CHECK_INT(count_of(key), 1);
        CHECK_INT(fake.hub->counters.used, 2);
        lpi_counter_give(fake.hub, index);
    }
    CHECK_INT(lpi_counter_take(fake.hub, index, 3), other);
    CHECK_INT(count_of(3), 2);
    CHECK_INT(fake.hub->counters.used, 1);
    CHECK(lpi_counter_take(fake.hub, other, 4) != other); /* it counts one still */
    CHECK_INT(count_of(3), 2);
    fake_end();
}

/* Its poll is answered, and the connection stays. */
static void answer(uint32_t connection) {
    lpi_connection *c = lpi_connection_at(&fake.loops[0], connection);
    if (c->phase != LPI_PARKED) return;
    lpi_lock(&fake.hub->mutex);
    lpi_hub_unpark(fake.hub, c, fake_now());
    lpi_unlock(&fake.hub->mutex);
    lpi_set_phase(&fake.loops[0], c, LPI_SERVING);
}

/* The same over connections: one is kept of each that is open, and none of one that is closed,
   whether it waited then, or not, or never did. */
TEST(limit_tallies_end_with_their_connections) {
    enum { OPEN = 40 };
    uint32_t c[OPEN], i, round;
    fake_start(1);
    for (i = 0; i < OPEN; i++) c[i] = fake_connect(0);
    for (round = 0; round < 100; round++) {
        for (i = 0; i < OPEN; i++) {
            lpi_poll_request ask = fake_ask("a", "");
            ask.client_key = unit_below(100);
            ask.address_key = 1000 + unit_below(100);
            if (unit_below(4)) CHECK_INT(fake_poll(0, c[i], &ask), 0);
        }
        check_hub();
        for (i = 0; i < OPEN; i++)
            if (unit_below(4)) answer(c[i]);
        check_hub();
        for (i = 0; i < OPEN; i++) {
            if (unit_below(4)) {
                answer(c[i]);
            } else {
                fake_hang_up(0, c[i]);
                c[i] = fake_connect(0);
            }
        }
        check_hub();
        CHECK(fake.hub->counters.used <= OPEN);
        CHECK(fake.hub->accounts.used <= OPEN);
    }
    for (i = 0; i < OPEN; i++) fake_hang_up(0, c[i]);
    check_hub();
    CHECK_INT(fake.hub->counters.used, 0);
    CHECK_INT(fake.hub->accounts.used, 0);
    fake_end();
}

/* Where a counter was last is only a guess: at any number, of a record that is another's, or
   nobody's, or whose chunk has gone. */
TEST(limit_a_tally_is_looked_for_where_it_was) {
    enum { CLIENTS = 1000 };
    static uint32_t index[CLIENTS];
    uint32_t i, empty = 0;
    fake_start(1);
    for (i = 0; i < CLIENTS; i++) index[i] = lpi_counter_take(fake.hub, LPI_NONE, i + 1);
    for (i = 0; i < CLIENTS; i++) {
        CHECK_INT(lpi_counter_take(fake.hub, index[i], i + 1), index[i]);
        CHECK_INT(lpi_counter_take(fake.hub, index[(i + 7) % CLIENTS], i + 1), index[i]);
        CHECK_INT(lpi_counter_take(fake.hub, unit_below(5000), i + 1), index[i]);
        CHECK_INT(lpi_counter_take(fake.hub, UINT32_MAX - unit_below(9), i + 1), index[i]);
        CHECK_INT(count_of(i + 1), 5);
    }
    for (i = 0; i < CLIENTS; i++) {
        uint32_t k;
        for (k = 0; k < 5; k++) lpi_counter_give(fake.hub, index[i]);
    }
    CHECK(lpi_counter_is(fake.hub, index[0], 1)); /* at zero, and there */
    for (i = 0; i < CLIENTS; i++) lpi_counter_drop(fake.hub, index[i]);
    CHECK_INT(fake.hub->counters.used, 0);
    for (i = 0; i < CLIENTS; i++) {
        CHECK(!lpi_counter_is(fake.hub, index[i], i + 1));
        CHECK(!lpi_counter_is(fake.hub, index[i], 0));
        empty += !lpi_slab_has(&fake.hub->counters, index[i]);
    }
    CHECK(empty > CLIENTS / 2); /* their chunks have gone */
    i = lpi_counter_take(fake.hub, index[3], 4);
    CHECK_INT(count_of(4), 1);
    lpi_counter_give(fake.hub, i);
    fake_end();
}

/* Keys in one bucket of the table, and zero among them. */
TEST(limit_tallies_in_one_chain) {
    uint32_t index[40], i, k;
    fake_start(1);
    for (i = 0; i < 40; i++)
        for (k = 0; k <= i; k++) index[i] = lpi_counter_take(fake.hub, LPI_NONE, (uint64_t)i << 32);
    for (i = 0; i < 40; i++) CHECK_INT(count_of((uint64_t)i << 32), i + 1);
    for (i = 0; i < 40; i++)
        for (k = 0; k <= i; k++) lpi_counter_give(fake.hub, index[i]);
    for (i = 0; i < 40; i++) lpi_counter_drop(fake.hub, index[i * 7 % 40]);
    CHECK_INT(fake.hub->counters.used, 0);
    fake_end();
}

TEST(limit_many_tallies_against_plain_counts) {
    enum { KEYS = 600 };
    static uint32_t counts[KEYS], index[KEYS];
    int i, rounds = unit_rounds(300000);
    uint32_t k, used = 0; /* those that count somebody */
    fake_start(1);
    memset(counts, 0, sizeof counts);
    for (i = 0; i < rounds; i++) {
        k = unit_below(KEYS);
        /* Waves, so that the table grows and shrinks. */
        if (unit_below(100) < (i / 5000 % 2 ? 70u : 35u)) {
            uint32_t got = lpi_counter_take(fake.hub, LPI_NONE, k * UINT64_C(0x9e3779b97f4a7c15));
            CHECK(!counts[k] || got == index[k]);
            used += !counts[k]++;
            index[k] = got;
        } else if (counts[k]) {
            lpi_counter_give(fake.hub, index[k]);
            used -= !--counts[k];
        }
        CHECK_INT(count_of(k * UINT64_C(0x9e3779b97f4a7c15)), counts[k]);
        CHECK(fake.hub->counters.used >= used);
        if (i % 1000 || unit_below(4)) continue;
        for (k = 0; k < KEYS; k++) lpi_counter_drop(fake.hub, index[k]);
        CHECK_INT(fake.hub->counters.used, used);
    }
    for (k = 0; k < KEYS; k++)
        while (counts[k]--) lpi_counter_give(fake.hub, index[k]);
    for (k = 0; k < KEYS; k++) lpi_counter_drop(fake.hub, index[k]);
    CHECK_INT(fake.hub->counters.used, 0);
    fake_end();
}

TEST(limit_tally_without_memory) {
    uint32_t index;
    fake_start(1);
    fake.memory.fail_at = fake.memory.calls + 1;
    fake.memory.fail_forever = 1;
    CHECK_INT(lpi_counter_take(fake.hub, LPI_NONE, 7), LPI_NONE);
    CHECK_INT(count_of(7), 0);
    CHECK_INT(fake.hub->counters.used, 0);
    fake.memory.fail_at = 0;
    index = lpi_counter_take(fake.hub, LPI_NONE, 7);
    CHECK(index != LPI_NONE);
    fake.memory.fail_at = fake.memory.calls + 1;
    CHECK_INT(lpi_counter_take(fake.hub, LPI_NONE, 7), index); /* needs none */
    CHECK_INT(count_of(7), 2);
    lpi_counter_give(fake.hub, index);
    lpi_counter_give(fake.hub, index);
    fake_end();
}

/* What many clients took is given back when they are gone. */
TEST(limit_burst_leaves_nothing_behind) {
    enum { CLIENTS = 20000 };
    static uint32_t index[CLIENTS];
    size_t before;
    uint32_t i, clients = (uint32_t)unit_rounds(CLIENTS);
    fake_start(1);
    before = fake.memory.bytes;
    for (i = 0; i < clients; i++) index[i] = lpi_counter_take(fake.hub, LPI_NONE, unit_random());
    CHECK(fake.memory.bytes > before + clients * sizeof(lpi_counter));
    for (i = 0; i < clients; i++) {
        lpi_counter_give(fake.hub, index[i]);
        lpi_counter_drop(fake.hub, index[i]);
    }
    CHECK(fake.memory.bytes < before + 256 * sizeof(lpi_counter) + 8192);
    fake_end();
}

/* One account for an address's connections, as long as there is one. */
TEST(limit_account_lasts_as_long_as_a_connection) {
    uint32_t a, b;
    size_t calls;
    fake_start(1);
    a = lpi_account_take(fake.hub, 7, 0);
    calls = fake.memory.calls;
    CHECK_INT(lpi_account_take(fake.hub, 7, 0), a);
    CHECK_INT(fake.memory.calls, calls);
    b = lpi_account_take(fake.hub, 8, 1);
    CHECK(b != a);
    CHECK(lpi_account_at(fake.hub, b)->trusted && !lpi_account_at(fake.hub, a)->trusted);
    CHECK_INT(lpi_account_at(fake.hub, a)->refs, 2);
    lpi_account_give(fake.hub, a);
    CHECK_INT(fake.hub->accounts.used, 2);
    lpi_account_give(fake.hub, a);
    CHECK_INT(fake.hub->accounts.used, 1);
    lpi_account_give(fake.hub, b);
    CHECK_INT(fake.hub->addresses.count, 0);
    fake.memory.fail_at = 1;
    fake.memory.fail_forever = 1;
    lpi_slab_free(&fake.hub->accounts);
    lpi_slab_init(&fake.hub->accounts, &fake.server.memory, sizeof(lpi_account), 6);
    CHECK_INT(lpi_account_take(fake.hub, 7, 0), LPI_NONE);
    CHECK_INT(fake.hub->addresses.count, 0);
    fake_end();
}

TEST(limit_account_may_have_a_quarter) {
    lpi_account account;
    memset(&account, 0, sizeof account);
    CHECK(lpi_account_may(&account, 25, 100));
    CHECK(!lpi_account_may(&account, 26, 100));
    account.trusted = 1;
    CHECK(lpi_account_may(&account, 26, 100));
}

/* A proxy's connection counts where its request comes from, with what is kept of it. */
TEST(limit_account_moves_with_what_is_kept) {
    lpi_connection *c;
    lpi_loop *loop;
    lpi_account *proxy, *far;
    uint32_t index, other;
    fake_start(1);
    loop = &fake.loops[0];
    index = fake_connect(0);
    c = lpi_connection_at(loop, index);
    CHECK(lpi_request_buffer_get(loop, c) != NULL);
    CHECK(!lpi_request_buffer_reserve(loop, c, 1000));
    proxy = lpi_account_at(fake.hub, c->account);
    CHECK_INT(proxy->partial_bytes, sizeof(lpi_request_buffer) + 1024);
    other = lpi_account_take(fake.hub, 0, 1); /* so that the proxy's stays */
    CHECK(!lpi_account_move(fake.hub, c, 5, 0));
    far = lpi_account_at(fake.hub, c->account);
    CHECK_INT(far->partial_bytes, sizeof(lpi_request_buffer) + 1024);
    CHECK_INT(proxy->partial_bytes, 0);
    CHECK_INT(proxy->refs, 1);
    CHECK(!lpi_account_move(fake.hub, c, 5, 0)); /* where it is */
    CHECK_INT(far->refs, 1);
    fake.config->partial_bytes_max = 65536;
    CHECK(!lpi_account_move(fake.hub, c, 0, 1));
    {
        uint32_t full = lpi_account_take(fake.hub, 6, 0), before = c->account;
        lpi_account_at(fake.hub, full)->partial_bytes = 65536 / 4 - sizeof(lpi_request_buffer) - 1023;
        CHECK_INT(lpi_account_move(fake.hub, c, 6, 0), LPI_WHY_CONNECTIONS_MAX); /* it has its share */
        CHECK_INT(c->account, before);
        lpi_account_at(fake.hub, full)->partial_bytes--;
        CHECK(!lpi_account_move(fake.hub, c, 6, 0));
        CHECK_INT(lpi_account_at(fake.hub, full)->partial_bytes, 65536 / 4);
        CHECK(!lpi_account_move(fake.hub, c, 0, 1));
        lpi_account_at(fake.hub, full)->partial_bytes = 0;
        lpi_account_give(fake.hub, full);
    }
    fake_hang_up(0, index);
    lpi_account_give(fake.hub, other);
    CHECK_INT(fake.hub->accounts.used, 0);
    CHECK_INT(fake.hub->partial_bytes, 0);
    fake_end();
}
