/* >>channel: cursors are judged, timestamps grow, messages are held in order. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;
static uint64_t start_us;        /* of the channel "news"                   */
static char epoch[17];           /* of it                                   */
static uint64_t published_us[64]; /* of its messages, by SEQ; 0: its start  */

enum { AGE_MS = 100000 };

/* A channel with the messages 1 to `last` of which the newest `held` are held, published a
   millisecond apart. */
static void channel(uint32_t last, uint32_t held) {
    answer *a;
    uint32_t i;
    memset(&w, 0, sizeof w);
    w.cfg.history_age_ms = AGE_MS;
    if (held) w.cfg.history_count = held;
    open_world(&w);
    a = look(&w, "news", "");
    start_us = published_us[0] = us_of(member(a->body, "timestamp"));
    memcpy(epoch, member(a->body, "last_id").bytes, 16);
    for (i = 1; i <= last; i++) {
        w.k.now_us += 1000;
        published_us[i] = publish_n(&w, "news", (int)i).timestamp_us;
    }
    if (last && !held) w.k.now_us += AGE_MS * 1000;
    CHECK_STR(member(look(&w, "news", "now")->body, "count"), "0");
    CHECK_INT(stats_of(&w).messages, held < last ? held : last);
}

/* The reply has this reset, or none ("0"), and the messages from `from` + 1 to `last`. */
static void check_reply(const answer *a, const char *reset, uint64_t from, uint64_t last) {
    char want[400] = "", id[40];
    int n = 0;
    CHECK_INT(a->status, 200);
    snprintf(id, sizeof id, "%s-%llu", epoch, (unsigned long long)last);
    CHECK_STR(member(a->body, "last_id"), id);
    for (; from < last; from++)
        n += sprintf(want + n, "%s%llu", n ? "," : "", (unsigned long long)from + 1);
    CHECK_STR(lp_s(ns_of(a)), want);
    snprintf(want, sizeof want, ",\"reset\":{\"news\":\"%s\"}}", reset);
    if (*reset == '0') CHECK(!has(a->body, "\"reset\""));
    else if (!has(a->body, want))
        unit_fail(__FILE__, __LINE__, "no %s in %.*s", want, (int)a->body.length, a->body.bytes);
}

static void check_cursor_of(const char *of, uint64_t seq, const char *reset, uint64_t from,
                            uint64_t last) {
    char id[40];
    snprintf(id, sizeof id, "%s-%llu", of, (unsigned long long)seq);
    check_reply(look(&w, "news", id), reset, from, last);
}

/* Sent as since=; one message is given at a time. */
static void check_since(uint64_t us, const char *reset, uint64_t from, uint64_t last) {
    answer *a = askf(&w, w.looker, "/api/poll/news?timeout=0&since=%llu.%06llu",
                     (unsigned long long)us / 1000000, (unsigned long long)us % 1000000);
    check_reply(a, reset, from, from < last ? from + 1 : from);
}

/* ---- cursors: continuous from oldest_held - 1 to last ---- */

TEST(channel_cursor_against_what_is_held) {
    static const struct {
        uint32_t last, held;
        uint64_t seq;
        const char *reset;
        uint64_t from;
    } cases[] = {
        {10, 4, 0, "evicted", 6}, {10, 4, 5, "evicted", 6}, /* 7 to 10 are held */
        {10, 4, 6, "0", 6},       {10, 4, 7, "0", 7},
        {10, 4, 9, "0", 9},       {10, 4, 10, "0", 10},
        {10, 4, 11, "ahead", 6},  {10, 4, UINT64_MAX, "ahead", 6},
        {3, 3, 0, "0", 0},        {3, 3, 1, "0", 1},
        {3, 3, 3, "0", 3},        {3, 3, 4, "ahead", 0},
        {3, 0, 2, "evicted", 3},  {3, 0, 3, "0", 3}, {3, 0, 4, "ahead", 3},
        {0, 0, 0, "0", 0},        {0, 0, 1, "ahead", 0}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        channel(cases[i].last, cases[i].held);
        check_cursor_of(epoch, cases[i].seq, cases[i].reset, cases[i].from, cases[i].last);
        close_world(&w);
    }
}

/* Whatever SEQ is, another epoch is what is told. */
TEST(channel_cursor_of_another_epoch) {
    char other[17];
    uint64_t seq;
    channel(10, 4);
    strcpy(other, epoch);
    other[0] = other[0] == '7' ? '8' : '7';
    for (seq = 0; seq < 13; seq++) {
        check_cursor_of(other, seq, "epoch", 6, 10);
        check_cursor_of("0000000000000000", seq, "epoch", 6, 10);
    }
    strcpy(other, epoch);
    other[15] = other[15] == '7' ? '8' : '7';
    check_cursor_of(other, 10, "epoch", 6, 10);
    close_world(&w);
}

TEST(channel_from_the_start_and_from_now) {
    static const uint32_t cases[][2] = {{10, 4}, {10, 0}, {0, 0}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        uint32_t last = cases[i][0];
        channel(last, cases[i][1]);
        check_reply(look(&w, "news", ""), "0", last - cases[i][1], last);
        check_reply(look(&w, "news", "0"), "0", last - cases[i][1], last);
        check_reply(look(&w, "news", "now"), "0", last, last);
        close_world(&w);
    }
}

/* ---- since: to the microsecond ---- */

TEST(channel_since_against_what_is_held) {
    static const struct {
        uint32_t last, held;
        int64_t us; /* after the start */
        const char *reset;
        uint64_t from;
    } cases[] = {
        {3, 3, -1, "epoch", 0}, {3, 3, 0, "0", 0},    {3, 3, 999, "0", 0},
        {3, 3, 1000, "0", 1},   {3, 3, 1001, "0", 1}, {3, 3, 1999, "0", 1},
        {3, 3, 2000, "0", 2},   {3, 3, 2999, "0", 2}, {3, 3, 3000, "0", 3},
        {3, 3, 3001, "ahead", 0},
        {5, 3, -1, "epoch", 2}, {5, 3, 0, "evicted", 2}, {5, 3, 1999, "evicted", 2},
        {5, 3, 2000, "0", 2},   {5, 3, 2001, "0", 2},    {5, 3, 3000, "0", 3},
        {5, 3, 5000, "0", 5},   {5, 3, 5001, "ahead", 2},
        {2, 0, 1999, "evicted", 2}, {2, 0, 2000, "0", 2}, {2, 0, 2001, "ahead", 2},
        {0, 0, -1, "epoch", 0}, {0, 0, 0, "0", 0},    {0, 0, 1, "ahead", 0}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        channel(cases[i].last, cases[i].held);
        check_since(0, "0", cases[i].last - cases[i].held, cases[i].last);
        check_since(1, "epoch", cases[i].last - cases[i].held, cases[i].last);
        check_since(start_us + (uint64_t)cases[i].us, cases[i].reset, cases[i].from,
                    cases[i].last);
        close_world(&w);
    }
}

/* A search in halves against a search one by one, round the ring's end too. */
TEST(channel_since_finds_the_same_as_a_plain_search) {
    int rounds = unit_rounds(100), i;
    for (i = 0; i < rounds; i++) {
        uint32_t last = unit_below(30), held = 1 + unit_below(12), n, floor, k;
        uint64_t us;
        memset(&w, 0, sizeof w);
        w.cfg.history_count = held;
        open_world(&w);
        published_us[0] = us_of(member(look(&w, "news", "")->body, "timestamp"));
        memcpy(epoch, member(look(&w, "news", "")->body, "last_id").bytes, 16);
        for (n = 1; n <= last; n++) {
            w.k.wall_us += unit_below(3);
            published_us[n] = publish_n(&w, "news", (int)n).timestamp_us;
        }
        floor = last > held ? last - held : 0;
        for (us = published_us[floor]; us <= published_us[last]; us++) {
            for (k = last; published_us[k] > us;) k--;
            check_since(us, "0", k, last);
        }
        close_world(&w);
    }
}

/* The timestamp of a reply is a cursor as good as its last_id. */
TEST(channel_time_of_a_cursor_is_that_cursor) {
    uint32_t last, held, seq;
    for (last = 0; last < 8; last++)
        for (held = 0; held <= last; held++) {
            channel(last, held);
            for (seq = last - held; seq <= last; seq++)
                check_since(published_us[seq], "0", seq, last);
            CHECK_INT(us_of(member(look(&w, "news", "now")->body, "timestamp")),
                      published_us[last]);
            for (seq = last - held + 1; seq <= last; seq++) { /* the last of each reply */
                answer *a = askf(&w, w.looker, "/api/poll/news?limit=1&last_id=%s-%u", epoch,
                                 seq - 1);
                CHECK_INT(us_of(member(a->body, "timestamp")), published_us[seq]);
            }
            close_world(&w);
        }
}

/* ---- timestamps ---- */

TEST(channel_timestamps_increase_when_the_clock_stands) {
    uint32_t i;
    channel(0, 0);
    CHECK_INT(start_us, w.k.wall_us + w.k.now_us);
    for (i = 1; i < 100; i++)
        CHECK_INT(publish_n(&w, "news", 1).timestamp_us, start_us + i);
    w.k.wall_us += 1000;
    CHECK_INT(publish_n(&w, "news", 1).timestamp_us, start_us + 1000);
    close_world(&w);
}

TEST(channel_timestamps_increase_when_the_clock_jumps_back) {
    uint64_t us, wall;
    open_world(&w);
    us = publish(&w, "news", "{}").timestamp_us;
    wall = w.k.wall_us;
    w.k.wall_us -= UINT64_C(86400000000);
    CHECK_INT(publish(&w, "news", "{}").timestamp_us, us + 1);
    w.k.wall_us = 0 - w.k.now_us; /* 1970 */
    CHECK_INT(publish(&w, "news", "{}").timestamp_us, us + 2);
    w.k.wall_us = wall + 2; /* as far as the first one's, and 3 */
    CHECK_INT(publish(&w, "news", "{}").timestamp_us, us + 3);
    CHECK_INT(publish(&w, "news", "{}").timestamp_us, us + 4);
    close_world(&w);
}

/* ---- the ring ---- */

/* Held are the messages from `first` to `last`. */
static void check_held_range(const char *name, int first, int last) {
    char want[8192] = "";
    int n = 0, i;
    for (i = first; i <= last; i++)
        n += sprintf(want + n, "%s%d", n ? "," : "", i);
    CHECK_STR(lp_s(ns_of(look(&w, name, "0"))), want);
}

TEST(channel_ring_at_every_size) {
    int limit, n;
    for (limit = 1; limit < 40; limit++) {
        memset(&w, 0, sizeof w);
        w.cfg.history_count = (uint32_t)limit;
        open_world(&w);
        for (n = 1; n < 100; n++) {
            CHECK_INT(publish_n(&w, "news", n).waiters, 0);
            check_held_range("news", n < limit ? 1 : n - limit + 1, n);
            CHECK_INT(stats_of(&w).messages, n < limit ? n : limit);
        }
        close_world(&w);
    }
}

/* A ring that has turned is unrolled when it grows. */
TEST(channel_ring_grows_after_it_has_turned) {
    uint64_t at_ms[41];
    int n, first = 1;
    w.cfg.history_age_ms = 1000;
    open_world(&w);
    for (n = 1; n <= 40; n++) {
        publish_n(&w, "news", n);
        at_ms[n] = now_ms(&w);
        w.k.now_us += n <= 30 ? 200000 : 10000;
        while (first <= n && at_ms[first] + 1000 <= now_ms(&w)) first++;
        check_held_range("news", first, n);
    }
    close_world(&w);
}

/* What evicted messages leave of the ring goes with them. */
TEST(channel_ring_shrinks) {
    enum { N = 900 };
    int turned, n;
    for (turned = 0; turned < 2; turned++) {
        int last = turned ? N + 400 : N;
        size_t before;
        memset(&w, 0, sizeof w);
        w.cfg.history_count = turned ? N : 1000;
        w.cfg.history_age_ms = 200000;
        open_world(&w);
        publish_n(&w, "news", 1);
        settle(&w);
        before = w.m.bytes - stats_of(&w).history_bytes;
        for (n = 2; n <= last; n++) {
            w.k.now_us += 100000;
            publish_n(&w, "news", n);
        }
        CHECK_INT(stats_of(&w).messages, N);
        CHECK(w.m.bytes - stats_of(&w).history_bytes > before + N * sizeof(void *) / 2);
        while (stats_of(&w).messages) {
            uint32_t held;
            pass(&w, 10000); /* a hundred of them, once they are old */
            held = stats_of(&w).messages;
            CHECK(w.m.bytes - stats_of(&w).history_bytes <
                  before + 4 * sizeof(void *) * held + 256);
        }
        for (n = 1; n <= 20; n++) publish_n(&w, "news", n);
        check_held_range("news", 1, 20);
        close_world(&w);
    }
}

/* And those that stay are in order. */
TEST(channel_ring_that_shrinks_keeps_its_order) {
    int n, first;
    w.cfg.history_age_ms = 200000;
    open_world(&w);
    for (n = 1; n <= 900; n++) {
        publish_n(&w, "news", n);
        w.k.now_us += 100000;
    }
    w.k.now_us += 200000 * 1000 - 900 * 100000; /* the first is old now */
    for (first = 2; first <= 890; first += 37) {
        check_held_range("news", first, 900);
        w.k.now_us += 37 * 100000;
    }
    close_world(&w);
}

TEST(channel_ring_without_memory_stays_large) {
    w.cfg.history_age_ms = 10000;
    open_world(&w);
    while (stats_of(&w).messages < 100) publish_n(&w, "news", 0);
    settle(&w);
    w.m.fail_at = w.m.calls + 1, w.m.fail_forever = 1;
    pass(&w, 12000);
    CHECK_INT(stats_of(&w).messages, 0);
    CHECK(w.m.failed);
    w.m.fail_at = 0, w.m.fail_forever = 0;
    publish_n(&w, "news", 101);
    check_held_range("news", 101, 101);
    close_world(&w);
}

TEST(channel_ring_without_memory) {
    lp_published out;
    uint64_t us;
    int forever;
    for (forever = 0; forever < 2; forever++) {
        channel(8, 16); /* the ring is full */
        us = published_us[8];
        w.m.fail_at = w.m.calls + 2; /* after the message itself */
        w.m.fail_forever = forever;
        CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s("{}"), &out), LP_ERR_NOMEM);
        w.m.fail_at = 0;
        CHECK_INT(w.m.failed, 1);
        check_cursor_of(epoch, 8, "0", 8, 8);
        CHECK_INT(us_of(member(look(&w, "news", "now")->body, "timestamp")), us);
        publish_n(&w, "news", 9);
        check_cursor_of(epoch, 0, "0", 0, 9);
        close_world(&w);
    }
}

/* ---- names ---- */

TEST(channel_names_are_compared_in_full) {
    static const char *const names[][2] = {
        {"a", "a"},     {"A", "A"},         {"aa", "aa"},       {"a ", "a%20"},
        {"b", "b"},     {"a/b", "a%2Fb"},   {"a,b", "a%2Cb"},   {"\xC3\xA9", "%C3%A9"},
        {"a name of 17 by", "a%20name%20of%2017%20by"},
        {"a name of 17 byt", "a%20name%20of%2017%20byt"},
        {"a name of 17 byte", "a%20name%20of%2017%20byte"}};
    uint32_t i, k;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(names); i++)
        for (k = 0; k <= i; k++) publish_n(&w, names[i][0], (int)k + 1);
    CHECK_INT(stats_of(&w).channels, LPI_COUNT(names));
    for (i = 0; i < LPI_COUNT(names); i++) check_held_range(names[i][1], 1, (int)i + 1);
    CHECK_INT(stats_of(&w).channels, LPI_COUNT(names));
    check_held_range("c", 1, 0);
    CHECK_INT(stats_of(&w).channels, LPI_COUNT(names) + 1);
    close_world(&w);
}

/* A name of any length; its memory goes with the channel. */
TEST(channel_names_of_every_length) {
    char name[LPI_CHANNEL_BYTES + 1];
    size_t n, bytes, round;
    w.cfg.history_age_ms = 1000;
    open_world(&w);
    publish_n(&w, "kept", 1);
    for (bytes = round = 0; round < 3; round++) {
        for (n = 1; n <= LPI_CHANNEL_BYTES; n++) {
            memset(name, 'n', n);
            name[n] = 0;
            publish_n(&w, name, (int)n);
        }
        for (n = 1; n <= LPI_CHANNEL_BYTES; n++) {
            answer *a;
            memset(name, 'n', n);
            name[n] = 0;
            a = look(&w, name, "");
            CHECK_STR(member(a->body, "channel"), name);
            CHECK_INT(atoi(ns_of(a)), n);
        }
        pass(&w, 5000);
        CHECK_INT(stats_of(&w).channels, 0);
        if (round) CHECK_INT(w.m.bytes, bytes);
        bytes = w.m.bytes;
    }
    close_world(&w);
}

TEST(channel_many_names) {
    char name[16];
    int i, count = unit_rounds(20000);
    w.cfg.history_age_ms = 1000;
    w.unchecked = 1; /* in between */
    open_world(&w);
    for (i = 0; i < count; i++) {
        sprintf(name, "c%d", i);
        publish_n(&w, name, i);
    }
    CHECK_INT(stats_of(&w).channels, count);
    for (i = 0; i < count; i += 7) {
        sprintf(name, "c%d", i);
        check_held_range(name, i, i);
    }
    CHECK_INT(stats_of(&w).channels, count);
    w.unchecked = 0;
    check_world(&w);
    w.unchecked = 1;
    pass(&w, 5000);
    CHECK_INT(stats_of(&w).channels, 0);
    w.unchecked = 0;
    close_world(&w);
}
