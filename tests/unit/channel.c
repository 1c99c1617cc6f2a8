/* >>channel: cursors are judged here. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "fake.h"

/* A channel of SEQ 1 to `last` of which the newest `held` are held, a millisecond apart. */
static lpi_channel *channel(uint32_t last, uint32_t held) {
    lpi_channel *ch;
    uint32_t i;
    fake_start(1);
    fake_make("news");
    for (i = 0; i < last; i++) {
        fake_tick(1);
        fake_publish("news");
    }
    ch = fake_channel("news");
    while (ch->held > held) lpi_hub_evict(fake.hub, ch->ring[ch->ring_at], fake_now());
    CHECK_INT(ch->last, last);
    CHECK_INT(ch->held, held);
    check_hub();
    return ch;
}

static void check_cursor(const lpi_channel *ch, uint64_t epoch, uint64_t s,
                         lpi_reason reason, uint64_t from) {
    lpi_requested requested;
    uint64_t seq = 99;
    requested.kind = LPI_FROM_CURSOR;
    requested.epoch = epoch;
    requested.seq = s;
    CHECK_INT(lpi_channel_judge(ch, &requested, &seq), reason);
    CHECK_INT(seq, from);
}

static void check_since(const lpi_channel *ch, uint64_t us, lpi_reason reason, uint64_t from) {
    lpi_requested requested;
    uint64_t seq = 99;
    requested.kind = LPI_FROM_TIME;
    requested.epoch = 0;
    requested.seq = us;
    CHECK_INT(lpi_channel_judge(ch, &requested, &seq), reason);
    CHECK_INT(seq, from);
}

static void check_plain(const lpi_channel *ch, lpi_requested_kind kind, uint64_t from) {
    lpi_requested requested;
    uint64_t seq = 99;
    requested.kind = kind;
    requested.epoch = requested.seq = 0;
    CHECK_INT(lpi_channel_judge(ch, &requested, &seq), LPI_NO_RESET);
    CHECK_INT(seq, from);
}

/* ---- cursors: continuous from oldest_held - 1 to last ---- */

TEST(channel_cursor_with_some_evicted) {
    lpi_channel *ch = channel(10, 4); /* 7, 8, 9, 10 */
    uint64_t e = ch->epoch;
    check_cursor(ch, e, 0, LPI_EVICTED, 6);
    check_cursor(ch, e, 5, LPI_EVICTED, 6);  /* oldest - 2 */
    check_cursor(ch, e, 6, LPI_NO_RESET, 6); /* oldest - 1 */
    check_cursor(ch, e, 7, LPI_NO_RESET, 7); /* oldest     */
    check_cursor(ch, e, 9, LPI_NO_RESET, 9);
    check_cursor(ch, e, 10, LPI_NO_RESET, 10);
    check_cursor(ch, e, 11, LPI_AHEAD, 6);
    check_cursor(ch, e, UINT64_MAX, LPI_AHEAD, 6);
    fake_end();
}

TEST(channel_cursor_with_all_held) {
    lpi_channel *ch = channel(3, 3);
    uint64_t e = ch->epoch;
    check_cursor(ch, e, 0, LPI_NO_RESET, 0);
    check_cursor(ch, e, 1, LPI_NO_RESET, 1);
    check_cursor(ch, e, 3, LPI_NO_RESET, 3);
    check_cursor(ch, e, 4, LPI_AHEAD, 0);
    fake_end();
}

TEST(channel_cursor_with_nothing_held) {
    lpi_channel *ch = channel(3, 0); /* oldest_held is 4 */
    uint64_t e = ch->epoch;
    check_cursor(ch, e, 2, LPI_EVICTED, 3);
    check_cursor(ch, e, 3, LPI_NO_RESET, 3);
    check_cursor(ch, e, 4, LPI_AHEAD, 3);
    fake_end();
}

TEST(channel_cursor_on_a_new_channel) {
    lpi_channel *ch = channel(0, 0);
    check_cursor(ch, ch->epoch, 0, LPI_NO_RESET, 0);
    check_cursor(ch, ch->epoch, 1, LPI_AHEAD, 0);
    fake_end();
}

/* Whatever S is, another epoch is what is told. */
TEST(channel_cursor_of_another_epoch) {
    lpi_channel *ch = channel(10, 4);
    uint64_t s;
    for (s = 0; s < 13; s++) {
        check_cursor(ch, ch->epoch + 1, s, LPI_EPOCH, 6);
        check_cursor(ch, ch->epoch ^ UINT64_C(1) << 63, s, LPI_EPOCH, 6);
        check_cursor(ch, 0, s, LPI_EPOCH, 6);
    }
    fake_end();
}

TEST(channel_from_the_start_and_from_now) {
    lpi_channel *ch = channel(10, 4);
    check_plain(ch, LPI_FROM_START, 6);
    check_plain(ch, LPI_FROM_NOW, 10);
    fake_end();
    ch = channel(10, 0);
    check_plain(ch, LPI_FROM_START, 10);
    check_plain(ch, LPI_FROM_NOW, 10);
    fake_end();
    ch = channel(0, 0);
    check_plain(ch, LPI_FROM_START, 0);
    check_plain(ch, LPI_FROM_NOW, 0);
    fake_end();
}

/* ---- since: to the microsecond ---- */

TEST(channel_since_with_all_held) {
    lpi_channel *ch = channel(3, 3);
    uint64_t s = ch->start_us;
    check_since(ch, 0, LPI_NO_RESET, 0);
    check_since(ch, 1, LPI_EPOCH, 0);
    check_since(ch, s - 1, LPI_EPOCH, 0);
    check_since(ch, s, LPI_NO_RESET, 0);
    check_since(ch, s + 999, LPI_NO_RESET, 0);
    check_since(ch, s + 1000, LPI_NO_RESET, 1);
    check_since(ch, s + 1001, LPI_NO_RESET, 1);
    check_since(ch, s + 1999, LPI_NO_RESET, 1);
    check_since(ch, s + 2000, LPI_NO_RESET, 2);
    check_since(ch, s + 2999, LPI_NO_RESET, 2);
    check_since(ch, s + 3000, LPI_NO_RESET, 3);
    check_since(ch, s + 3001, LPI_AHEAD, 0);
    check_since(ch, UINT64_MAX, LPI_AHEAD, 0);
    fake_end();
}

TEST(channel_since_with_some_evicted) {
    lpi_channel *ch = channel(5, 3); /* 3, 4, 5 */
    uint64_t s = ch->start_us;
    CHECK_INT(ch->evicted_us, s + 2000);
    check_since(ch, 0, LPI_NO_RESET, 2);
    check_since(ch, s - 1, LPI_EPOCH, 2);
    check_since(ch, s, LPI_EVICTED, 2);
    check_since(ch, s + 1999, LPI_EVICTED, 2);
    check_since(ch, s + 2000, LPI_NO_RESET, 2);
    check_since(ch, s + 2001, LPI_NO_RESET, 2);
    check_since(ch, s + 3000, LPI_NO_RESET, 3);
    check_since(ch, s + 5000, LPI_NO_RESET, 5);
    check_since(ch, s + 5001, LPI_AHEAD, 2);
    fake_end();
}

TEST(channel_since_with_nothing_held) {
    lpi_channel *ch = channel(2, 0);
    uint64_t s = ch->start_us;
    check_since(ch, s + 1999, LPI_EVICTED, 2);
    check_since(ch, s + 2000, LPI_NO_RESET, 2);
    check_since(ch, s + 2001, LPI_AHEAD, 2);
    fake_end();
    ch = channel(0, 0);
    s = ch->start_us;
    check_since(ch, s - 1, LPI_EPOCH, 0);
    check_since(ch, s, LPI_NO_RESET, 0);
    check_since(ch, s + 1, LPI_AHEAD, 0);
    fake_end();
}

/* A search in halves against a search one by one, round the ring's end too. */
TEST(channel_since_finds_the_same_as_a_plain_search) {
    int rounds = unit_rounds(300), i;
    for (i = 0; i < rounds; i++) {
        uint32_t last = unit_below(30), n;
        uint64_t us, seq, k;
        lpi_channel *ch;
        fake_start(1);
        fake.config->history_count = 1 + unit_below(12);
        fake_make("news");
        for (n = 0; n < last; n++) {
            fake.wall_us += unit_below(3);
            fake_publish("news");
        }
        ch = fake_channel("news");
        for (us = lpi_max64(ch->start_us, ch->evicted_us); us <= ch->last_us; us++) {
            seq = lpi_channel_floor(ch);
            for (k = seq + 1; k <= ch->last; k++)
                if (lpi_channel_message(ch, k)->timestamp_us <= us) seq = k;
            check_since(ch, us, LPI_NO_RESET, seq);
        }
        fake_end();
    }
}

/* The timestamp of a reply is a cursor as good as its last_id. */
TEST(channel_time_of_a_cursor_is_that_cursor) {
    uint32_t last, held, s;
    for (last = 0; last < 8; last++)
        for (held = 0; held <= last; held++) {
            lpi_channel *ch = channel(last, held);
            for (s = last - held; s <= last; s++)
                check_since(ch, lpi_channel_time_at(ch, s), LPI_NO_RESET, s);
            CHECK_INT(lpi_channel_time_at(ch, last), ch->last_us);
            fake_end();
        }
}

/* ---- timestamps ---- */

TEST(channel_timestamps_increase_when_the_clock_stands) {
    uint64_t start;
    uint32_t i;
    fake_start(1);
    start = fake_make("news")->start_us;
    CHECK_INT(start, fake.wall_us);
    for (i = 1; i < 100; i++) CHECK_INT(fake_publish("news").timestamp_us, start + i);
    fake.wall_us += 1000;
    CHECK_INT(fake_publish("news").timestamp_us, start + 1000);
    check_hub();
    fake_end();
}

TEST(channel_timestamps_increase_when_the_clock_jumps_back) {
    uint64_t us;
    fake_start(1);
    us = fake_publish("news").timestamp_us;
    fake.wall_us -= UINT64_C(86400000000);
    CHECK_INT(fake_publish("news").timestamp_us, us + 1);
    fake.wall_us = 0;
    CHECK_INT(fake_publish("news").timestamp_us, us + 2);
    fake.wall_us = us + 3;
    CHECK_INT(fake_publish("news").timestamp_us, us + 3);
    fake.wall_us = us + 3;
    CHECK_INT(fake_publish("news").timestamp_us, us + 4);
    check_hub();
    fake_end();
}

/* ---- the ring ---- */

TEST(channel_ring_at_every_size) {
    uint32_t limit, n;
    for (limit = 1; limit < 40; limit++) {
        fake_start(1);
        fake.config->history_count = limit;
        for (n = 1; n < 100; n++) {
            lpi_channel *ch;
            CHECK_INT(fake_publish("news").waiters, 0);
            ch = fake_channel("news");
            CHECK_INT(ch->held, n < limit ? n : limit);
            CHECK_INT(ch->last, n);
            check_hub();
        }
        fake_end();
    }
}

/* A ring that has turned is unrolled when it grows. */
TEST(channel_ring_grows_after_it_has_turned) {
    lpi_channel *ch;
    int n;
    fake_start(1);
    fake.config->history_age_ms = 1000;
    for (n = 0; n < 40; n++) {
        fake_publish("news");
        fake_tick(n < 30 ? 200 : 10);
        check_hub();
    }
    ch = fake_channel("news");
    CHECK(ch->ring_size >= 8);
    fake_end();
}

/* What evicted messages leave of the ring goes with them; order stays. */
TEST(channel_ring_shrinks) {
    lpi_channel *ch;
    int turned;
    for (turned = 0; turned < 2; turned++) {
        fake_start(1);
        fake.config->history_count = 1000;
        if (turned) {
            fake.config->history_count = 900;
            fake_publish_many("news", 1300);
        } else {
            fake_publish_many("news", 900);
        }
        ch = fake_channel("news");
        CHECK_INT(ch->held, 900);
        while (ch->held) {
            lpi_hub_evict(fake.hub, ch->ring[ch->ring_at], fake_now());
            CHECK(ch->ring_size <= 8 || ch->held > ch->ring_size / 4);
            CHECK(ch->ring_size >= ch->held);
            check_hub();
        }
        CHECK_INT(ch->ring_size, 8);
        fake_publish_many("news", 20);
        CHECK_INT(ch->held, 20);
        check_hub();
        fake_end();
    }
}

TEST(channel_ring_without_memory_stays_large) {
    lpi_channel *ch;
    fake_start(1);
    fake.config->history_count = 1000;
    fake_publish_many("news", 100);
    ch = fake_channel("news");
    fake.memory.fail_at = fake.memory.calls + 1, fake.memory.fail_forever = 1;
    while (ch->held) lpi_hub_evict(fake.hub, ch->ring[ch->ring_at], fake_now());
    CHECK_INT(ch->ring_size, 128);
    check_hub();
    fake.memory.fail_at = 0, fake.memory.fail_forever = 0;
    fake_publish("news");
    check_hub();
    fake_end();
}

TEST(channel_ring_without_memory) {
    lp_published out;
    lpi_channel *ch;
    uint64_t us;
    fake_start(1);
    fake.config->history_count = 16;
    fake_publish_many("news", 8); /* the ring is full */
    ch = fake_channel("news");
    us = ch->last_us;
    CHECK_INT(ch->held, ch->ring_size);
    fake.memory.fail_at = fake.memory.calls + 2; /* after the message itself */
    CHECK_INT(fake_try_publish("news", "{}", &out), LP_ERR_NOMEM);
    CHECK_INT(ch->last, 8);
    CHECK_INT(ch->last_us, us);
    check_hub();
    fake.memory.fail_at = 0;
    fake_publish("news");
    CHECK_INT(ch->last, 9);
    check_hub();
    fake_end();
}

/* ---- names ---- */

TEST(channel_names_are_compared_in_full) {
    static const char *const names[] = {"a", "A", "aa", "a ", "b", "a/b", "a,b", "\xC3\xA9"};
    uint32_t i, index;
    fake_start(1);
    for (i = 0; i < LPI_COUNT(names); i++) fake_publish_many(names[i], (int)i + 1);
    CHECK_INT(fake.hub->stats.channels, LPI_COUNT(names));
    for (i = 0; i < LPI_COUNT(names); i++) CHECK_INT(fake_channel(names[i])->last, i + 1);
    CHECK_INT(lpi_channel_find(fake.hub, LPI_S("c"),
                               lpi_hash(fake.hub->hash_key, 'c', LPI_S("c")), fake_now()),
              LPI_NONE);
    CHECK_INT(lpi_channel_get(fake.hub, LPI_S("a"), lpi_channel_hash(fake.hub, LPI_S("a")), fake_now(), &index), LP_OK);
    CHECK_INT(index, fake_find("a"));
    fake_end();
}

/* A short name stands in the record, a longer one beside it; both go with it. */
TEST(channel_names_of_every_length) {
    char name[LPI_CHANNEL_BYTES + 1];
    size_t n, bytes;
    fake_start(1);
    fake.config->history_age_ms = 1000;
    fake_make("to have a chunk");
    bytes = fake.memory.bytes;
    for (n = 1; n <= LPI_CHANNEL_BYTES; n++) {
        size_t calls = fake.memory.calls;
        memset(name, 'n', n);
        name[n] = 0;
        fake_make(name);
        if (n < 60) CHECK_INT(fake.memory.calls - calls, n > 16); /* of the first chunk */
        CHECK_STR(lpi_channel_name(fake_channel(name)), name);
    }
    for (n = 1; n <= LPI_CHANNEL_BYTES; n++) {
        memset(name, 'n', n);
        name[n] = 0;
        CHECK_STR(lpi_channel_name(fake_channel(name)), name);
    }
    check_hub();
    fake_tick(1000);
    CHECK_STR(fake_sweep(), "");
    CHECK_INT(fake.hub->channels.used, 0);
    CHECK(fake.memory.bytes <= bytes + 4096); /* the tables of chunks and of names */
    fake_end();
}

/* Two names with one hash are two channels. */
TEST(channel_hash_collision) {
    uint32_t a = LPI_NONE, b = LPI_NONE, c = LPI_NONE;
    fake_start(1);
    CHECK_INT(lpi_channel_make(fake.hub, LPI_S("a"), 5, fake_now(), &a), LP_OK);
    CHECK_INT(lpi_channel_make(fake.hub, LPI_S("b"), 5, fake_now(), &b), LP_OK);
    CHECK_INT(lpi_channel_make(fake.hub, LPI_S("c"), 5, fake_now(), &c), LP_OK);
    CHECK_INT(lpi_channel_find(fake.hub, LPI_S("a"), 5, fake_now()), a);
    CHECK_INT(lpi_channel_find(fake.hub, LPI_S("b"), 5, fake_now()), b);
    CHECK_INT(lpi_channel_find(fake.hub, LPI_S("c"), 5, fake_now()), c);
    CHECK_INT(lpi_channel_find(fake.hub, LPI_S("d"), 5, fake_now()), LPI_NONE);
    lpi_hub_forget(fake.hub, b);
    CHECK_INT(lpi_channel_find(fake.hub, LPI_S("b"), 5, fake_now()), LPI_NONE);
    CHECK_INT(lpi_channel_find(fake.hub, LPI_S("a"), 5, fake_now()), a);
    CHECK_INT(lpi_channel_find(fake.hub, LPI_S("c"), 5, fake_now()), c);
    fake_end();
}

TEST(channel_many_names) {
    char name[16];
    int i, count = unit_rounds(20000);
    fake_start(1);
    fake.config->history_age_ms = 1000;
    for (i = 0; i < count; i++) {
        sprintf(name, "c%d", i);
        fake_make(name);
    }
    CHECK_INT(fake.hub->stats.channels, count);
    for (i = 0; i < count; i += 7) {
        sprintf(name, "c%d", i);
        CHECK(fake_find(name) != LPI_NONE);
    }
    check_hub();
    fake_tick(1000);
    for (i = 0; i < count; i += LPI_SWEEP_MAX) CHECK_STR(fake_sweep(), "");
    CHECK_INT(fake.hub->stats.channels, 0);
    check_hub();
    fake_end();
}

TEST(channel_records_are_as_small_as_they_are_said_to_be) {
    CHECK_INT(sizeof(lpi_connection), 64);
    CHECK_INT(sizeof(lpi_waiter), 32);
}
