/* The loop: sleeping and waking, the drain, sweeps, channel events; and memory that
   runs out at every place where it can. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

#include <setjmp.h>

static world w;

/* ---- sleeping ---- */

TEST(an_idle_server_sleeps) {
    open_world(&w);
    CHECK_INT(turn(&w, -1), LP_OK);
    CHECK(w.k.wait_ms > 86400 * 1000);
    CHECK(lp_wait_ms(w.s) > 86400 * 1000);
    close_world(&w);
}

TEST(parked_polls_cost_no_wake_ups) {
    peer *c[200];
    int i;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    open_world(&w);
    publish_n(&w, "old", 1);
    for (i = 0; i < 200; i++) {
        c[i] = dial(&w);
        get(c[i], "/api/poll/news?timeout=60");
    }
    settle(&w);
    CHECK(pass(&w, 50000) <= 2 * 50);
    CHECK_SILENT(c[0]);
    close_world(&w);
}

TEST(a_caller_may_wait_for_less) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a?timeout=10");
    CHECK_INT(turn(&w, 5), LP_OK);
    CHECK_INT(w.k.wait_ms, 5);
    CHECK_INT(turn(&w, -1), LP_OK);
    CHECK(w.k.wait_ms > 0 && w.k.wait_ms < 10000); /* or until a wheel turns */
    close_world(&w);
}

/* ---- deadlines ---- */

/* By the time that a wait ends all is told that is due, neither sooner nor later. */
TEST(a_wait_ends_when_something_is_due) {
    uint64_t parked_ms;
    int steps = 0;
    peer *c;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a?timeout=10");
    parked_ms = now_ms(&w);
    while (!unheard(c).length) {
        CHECK_INT(turn(&w, -1), LP_OK);
        CHECK(w.k.wait_ms > 0);
        CHECK(++steps < 10);
    }
    CHECK(now_ms(&w) >= parked_ms + 10000 && now_ms(&w) <= parked_ms + 10000 + TICK_MS);
    CHECK_STR(member(take(c)->body, "status"), "timeout");
    close_world(&w);
}

/* Work that is left, and a caller who will not wait. */
TEST(a_wait_is_over_at_once) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a?timeout=10");
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(w.k.wait_ms, 0);
    publish_n(&w, "a", 1);
    CHECK_INT(turn(&w, -1), LP_OK);
    CHECK_INT(w.k.wait_ms, 0);
    CHECK_INT(take(c)->status, 200);
    close_world(&w);
}

/* A deadline that is no more costs one turn, or one on each wheel; then it sleeps. */
TEST(a_wait_that_ends_for_nothing_is_no_harm) {
    peer *c;
    int steps = 0;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a?timeout=0.1");
    finish(c);
    CHECK_INT(turn(&w, -1), LP_OK);
    CHECK(c->closed);
    do {
        CHECK_INT(turn(&w, -1), LP_OK);
        CHECK(++steps < 5);
    } while (w.k.wait_ms < 86400 * 1000);
    close_world(&w);
}

/* Inside somebody else's loop: wait for lp_fd, at most lp_wait_ms, then lp_step(s, 0). */
TEST(lp_wait_ms_tells_the_next_deadline) {
    peer *c;
    int wait;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a?timeout=10");
    wait = lp_wait_ms(w.s);
    CHECK(wait > 0 && wait <= 10001); /* or until a wheel turns */
    w.k.now_us += 4000 * 1000;
    CHECK(lp_wait_ms(w.s) <= 6001);
    w.k.now_us += 3000 * 1000;
    while (!unheard(c).length) {
        wait = lp_wait_ms(w.s);
        CHECK(wait >= 0 && wait <= 3001);
        w.k.now_us += (uint64_t)wait * 1000;
        CHECK_INT(turn(&w, 0), LP_OK);
        CHECK(now_ms(&w) <= 1000 * 1000 + 10000 + TICK_MS);
    }
    CHECK_STR(member(take(c)->body, "status"), "timeout");
    park(&w, c, "/api/poll/a?last_id=now");
    publish_n(&w, "a", 1);
    CHECK_INT(w.k.signalled, 1); /* lp_fd is readable, whoever waits on it */
    CHECK_INT(lp_wait_ms(w.s), 0);
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(take(c)->status, 200);
    close_world(&w);
}

/* A caller that was away for long, or a machine that was suspended. */
TEST(a_step_that_comes_late_makes_up_for_it) {
    peer *c;
    uint64_t began;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a?timeout=6");
    began = now_ms(&w);
    w.k.now_us += 5000 * 1000;
    while (!unheard(c).length) CHECK_INT(turn(&w, -1), LP_OK);
    CHECK(now_ms(&w) - began >= 6000 && now_ms(&w) - began <= 6000 + TICK_MS);
    close_world(&w);
}

/* Milliseconds are kept modulo 2^32: 49.7 days. */
TEST(the_clock_wraps) {
    int late;
    for (late = 0; late < 40; late++) {
        peer *c;
        uint64_t began;
        int wait;
        memset(&w, 0, sizeof w);
        w.k.now_us = ((UINT64_C(1) << 32) - 45 + (uint64_t)late) * 1000;
        open_world(&w);
        c = dial(&w);
        park(&w, c, "/api/poll/a?timeout=0.02");
        began = now_ms(&w);
        while (!unheard(c).length) { /* as somebody else's loop does */
            w.k.now_us += 3000;
            wait = lp_wait_ms(w.s);
            if (wait < 0 || wait > 25)
                unit_fail(__FILE__, __LINE__, "it would wait for %d ms at 2^32%+ld ms", wait,
                          (long)(now_ms(&w) - (UINT64_C(1) << 32)));
            w.k.now_us += (uint64_t)wait * 1000;
            CHECK_INT(turn(&w, 0), LP_OK);
        }
        CHECK(now_ms(&w) - began >= 20 && now_ms(&w) - began <= 20 + TICK_MS + 3);
        close_world(&w);
    }
}

TEST(many_deadlines_at_once_are_rung_in_slices) {
    enum { N = 1000 };
    static peer *c[N];
    uint64_t sent;
    int i;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    w.unchecked = 1;
    open_world(&w);
    for (i = 0; i < N; i++) {
        c[i] = dial(&w);
        get(c[i], "/api/poll/a?timeout=5");
    }
    settle(&w);
    pass(&w, 4990);
    CHECK_INT(stats_of(&w).waiters, N);
    w.k.now_us += 20 * 1000;
    sent = w.k.sent;
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(w.k.sent - sent, LPI_EXPIRIES);
    CHECK_INT(lp_wait_ms(w.s), 0);
    pass(&w, 1);
    for (i = 0; i < N; i++) CHECK_STR(member(take(c[i])->body, "status"), "timeout");
    close_world(&w);
}

TEST(a_poller_that_fails_ends_lp_run) {
    open_world(&w);
    fault(&w, K_POLLER_WAIT, EBADF, 0, 1);
    CHECK_INT(lp_run(w.s), LP_ERR_OS);
    CHECK_INT(turn(&w, 0), LP_OK);
    close_world(&w);
}

TEST(a_wall_clock_that_jumps_moves_no_deadline) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a?timeout=5");
    w.k.wall_us += 86400 * UINT64_C(1000000);
    pass(&w, 4990);
    CHECK_SILENT(c);
    w.k.wall_us -= 2 * 86400 * UINT64_C(1000000);
    pass(&w, 15);
    CHECK_STR(member(take(c)->body, "status"), "timeout");
    close_world(&w);
}

/* ---- the drain ---- */

static lp_result run_until_stopped(uint64_t *took_ms) {
    uint64_t began = now_ms(&w);
    lp_result result;
    while ((result = turn(&w, 100)) == LP_OK)
        if (now_ms(&w) - began > 3600 * 1000) unit_fail(__FILE__, __LINE__, "it never stops");
    if (took_ms) *took_ms = now_ms(&w) - began;
    return result;
}

TEST(stopping_an_idle_server) {
    peer *c;
    uint64_t took;
    open_world(&w);
    c = dial(&w);
    CHECK_INT(ask(&w, c, "/")->status, 404);
    lp_stop(w.s);
    lp_stop(w.s);
    CHECK_INT(w.k.signalled, 1);
    CHECK_INT(run_until_stopped(&took), LP_ERR_STOPPED);
    CHECK_INT(took, 0);
    CHECK(c->closed);
    CHECK_INT(kernel_open_count(&w.k, K_LISTENER), 0);
    CHECK_INT(lp_step(w.s, 0), LP_ERR_STOPPED);
    CHECK_INT(lp_run(w.s), LP_OK);
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s("{}"), NULL), LP_ERR_STOPPED);
    CHECK_STR(lp_s(w.log), "stopped");
    close_world(&w);
}

TEST(lp_run_serves_until_lp_stop) {
    open_world(&w);
    lp_stop(w.s);
    CHECK_INT(lp_run(w.s), LP_OK);
    close_world(&w);
}

TEST(parked_polls_are_answered_within_the_drain) {
    enum { N = 200 };
    peer *c[N];
    char last_id[60];
    uint64_t began, first = UINT64_MAX, last = 0;
    int i, told = 0;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    open_world(&w);
    publish_n(&w, "news", 1);
    for (i = 0; i < N; i++) {
        c[i] = dial(&w);
        get(c[i], "/api/poll/news?last_id=now&timeout=60");
    }
    settle(&w);
    strcpy(last_id, publish_n(&w, "other", 1).id);
    lp_stop(w.s);
    began = now_ms(&w);
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(kernel_open_count(&w.k, K_LISTENER), 0);
    while (told < N) {
        CHECK_INT(turn(&w, 100), LP_OK);
        for (i = 0; i < N; i++) {
            answer *a;
            if (!unheard(c[i]).length) continue;
            a = take(c[i]);
            CHECK_STR(member(a->body, "status"), "timeout");
            CHECK(has(member(a->body, "last_id"), "-1"));
            CHECK_STR(heading(a, "Connection"), "close");
            finish(c[i]);
            told++;
            if (now_ms(&w) - began < first) first = now_ms(&w) - began;
            last = now_ms(&w) - began;
        }
        CHECK(now_ms(&w) - began <= 2000 + TICK_MS);
    }
    CHECK(first < 200 && last > 1500); /* spread */
    CHECK_INT(run_until_stopped(NULL), LP_ERR_STOPPED);
    CHECK(now_ms(&w) - began <= 2000 + 10);
    close_world(&w);
}

TEST(a_message_still_reaches_those_who_wait_in_the_drain) {
    peer *c;
    answer *a;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/news");
    lp_stop(w.s);
    CHECK_INT(turn(&w, 0), LP_OK);
    publish_n(&w, "news", 1);
    CHECK_INT(turn(&w, 0), LP_OK);
    a = take(c);
    CHECK_STR(member(a->body, "n"), "1");
    CHECK_STR(heading(a, "Connection"), "close");
    close_world(&w);
}

/* The deadline that a poll has already stays: its client asked for no more. */
TEST(the_drain_makes_no_poll_later) {
    enum { N = 40 };
    peer *c[N];
    int i;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    open_world(&w);
    for (i = 0; i < N; i++) {
        c[i] = dial(&w);
        get(c[i], "/api/poll/news?timeout=0.05");
    }
    settle(&w);
    lp_stop(w.s);
    for (i = 0; i < 60; i++) CHECK_INT(turn(&w, 1), LP_OK);
    for (i = 0; i < N; i++) CHECK_STR(member(take(c[i])->body, "status"), "timeout");
    close_world(&w);
}

TEST(the_listeners_queue_is_accepted_first) {
    enum { N = 150 };
    peer *c[N];
    int i;
    open_world(&w);
    settle(&w);
    for (i = 0; i < N; i++) {
        c[i] = dial(&w);
        get(c[i], i & 1 ? "/api/poll/news" : "/nowhere");
    }
    lp_stop(w.s);
    CHECK_INT(turn(&w, 0), LP_OK);
    for (i = 0; i < 5; i++) turn(&w, 1);
    for (i = 0; i < N; i++) {
        answer *a = take(c[i]);
        CHECK_INT(a->status, i & 1 ? 200 : 404);
        CHECK_STR(heading(a, "Connection"), "close");
    }
    CHECK_INT(run_until_stopped(NULL), LP_ERR_STOPPED);
    close_world(&w);
}

TEST(what_is_being_written_or_sent_is_finished) {
    peer *slow, *body, *idle;
    open_world(&w);
    publish_padded(&w, "big", 60000);
    idle = dial(&w);
    CHECK_INT(ask(&w, idle, "/")->status, 404);
    slow = dial(&w);
    widen(slow, 1000);
    get(slow, "/api/poll/big");
    body = dial(&w);
    say(body, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
              "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{");
    settle(&w);
    lp_stop(w.s);
    CHECK_INT(turn(&w, 0), LP_OK);
    for (; now_ms(&w) < 1000 * 1000 + 1500;) CHECK_INT(turn(&w, 100), LP_OK);
    CHECK(!slow->closed && !body->closed);
    CHECK(!idle->closed); /* idle ones close last */
    say(body, "}");
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(take(body)->status, 200);
    finish(body);
    for (; now_ms(&w) < 1000 * 1000 + 20000;) CHECK_INT(turn(&w, 100), LP_OK);
    CHECK(!idle->closed);
    widen(slow, SIZE_MAX);
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(turn(&w, 0), LP_ERR_STOPPED); /* nobody is left, and nothing came */
    CHECK_STR(member(take(slow)->body, "count"), "1");
    CHECK(idle->closed && slow->closed && !slow->cut);
    close_world(&w);
}

TEST(a_client_that_never_reads_cannot_hold_up_the_end) {
    peer *slow;
    uint64_t took;
    open_world(&w);
    publish_padded(&w, "big", 60000);
    slow = dial(&w);
    widen(slow, 1000);
    get(slow, "/api/poll/big");
    settle(&w);
    lp_stop(w.s);
    CHECK_INT(run_until_stopped(&took), LP_ERR_STOPPED);
    CHECK(took <= 2000 + 30000 + 100);
    CHECK(slow->closed);
    close_world(&w);
}

/* The drain has an end of its own where a write may take for ever. */
TEST(nor_where_a_write_has_no_deadline) {
    peer *slow;
    uint64_t took;
    w.cfg.write_ms = LP_OFF;
    open_world(&w);
    publish_padded(&w, "big", 60000);
    slow = dial(&w);
    widen(slow, 1000);
    get(slow, "/api/poll/big");
    settle(&w);
    lp_stop(w.s);
    CHECK_INT(run_until_stopped(&took), LP_ERR_STOPPED);
    CHECK(took >= 2000 + LPI_DRAIN_WRITE_MS && took <= 2000 + LPI_DRAIN_WRITE_MS + 100);
    CHECK(slow->closed);
    close_world(&w);
}

TEST(one_that_trickles_cannot_either) {
    peer *c;
    uint64_t took = 0;
    open_world(&w);
    publish_padded(&w, "big", 60000);
    c = dial(&w);
    widen(c, 1000);
    get(c, "/api/poll/big");
    settle(&w);
    lp_stop(w.s);
    while (turn(&w, 100) == LP_OK) {
        if (now_ms(&w) / 1000 != took) widen(c, 10), took = now_ms(&w) / 1000;
        CHECK(now_ms(&w) - 1000 * 1000 <= 2000 + 30000 + 200);
    }
    CHECK(c->closed);
    close_world(&w);
}

TEST(a_client_that_never_speaks_is_waited_for_no_longer_than_the_drain) {
    peer *c, *d;
    uint64_t took;
    open_world(&w);
    c = dial(&w);
    d = dial(&w);
    say(d, "GET / HT");
    settle(&w);
    lp_stop(w.s);
    CHECK_INT(run_until_stopped(&took), LP_ERR_STOPPED);
    CHECK(took >= 2000 && took <= 2000 + 100);
    CHECK(c->closed && d->closed);
    close_world(&w);
}

TEST(a_drain_that_is_off_answers_at_once) {
    peer *c;
    answer *a;
    uint64_t took;
    w.cfg.drain_ms = LP_OFF;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a");
    lp_stop(w.s);
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(turn(&w, 10), LP_OK);
    a = take(c);
    CHECK_STR(member(a->body, "status"), "timeout");
    finish(c);
    CHECK_INT(run_until_stopped(&took), LP_ERR_STOPPED);
    CHECK(took < 20);
    close_world(&w);
}

/* A stop while the listener rests, or while there is no descriptor left. */
TEST(stopping_while_the_listener_rests) {
    peer *c;
    open_world(&w);
    fault(&w, K_ACCEPT, ENOBUFS, 0, 1);
    c = dial(&w);
    settle(&w);
    CHECK(w.s->accept_resume_ms);
    lp_stop(w.s);
    CHECK_INT(run_until_stopped(NULL), LP_ERR_STOPPED);
    CHECK(c->closed);
    close_world(&w);
}

/* ---- channel events ---- */

static char events[600];

static void watch(void *ctx, lp_channel_event event, lp_slice channel) {
    lp_stats stats;
    CHECK(ctx == &w);
    sprintf(events + strlen(events), "%s%.*s;", event == LP_CHANNEL_OCCUPIED ? "+" : "-",
            (int)channel.length, channel.bytes);
    lp_stats_read(w.s, &stats); /* the hub is not held */
    CHECK_INT(lp_publish(w.s, lp_s("events"), lp_s("{}"), NULL), LP_OK);
}

static void check_events(const char *want) {
    CHECK_STR(lp_s(events), want);
    events[0] = 0;
}

static void open_watched(uint32_t linger_ms) {
    w.cfg.watch.channel = watch;
    w.cfg.watch.ctx = &w;
    w.cfg.channel_linger_ms = linger_ms;
    open_world(&w);
}

TEST(the_first_waiter_and_the_last_are_told) {
    peer *c, *d;
    open_watched(0);
    c = dial(&w);
    d = dial(&w);
    park(&w, c, "/api/poll/a?timeout=2");
    check_events("+a;");
    park(&w, d, "/api/poll/a,b?timeout=3");
    check_events("+b;");
    pass(&w, 2002); /* c is gone */
    pass(&w, 1002); /* d too, in the third second */
    check_events("");
    pass(&w, 4980);
    check_events("");
    pass(&w, 30); /* 5 s after */
    CHECK_INT(strlen(events), 6);
    CHECK(strstr(events, "-a;") && strstr(events, "-b;"));
    events[0] = 0;
    pass(&w, 20000);
    check_events("");
    take(c);
    park(&w, c, "/api/poll/a");
    check_events("+a;");
    close_world(&w);
}

TEST(one_who_comes_back_in_time_is_no_event) {
    peer *c;
    int i;
    open_watched(0);
    c = dial(&w);
    for (i = 0; i < 10; i++) {
        park(&w, c, "/api/poll/a?timeout=1");
        pass(&w, 1002 + 4900);
        take(c);
    }
    check_events("+a;");
    pass(&w, 200);
    check_events("-a;");
    close_world(&w);
}

TEST(without_a_linger_it_is_told_at_once) {
    peer *c;
    open_watched(LP_OFF);
    c = dial(&w);
    park(&w, c, "/api/poll/a,b");
    check_events("+a;+b;");
    finish(c);
    settle(&w);
    pass(&w, 5);
    CHECK_INT(strlen(events), 6);
    close_world(&w);
}

TEST(a_poll_that_is_answered_at_once_is_no_event) {
    peer *c;
    open_watched(0);
    c = dial(&w);
    ask(&w, c, "/api/poll/a?timeout=0");
    publish_n(&w, "a", 1);
    ask(&w, c, "/api/poll/a");
    pass(&w, 10000);
    check_events("");
    close_world(&w);
}

static jmp_buf way_out;

static void leap(void *ctx, lp_channel_event event, lp_slice channel) {
    watch(ctx, event, channel);
    longjmp(way_out, 1);
}

/* A hook must not throw, nor leap. One that does leaves no lock behind: what is told of other
   channels is told in later steps, and publishing goes on. */
TEST(a_hook_that_leaps_leaves_no_lock_behind) {
    static const char *const targets[] = {"/api/poll/a", "/api/poll/b", "/api/poll/c"};
    volatile uint32_t i;
    w.unchecked = 1; /* it is in the middle of a step */
    w.cfg.watch.channel = leap;
    w.cfg.watch.ctx = &w;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(targets); i++) get(dial(&w), targets[i]);
    for (i = 0; i < 10; i++)
        if (!setjmp(way_out)) lp_step(w.s, 0);
    check_events("+a;+b;+c;");
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s("{}"), NULL), LP_OK);
    settle(&w);
    CHECK_INT(stats_of(&w).waiters, 2);
    close_world(&w);
}

/* ---- sweeping ---- */

TEST(many_idle_channels_are_swept_in_slices) {
    int i, steps;
    w.cfg.history_age_ms = 2000;
    w.unchecked = 1;
    open_world(&w);
    for (i = 0; i < 2000; i++) {
        char name[20];
        snprintf(name, sizeof name, "c%d", i);
        publish_n(&w, name, i);
    }
    CHECK_INT(stats_of(&w).messages, 2000);
    w.k.now_us += 2100 * 1000;
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(stats_of(&w).messages, 2000 - LPI_SWEEP_MAX);
    w.unchecked = 0;
    steps = pass(&w, 5000);
    CHECK_INT(stats_of(&w).messages, 0);
    CHECK_INT(stats_of(&w).channels, 0);
    CHECK(steps < 60);
    close_world(&w);
}

/* ---- out of memory, everywhere ---- */

static void hook(lp_request *r, void *ctx) {
    (void)ctx;
    lp_query(r, "x");
    lp_client(r);
    lp_reply_header(r, "X-Y", lp_s("z"));
    lp_reply(r, 200, "text/plain", lp_s("ok"));
}

/* Either it was served, or it was told 503, or its connection ended. */
static void check_served_or_shed(peer *c) {
    while (unheard(c).length) {
        int status;
        if (c->closed && !has(unheard(c), "\r\n\r\n")) return;
        status = take(c)->status;
        if (status != 200 && status != 503)
            unit_fail(__FILE__, __LINE__, "the answer to a good request was %d", status);
    }
}

/* Poll, publish, several channels, short write, upload in pieces, pipelining. */
static void scenario(void) {
    enum { N = 9 };
    peer *c[N];
    int i;
    for (i = 0; i < N; i++) c[i] = dial(&w);
    settle(&w);
    get_as(c[0], "/api/poll/a?timeout=2", "n0");
    get_as(c[1], "/api/poll/a,b,%63?timeout=2", "n1");
    get_as(c[2], "/api/poll/b?timeout=1&since=7", "n2");
    widen(c[3], 350);
    get_as(c[3], "/api/poll/big?timeout=2", "n3");
    say(c[4], "POST /api/publish/a HTTP/1.1\r\nHost: loc");
    settle(&w);
    say(c[4], "alhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{");
    settle(&w);
    get(c[5], "/hook?x=1");
    get(c[5], "/api/poll/a,b?timeout=1");
    get(c[5], "/hook?x=2");
    for (i = 0; i < 12; i++) { /* so that a ring grows */
        lp_result result = lp_publish(w.s, lp_s("many"), lp_s("{\"k\":1}"), NULL);
        CHECK(result == LP_OK || result == LP_ERR_NOMEM);
    }
    settle(&w);
    say(c[4], "\"a\":\r\n2\r\n1}\r\n0\r\n\r\n");
    post(c[6], "/api/publish/b", "{\"text\":\"hello\"}");
    get(c[7], "/api/poll/many,none?timeout=0&last_id=0,0123456789abcdef-4");
    settle(&w);
    {
        char json[3000];
        lp_result result;
        memset(json, ' ', sizeof json);
        json[0] = '{', json[sizeof json - 1] = '}';
        result = lp_publish(w.s, lp_s("big"), lpi_slice(json, sizeof json), NULL);
        CHECK(result == LP_OK || result == LP_ERR_NOMEM);
    }
    settle(&w);
    widen(c[3], 1000);
    settle(&w);
    finish(c[8]);
    pass(&w, 1500);
    widen(c[3], SIZE_MAX);
    pass(&w, 1500);
    for (i = 0; i < N; i++) {
        check_served_or_shed(c[i]);
        finish(c[i]);
    }
    settle(&w);
    CHECK_INT(stats_of(&w).connections, 0);
    CHECK_INT(stats_of(&w).waiters, 0);
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
}

static void check_serves(void) {
    peer *c = dial(&w), *p = dial(&w);
    park(&w, c, "/api/poll/fresh,a?last_id=now");
    post(p, "/api/publish/fresh", "{\"n\":1}");
    settle(&w);
    CHECK_STR(member(take(p)->body, "waiters"), "1");
    CHECK_STR(member(take(c)->body, "n"), "1");
    CHECK_INT(ask(&w, p, "/hook")->status, 200);
}

static void fail_everywhere(int for_ever) {
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        memset(&w, 0, sizeof w);
        open_world(&w);
        CHECK_INT(lp_on(w.s, "GET", "/hook", hook, NULL), LP_OK);
        w.m.fail_at = w.m.calls + k;
        w.m.fail_forever = for_ever;
        scenario();
        failed = w.m.failed;
        w.m.fail_at = 0;
        check_serves();
        close_world(&w);
    }
    CHECK(k > 30); /* there were that many */
}

TEST(memory_fails_once_anywhere) { fail_everywhere(0); }

TEST(memory_fails_for_ever_from_anywhere) { fail_everywhere(1); }

TEST(creating_without_memory) {
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        lp_result result;
        memset(&w, 0, sizeof w);
        w.cfg.hosts = "a.example, b.example";
        w.cfg.cors = "https://a.example";
        w.cfg.trusted_proxies = "10.0.0.0/8";
        prepare_world(&w);
        w.m.fail_at = k;
        result = lp_create(&w.s, &w.cfg);
        failed = w.m.failed;
        CHECK_INT(result, failed ? LP_ERR_NOMEM : LP_OK);
        CHECK(failed ? w.s == NULL : w.s != NULL);
        w.m.fail_at = 0;
        if (!failed) check_world(&w);
        lp_destroy(w.s);
        CHECK_INT(w.m.blocks, 0);
        CHECK_INT(kernel_open_count(&w.k, K_FREE), 0);
        free_world(&w);
    }
    CHECK(k > 5);
}

/* ---- the kernel fails, anywhere ---- */

TEST(system_calls_fail_at_random) {
    static const struct { kernel_call call; int error; } faults[] = {
        {K_RECV, EAGAIN}, {K_RECV, EINTR}, {K_RECV, ECONNRESET}, {K_SEND, EAGAIN},
        {K_SEND, EINTR}, {K_SEND, ECONNRESET}, {K_SEND, EPIPE}, {K_SEND, ENOBUFS},
        {K_ACCEPT, EMFILE}, {K_ACCEPT, ENOBUFS}, {K_ACCEPT, ECONNABORTED},
        {K_POLLER_SET, ENOMEM}, {K_SHUTDOWN, ENOTCONN}, {K_RESERVE, EMFILE}};
    enum { N = 12 };
    peer *c[N], *p;
    int i, rounds = unit_rounds(3000);
    w.cfg.head_bytes_max = 512;
    w.cfg.history_count = 20;
    open_world(&w);
    for (i = 0; i < N; i++) c[i] = dial(&w);
    while (rounds--) {
        const size_t f = unit_below(LPI_COUNT(faults));
        char text[100];
        i = (int)unit_below(N);
        if (unit_one_in(3))
            fault(&w, faults[f].call, faults[f].error, unit_below(3), 1 + unit_below(2));
        snprintf(text, sizeof text, "/api/poll/%s?timeout=%d&last_id=%s",
                 unit_one_in(2) ? "a" : "a,b", (int)unit_below(3), unit_one_in(2) ? "now" : "0");
        switch (unit_below(9)) {
        case 0: finish(c[i]); break;
        case 1: reset(c[i]); break;
        case 2: widen(c[i], unit_below(600)); break;
        case 3: widen(c[i], SIZE_MAX); break;
        case 4: publish_padded(&w, unit_one_in(2) ? "a" : "b", 20 + unit_below(2000)); break;
        case 5: say(c[i], "GET / HT"); break;
        case 6: post(c[i], "/api/publish/b", "{\"n\":1}"); break;
        default: get(c[i], text);
        }
        if (c[i]->closed || c[i]->fin || c[i]->rst) c[i] = dial(&w);
        if (unit_one_in(8)) pass(&w, unit_below(3000));
        else CHECK_INT(turn(&w, 0), LP_OK);
    }
    memset(w.k.faults, 0, sizeof w.k.faults);
    for (p = w.peers; p; p = p->next) finish(p), widen(p, SIZE_MAX);
    pass(&w, 1000);
    CHECK_INT(stats_of(&w).connections, 0);
    CHECK_INT(stats_of(&w).waiters, 0);
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    CHECK_STR(member(ask(&w, dial(&w), "/api/poll/new?timeout=0")->body, "count"), "0");
    close_world(&w);
}
