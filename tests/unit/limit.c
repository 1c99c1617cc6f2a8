/* >>limit: exact counts of parked polls by client and by address. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "fake.h"

static const uint8_t *address(const char *text) {
    static uint8_t bytes[4][16];
    static int at;
    at = (at + 1) % 4;
    CHECK(!lpi_parse_address(lp_s(text), bytes[at]));
    return bytes[at];
}

TEST(limit_client_is_its_name_or_its_address) {
    lp_slice none = lpi_slice(NULL, 0);
    const lpi_hub *hub;
    fake_start(1);
    hub = fake.hub;
    CHECK(lpi_client_key(hub, LPI_S("amy"), address("10.0.0.1")) ==
          lpi_client_key(hub, LPI_S("amy"), address("10.0.0.2")));
    CHECK(lpi_client_key(hub, LPI_S("amy"), address("10.0.0.1")) !=
          lpi_client_key(hub, LPI_S("bob"), address("10.0.0.1")));
    CHECK(lpi_client_key(hub, none, address("10.0.0.1")) ==
          lpi_client_key(hub, none, address("10.0.0.1")));
    CHECK(lpi_client_key(hub, none, address("10.0.0.1")) !=
          lpi_client_key(hub, none, address("10.0.0.2")));
    CHECK(lpi_client_key(hub, none, address("2001:db8::1")) !=
          lpi_client_key(hub, none, address("2001:db8::2")));
    fake_end();
}

/* A name that has the bytes of an address is still a name. */
TEST(limit_names_and_addresses_do_not_meet) {
    const uint8_t *bytes = address("10.0.0.1");
    lp_slice same = lpi_slice((const char *)bytes, 16);
    fake_start(1);
    CHECK(lpi_client_key(fake.hub, same, bytes) !=
          lpi_client_key(fake.hub, lpi_slice(NULL, 0), bytes));
    CHECK(lpi_client_key(fake.hub, lpi_slice(NULL, 0), bytes) !=
          lpi_ceiling_key(fake.hub, bytes));
    CHECK(lpi_client_key(fake.hub, same, bytes) != lpi_ceiling_key(fake.hub, bytes));
    fake_end();
}

TEST(limit_ceiling_is_by_address_and_by_64_bits_of_ipv6) {
    fake_start(1);
    CHECK(lpi_ceiling_key(fake.hub, address("10.0.0.1")) !=
          lpi_ceiling_key(fake.hub, address("10.0.0.2")));
    CHECK(lpi_ceiling_key(fake.hub, address("10.0.0.1")) ==
          lpi_ceiling_key(fake.hub, address("::ffff:10.0.0.1")));
    CHECK(lpi_ceiling_key(fake.hub, address("2001:db8:1:2::1")) ==
          lpi_ceiling_key(fake.hub, address("2001:db8:1:2:ffff:ffff:ffff:ffff")));
    CHECK(lpi_ceiling_key(fake.hub, address("2001:db8:1:2::1")) !=
          lpi_ceiling_key(fake.hub, address("2001:db8:1:3::1")));
    fake_end();
}

/* Keys differ from server to server: nobody can prepare names that collide. */
TEST(limit_keys_are_keyed) {
    uint64_t key;
    fake_start(1);
    key = lpi_client_key(fake.hub, LPI_S("amy"), address("10.0.0.1"));
    fake_end();
    fake_start(1);
    CHECK(key != lpi_client_key(fake.hub, LPI_S("amy"), address("10.0.0.1")));
    fake_end();
}

/* How many polls count under that key. */
static uint32_t count_of(uint64_t key) {
    uint32_t index = lpi_table_first(&fake.hub->tallied, key);
    return index == LPI_NONE ? 0 : lpi_tally_count(fake.hub, index);
}

TEST(limit_tally_counts_up_and_down) {
    uint32_t index;
    fake_start(1);
    CHECK_INT(count_of(7), 0);
    index = lpi_tally_take(fake.hub, LPI_NONE, 7);
    CHECK_INT(lpi_tally_take(fake.hub, LPI_NONE, 7), index);
    CHECK_INT(count_of(7), 2);
    CHECK_INT(count_of(8), 0);
    lpi_tally_give(fake.hub, index, 0);
    CHECK_INT(count_of(7), 1);
    lpi_tally_give(fake.hub, index, 0);
    CHECK_INT(count_of(7), 0);
    CHECK_INT(fake.hub->tallies.used, 1); /* spent: it is kept for a while */
    check_spent();
    lpi_spent_clear(fake.hub);
    CHECK_INT(fake.hub->tallies.used, 0);
    CHECK_INT(fake.hub->tallied.count, 0);
    check_spent();
    fake_end();
}

/* A client that asks again at once finds its tally where it was, and costs no memory. */
TEST(limit_spent_tally_is_found_again) {
    uint32_t index;
    size_t calls;
    fake_start(1);
    index = lpi_tally_take(fake.hub, LPI_NONE, 7);
    lpi_tally_give(fake.hub, index, 0);
    calls = fake.memory.calls;
    CHECK_INT(lpi_tally_take(fake.hub, LPI_NONE, 7), index);
    CHECK_INT(count_of(7), 1);
    check_spent();
    lpi_tally_give(fake.hub, index, 0);
    CHECK_INT(fake.hub->spent_count, 1); /* once, however often it falls to zero */
    CHECK_INT(lpi_tally_take(fake.hub, LPI_NONE, 7), index);
    lpi_spent_clear(fake.hub); /* what counts again stays */
    CHECK_INT(count_of(7), 1);
    CHECK_INT(fake.hub->tallies.used, 1);
    check_spent();
    CHECK_INT(fake.memory.calls, calls);
    lpi_tally_give(fake.hub, index, 0);
    fake_end();
}

/* Where a tally was last is only a guess: at any number, of a record that is another's, or
   nobody's, or whose chunk has gone. */
TEST(limit_a_tally_is_looked_for_where_it_was) {
    enum { CLIENTS = 1000 };
    static uint32_t index[CLIENTS];
    uint32_t i, empty = 0;
    fake_start(1);
    for (i = 0; i < CLIENTS; i++) index[i] = lpi_tally_take(fake.hub, LPI_NONE, i + 1);
    for (i = 0; i < CLIENTS; i++) {
        CHECK_INT(lpi_tally_take(fake.hub, index[i], i + 1), index[i]);
        CHECK_INT(lpi_tally_take(fake.hub, index[(i + 7) % CLIENTS], i + 1), index[i]);
        CHECK_INT(lpi_tally_take(fake.hub, unit_below(5000), i + 1), index[i]);
        CHECK_INT(lpi_tally_take(fake.hub, UINT32_MAX - unit_below(9), i + 1), index[i]);
        CHECK_INT(count_of(i + 1), 5);
    }
    for (i = 0; i < CLIENTS; i++) {
        uint32_t k;
        for (k = 0; k < 5; k++) lpi_tally_give(fake.hub, index[i], 0);
    }
    CHECK(lpi_tally_is(fake.hub, index[0], 1)); /* spent, and there */
    lpi_spent_clear(fake.hub);
    CHECK_INT(fake.hub->tallies.used, 0);
    for (i = 0; i < CLIENTS; i++) {
        CHECK(!lpi_tally_is(fake.hub, index[i], i + 1));
        CHECK(!lpi_tally_is(fake.hub, index[i], 0));
        empty += !lpi_slab_has(&fake.hub->tallies, index[i]);
    }
    CHECK(empty > CLIENTS / 2); /* their chunks have gone */
    i = lpi_tally_take(fake.hub, index[3], 4);
    CHECK_INT(count_of(4), 1);
    lpi_tally_give(fake.hub, i, 0);
    fake_end();
}

/* So many are kept and no more: the one that was spent first goes first. */
TEST(limit_spent_tallies_are_bounded) {
    uint32_t i;
    fake_start(1);
    for (i = 0; i < LPI_SPENT; i++)
        lpi_tally_give(fake.hub, lpi_tally_take(fake.hub, LPI_NONE, i), 0);
    CHECK_INT(fake.hub->tallies.used, LPI_SPENT);
    lpi_tally_take(fake.hub, LPI_NONE, 0); /* it counts again, and stays though its turn comes */
    for (; i < 3 * LPI_SPENT; i++) {
        lpi_tally_give(fake.hub, lpi_tally_take(fake.hub, LPI_NONE, i), 0);
        CHECK_INT(fake.hub->spent_count, LPI_SPENT);
        CHECK_INT(fake.hub->tallies.used, LPI_SPENT + 1);
        CHECK_INT(lpi_table_first(&fake.hub->tallied, i - LPI_SPENT) == LPI_NONE, i != LPI_SPENT);
        CHECK(lpi_table_first(&fake.hub->tallied, i - LPI_SPENT + 1) != LPI_NONE);
    }
    CHECK_INT(count_of(0), 1);
    check_spent();
    lpi_spent_clear(fake.hub);
    CHECK_INT(fake.hub->tallies.used, 1);
    fake_end();
}

/* An idle server gives them back: the first that is spent asks for a sweep. */
TEST(limit_spent_tallies_ask_for_a_sweep) {
    fake_start(1);
    fake.hub->sweep_ms = UINT64_MAX;
    fake.hub->sweep_moved = 0;
    lpi_tally_give(fake.hub, lpi_tally_take(fake.hub, LPI_NONE, 7), 5000);
    CHECK_INT(fake.hub->sweep_ms, 5000 + LPI_SWEEP_MS);
    CHECK(fake.hub->sweep_moved);
    lpi_tally_give(fake.hub, lpi_tally_take(fake.hub, LPI_NONE, 8), 5500); /* none later */
    CHECK_INT(fake.hub->sweep_ms, 5000 + LPI_SWEEP_MS);
    fake_end();
}

/* Keys in one bucket of the table, and zero among them. */
TEST(limit_tallies_in_one_chain) {
    uint32_t index[40], i, k;
    fake_start(1);
    for (i = 0; i < 40; i++)
        for (k = 0; k <= i; k++) index[i] = lpi_tally_take(fake.hub, LPI_NONE, (uint64_t)i << 32);
    for (i = 0; i < 40; i++) CHECK_INT(count_of((uint64_t)i << 32), i + 1);
    for (i = 0; i < 40; i++)
        for (k = 0; k <= i; k++) lpi_tally_give(fake.hub, index[i], 0);
    lpi_spent_clear(fake.hub);
    CHECK_INT(fake.hub->tallies.used, 0);
    fake_end();
}

TEST(limit_many_tallies_against_plain_counts) {
    enum { KEYS = 600 };
    static uint32_t counts[KEYS], index[KEYS];
    int i, rounds = unit_rounds(300000);
    uint32_t k, used = 0;
    fake_start(1);
    memset(counts, 0, sizeof counts);
    for (i = 0; i < rounds; i++) {
        k = unit_below(KEYS);
        /* Waves, so that the table grows and shrinks. */
        if (unit_below(100) < (i / 5000 % 2 ? 70u : 35u)) {
            uint32_t got = lpi_tally_take(fake.hub, LPI_NONE, k * UINT64_C(0x9e3779b97f4a7c15));
            CHECK(!counts[k] || got == index[k]);
            used += !counts[k]++;
            index[k] = got;
        } else if (counts[k]) {
            lpi_tally_give(fake.hub, index[k], 0);
            used -= !--counts[k];
        }
        CHECK_INT(count_of(k * UINT64_C(0x9e3779b97f4a7c15)), counts[k]);
        CHECK(fake.hub->tallies.used >= used && fake.hub->tallies.used <= used + LPI_SPENT);
        if (i % 1000) continue;
        check_spent();
        if (unit_below(4)) continue;
        lpi_spent_clear(fake.hub);
        CHECK_INT(fake.hub->tallies.used, used);
    }
    for (k = 0; k < KEYS; k++)
        while (counts[k]--) lpi_tally_give(fake.hub, index[k], 0);
    lpi_spent_clear(fake.hub);
    CHECK_INT(fake.hub->tallies.used, 0);
    fake_end();
}

TEST(limit_tally_without_memory) {
    uint32_t index;
    fake_start(1);
    fake.memory.fail_at = fake.memory.calls + 1;
    fake.memory.fail_forever = 1;
    CHECK_INT(lpi_tally_take(fake.hub, LPI_NONE, 7), LPI_NONE);
    CHECK_INT(count_of(7), 0);
    CHECK_INT(fake.hub->tallies.used, 0);
    fake.memory.fail_at = 0;
    index = lpi_tally_take(fake.hub, LPI_NONE, 7);
    CHECK(index != LPI_NONE);
    fake.memory.fail_at = fake.memory.calls + 1;
    CHECK_INT(lpi_tally_take(fake.hub, LPI_NONE, 7), index); /* needs none */
    CHECK_INT(count_of(7), 2);
    lpi_tally_give(fake.hub, index, 0);
    lpi_tally_give(fake.hub, index, 0);
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
    for (i = 0; i < clients; i++) index[i] = lpi_tally_take(fake.hub, LPI_NONE, unit_random());
    CHECK(fake.memory.bytes > before + clients * sizeof(lpi_tally));
    for (i = 0; i < clients; i++) lpi_tally_give(fake.hub, index[i], 0);
    lpi_spent_clear(fake.hub);
    CHECK(fake.memory.bytes < before + 256 * sizeof(lpi_tally) + 8192);
    fake_end();
}
