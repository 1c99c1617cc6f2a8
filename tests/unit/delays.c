/* Delays: the histogram's places to the microsecond, and what is counted in it. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

/* ---- places ---- */

/* The upper end of a place, as it is documented: exact below 4, then each doubling in
   four. Reckoned in another way than the header does. */
static uint64_t place_end(uint32_t place)
{
    uint64_t end = 0, width = 1;
    uint32_t i;
    for (i = 0; i <= place; i++) {
        if (i >= 8 && i % 4 == 0) width *= 2;
        end += width;
    }
    return end - 1;
}

/* All counts but one are 0: the place in which that one is. */
static uint64_t us_at(uint32_t place)
{
    uint64_t latencies[LP_LATENCIES] = {0};
    latencies[place] = 1;
    return lp_latency_percentile_us(latencies, 0.5);
}

TEST(places_are_exact_at_their_edges)
{
    uint64_t from = 0;
    uint32_t i;
    for (i = 0; i < LP_LATENCIES - 1; i++) {
        uint64_t end = place_end(i);
        CHECK_INT(lpi_latency_index(from), i);
        CHECK_INT(lpi_latency_index(end), i);
        CHECK_INT(us_at(i), end);
        CHECK(i < 4 || end - from < (from + 3) / 4 + 1); /* at most a quarter too many */
        from = end + 1;
    }
    CHECK_INT(lpi_latency_index(from), LP_LATENCIES - 1);
    CHECK_INT(lpi_latency_index(UINT32_MAX), LP_LATENCIES - 1);
    CHECK_INT(lpi_latency_index(UINT64_MAX), LP_LATENCIES - 1);
    CHECK_INT(us_at(LP_LATENCIES - 1), place_end(LP_LATENCIES - 1));
    CHECK(from > 14 * 1000000); /* so long may a delay be and have a place of its own */
}

TEST(every_small_delay_has_its_place)
{
    uint32_t place = 0;
    uint64_t us, end = place_end(0);
    for (us = 0; us < 100000; us++) {
        if (us > end) end = place_end(++place);
        CHECK_INT(lpi_latency_index(us), place);
    }
}

TEST(of_none_it_is_0)
{
    uint64_t latencies[LP_LATENCIES] = {0};
    CHECK_INT(lp_latency_percentile_us(latencies, 0), 0);
    CHECK_INT(lp_latency_percentile_us(latencies, 0.5), 0);
    CHECK_INT(lp_latency_percentile_us(latencies, 1), 0);
}

TEST(parts_are_exact_at_their_edges)
{
    uint64_t latencies[LP_LATENCIES] = {0};
    latencies[3] = 50, latencies[10] = 49, latencies[20] = 1;
    CHECK_INT(lp_latency_percentile_us(latencies, 0.01), 3);
    CHECK_INT(lp_latency_percentile_us(latencies, 0.5), 3);
    CHECK_INT(lp_latency_percentile_us(latencies, 0.51), place_end(10));
    CHECK_INT(lp_latency_percentile_us(latencies, 0.99), place_end(10));
    CHECK_INT(lp_latency_percentile_us(latencies, 0.991), place_end(20));
    CHECK_INT(lp_latency_percentile_us(latencies, 1), place_end(20));
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Against the delays themselves, sorted. */
TEST(any_part_of_any_delays)
{
    enum { N = 1000 };
    static uint64_t all[N];
    int round, rounds = unit_rounds(200), i;
    for (round = 0; round < rounds; round++) {
        uint64_t latencies[LP_LATENCIES] = {0};
        for (i = 0; i < N; i++) {
            all[i] = unit_random() >> (41 + unit_below(23));
            latencies[lpi_latency_index(all[i])]++;
        }
        qsort(all, N, sizeof *all, by_size);
        for (i = 1; i <= N; i++) {
            uint64_t got = lp_latency_percentile_us(latencies, ((double)i - 0.5) / N), want = all[i - 1];
            if (got < want || got > want + want / 4)
                unit_fail(__FILE__, __LINE__, "%lu us, not %lu", (unsigned long)got,
                          (unsigned long)want);
        }
    }
}

/* ---- what is counted ---- */

static uint64_t sum(const uint64_t *latencies)
{
    uint64_t n = 0;
    uint32_t i;
    for (i = 0; i < LP_LATENCIES; i++) n += latencies[i];
    return n;
}

/* So many were counted with that delay, and `all` in all; of the first ones `first`. */
static void check_delays(uint64_t us, uint64_t with, uint64_t all, uint64_t first)
{
    lp_stats stats;
    settle(&w);
    turn(&w, 0); /* some are counted in the turn after */
    stats = stats_of(&w);
    CHECK_INT(stats.latencies[lpi_latency_index(us)], with);
    CHECK_INT(sum(stats.latencies), all);
    CHECK_INT(sum(stats.first_latencies), first);
}

static void open_delays(void)
{
    w.cfg.waiters_per_client = w.cfg.waiters_per_address = LP_UNLIMITED;
    open_world(&w);
}

TEST(each_delivery_is_counted_once)
{
    peer *c[3];
    int i;
    open_delays();
    for (i = 0; i < 3; i++) c[i] = dial(&w), park(&w, c[i], "/api/poll/a?last_id=now");
    check_delays(0, 0, 0, 0);
    publish_n(&w, "a", 1);
    w.k.now_us += 777;
    check_delays(777, 3, 3, 1);
    CHECK_INT(stats_of(&w).first_latencies[lpi_latency_index(777)], 1);
    for (i = 0; i < 3; i++) take(c[i]), park(&w, c[i], "/api/poll/a?last_id=now");
    publish_n(&w, "a", 2);
    w.k.now_us += 20000;
    check_delays(20000, 3, 6, 2);
    check_delays(20000, 3, 6, 2); /* and not again */
    close_world(&w);
}

TEST(what_is_answered_at_once_or_with_nothing_is_not_counted)
{
    peer *c;
    open_delays();
    c = dial(&w);
    publish_n(&w, "a", 1);
    w.k.now_us += 5000;
    CHECK_STR(member(ask(&w, c, "/api/poll/a?last_id=0")->body, "count"), "1");
    CHECK_STR(member(ask(&w, c, "/api/poll/a?last_id=0123456789abcdef-1")->body, "count"), "1");
    park(&w, c, "/api/poll/a?last_id=now&timeout=1");
    pass(&w, 1002);
    CHECK_STR(member(take(c)->body, "status"), "timeout");
    park(&w, c, "/api/poll/a?last_id=now");
    finish(c);
    settle(&w);
    publish_n(&w, "a", 2); /* who has gone is not waited for */
    check_delays(0, 0, 0, 0);
    close_world(&w);
}

/* Several messages in one reply: one delivery, from the oldest of them on; for the first
   that is told of a channel its newest counts. */
TEST(a_reply_of_several_counts_from_its_oldest)
{
    peer *c;
    open_delays();
    c = dial(&w);
    park(&w, c, "/api/poll/a?last_id=now");
    publish_n(&w, "a", 1);
    w.k.now_us += 4000;
    publish_n(&w, "a", 2);
    w.k.now_us += 100;
    check_delays(4100, 1, 1, 1);
    CHECK_INT(stats_of(&w).first_latencies[lpi_latency_index(100)], 1);
    CHECK_STR(member(take(c)->body, "count"), "2");
    close_world(&w);
}

TEST(each_channel_has_a_first)
{
    peer *c[4];
    int i;
    open_delays();
    for (i = 0; i < 4; i++)
        c[i] = dial(&w), park(&w, c[i], i % 2 ? "/api/poll/a?last_id=now" : "/api/poll/b?last_id=now");
    publish_n(&w, "a", 1);
    w.k.now_us += 50;
    publish_n(&w, "b", 1);
    check_delays(50, 2, 4, 2);
    CHECK_INT(stats_of(&w).latencies[0], 2);
    CHECK_INT(stats_of(&w).first_latencies[0], 1);
    CHECK_INT(stats_of(&w).first_latencies[lpi_latency_index(50)], 1);
    close_world(&w);
}

/* Over many batches, and more notes than a loop keeps. */
TEST(of_a_large_fan_out_none_is_missed)
{
    enum { N = 1500 };
    static peer *c[N];
    int i, n = unit_rounds(N);
    open_delays();
    w.unchecked = 1;
    for (i = 0; i < n; i++) {
        c[i] = dial(&w);
        get(c[i], i % 3 ? "/api/poll/a?last_id=now" : "/api/poll/b?last_id=now");
    }
    settle(&w);
    publish_n(&w, "a", 1);
    publish_n(&w, "b", 1);
    w.k.cost_us[K_SEND] = 3; /* so that they are not all the same */
    check_delays(0, 0, (uint64_t)n, 2);
    w.k.cost_us[K_SEND] = 0;
    close_world(&w);
}

TEST(many_polls_of_their_own_are_all_counted)
{
    enum { N = 300 };
    peer *c;
    char target[40];
    int i;
    open_delays();
    w.unchecked = 1;
    for (i = 0; i < N; i++) {
        c = dial(&w);
        snprintf(target, sizeof target, "/api/poll/c%d", i);
        get(c, target);
    }
    settle(&w);
    for (i = 0; i < N; i++) {
        snprintf(target, sizeof target, "c%d", i);
        publish_n(&w, target, i);
    }
    check_delays(0, N, N, N);
    close_world(&w);
}

/* Handed to the kernel whole, and not before. */
TEST(a_slow_reader_is_counted_when_the_last_byte_goes)
{
    peer *c, *gone;
    open_delays();
    c = dial(&w), gone = dial(&w);
    widen(c, 100), widen(gone, 100);
    park(&w, c, "/api/poll/a?last_id=now");
    park(&w, gone, "/api/poll/a?last_id=now");
    publish_n(&w, "a", 1);
    w.k.now_us += 30;
    check_delays(30, 0, 0, 1); /* the first is counted when it begins */
    widen(c, 100);
    w.k.now_us += 1000;
    check_delays(1030, 0, 0, 1);
    reset(gone); /* has not had it */
    settle(&w);
    widen(c, SIZE_MAX);
    w.k.now_us += 2000;
    check_delays(3030, 1, 1, 1);
    CHECK_INT(take(c)->status, 200);
    check_delays(3030, 1, 1, 1);
    close_world(&w);
}

/* More in one step than a loop has room for. */
TEST(slow_readers_that_are_done_in_one_step_are_all_counted)
{
    enum { N = 200 };
    peer *c[N];
    int i;
    open_delays();
    w.unchecked = 1;
    for (i = 0; i < N; i++) c[i] = dial(&w), widen(c[i], 100), get(c[i], "/api/poll/a");
    settle(&w);
    publish_n(&w, "a", 1);
    check_delays(0, 0, 0, 1);
    for (i = 0; i < N; i++) widen(c[i], SIZE_MAX);
    w.k.now_us += 9000;
    check_delays(9000, N, N, 1);
    close_world(&w);
}

TEST(a_publish_by_http_counts_from_its_request)
{
    peer *c, *p;
    open_delays();
    c = dial(&w), p = dial(&w);
    park(&w, c, "/api/poll/a?last_id=now");
    w.k.cost_us[K_SEND] = 40; /* the publisher's answer goes first */
    post(p, "/api/publish/a", "{}");
    check_delays(80, 1, 1, 1);
    w.k.cost_us[K_SEND] = 0;
    close_world(&w);
}
