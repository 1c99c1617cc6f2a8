/* Writing: short sends, what is kept of them and how long, and who is cut off. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

/* Clients parked on "big", each of which will take only `window` bytes. */
static void park_slow(peer **c, int n, size_t window) {
    int i;
    for (i = 0; i < n; i++) {
        char name[20];
        uint32_t before = stats_of(&w).waiters;
        snprintf(name, sizeof name, "c%d", i);
        c[i] = dial(&w);
        get_as(c[i], "/api/poll/big?last_id=now", name);
        settle(&w);
        CHECK_INT(stats_of(&w).waiters, before + 1);
        widen(c[i], window);
    }
}

TEST(a_short_write_goes_on_where_it_stopped) {
    size_t cut;
    for (cut = 0; cut < 700; cut += cut < 330 ? 7 : 50) {
        peer *c;
        lp_published p;
        answer *a;
        memset(&w, 0, sizeof w);
        open_world(&w);
        park_slow(&c, 1, cut);
        p = publish_padded(&w, "big", 900);
        settle(&w);
        CHECK_INT(unheard(c).length, cut);
        CHECK(stats_of(&w).pinned_bytes >= 900 - cut);
        while (w.s->loops[0].phases[LPI_WRITING]) { /* in pieces of any size */
            widen(c, 1 + unit_below(200));
            settle(&w);
        }
        widen(c, SIZE_MAX);
        a = take(c);
        CHECK_STR(member(a->body, "id"), p.id);
        CHECK(has(a->body, "xxx\"}]}"));
        CHECK_SILENT(c);
        CHECK_INT(stats_of(&w).pinned_bytes, 0);
        CHECK_INT(c->sets, 3); /* the accept, to write, and back */
        CHECK_INT(ask(&w, c, "/")->status, 404);
        close_world(&w);
    }
}

TEST(interrupted_sends_are_tried_again) {
    static const int errors[] = {EAGAIN, EINTR};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(errors); i++) {
        peer *c = dial(&w);
        fault(&w, K_SEND, errors[i], 0, 3);
        CHECK_INT(ask(&w, c, "/")->status, 404);
        CHECK_INT(c->sends, 4);
    }
    close_world(&w);
}

TEST(a_send_that_fails_closes) {
    static const int errors[] = {ECONNRESET, EPIPE, ETIMEDOUT, ENOBUFS};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(errors); i++) {
        peer *c = dial(&w);
        fault(&w, K_SEND, errors[i], 0, 1);
        get(c, "/");
        settle(&w);
        CHECK(c->closed);
        c = dial(&w); /* and at the second piece */
        widen(c, 5);
        get(c, "/");
        settle(&w);
        CHECK_INT(w.s->loops[0].phases[LPI_WRITING], 1);
        fault(&w, K_SEND, errors[i], 0, 1);
        widen(c, 5);
        settle(&w);
        CHECK(c->closed);
        CHECK_INT(stats_of(&w).pinned_bytes, 0);
    }
    close_world(&w);
}

TEST(slow_readers_of_the_same_share_one_blob) {
    peer *c[20];
    int i;
    uint64_t one;
    open_world(&w);
    park_slow(c, 20, 400); /* past the head */
    publish_padded(&w, "big", 30000);
    settle(&w);
    one = stats_of(&w).pinned_bytes;
    CHECK(one > 30000 && one < 31000);
    CHECK_INT(w.s->loops[0].phases[LPI_WRITING], 20);
    for (i = 0; i < 19; i++) {
        widen(c[i], SIZE_MAX);
        settle(&w);
        CHECK_INT(stats_of(&w).pinned_bytes, one);
    }
    reset(c[19]); /* the last one leaves */
    settle(&w);
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    for (i = 0; i < 19; i++) CHECK_STR(member(take(c[i])->body, "count"), "1");
    close_world(&w);
}

TEST(a_head_that_was_cut_is_kept_alone) {
    peer *c[3];
    int i;
    open_world(&w);
    park_slow(c, 3, 10);
    publish_padded(&w, "big", 1000);
    settle(&w);
    CHECK(stats_of(&w).pinned_bytes > 3000);
    for (i = 0; i < 3; i++) widen(c[i], SIZE_MAX);
    settle(&w);
    for (i = 0; i < 3; i++) CHECK_STR(member(take(c[i])->body, "count"), "1");
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    close_world(&w);
}

/* ---- the deadline ---- */

TEST(a_write_that_stalls_is_cut_off) {
    peer *c;
    uint64_t began;
    open_world(&w);
    park_slow(&c, 1, 100);
    publish_padded(&w, "big", 60000);
    began = now_ms(&w);
    settle(&w);
    while (!c->closed) CHECK_INT(turn(&w, 1000000), LP_OK);
    CHECK(now_ms(&w) - began >= 30000 && now_ms(&w) - began <= 30000 + TICK_MS);
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    close_world(&w);
}

/* 16 KiB of progress earn another write_ms; fewer do not. */
TEST(progress_renews_the_deadline) {
    peer *c, *d;
    int i;
    open_world(&w);
    park_slow(&c, 1, 100);
    publish_padded(&w, "big", 65000);
    settle(&w);
    for (i = 0; i < 3; i++) {
        pass(&w, 29000);
        widen(c, LPI_WRITTEN);
        settle(&w);
        CHECK(!c->closed);
    }
    widen(c, SIZE_MAX);
    settle(&w);
    CHECK_STR(member(take(c)->body, "count"), "1");

    park_slow(&d, 1, 100);
    publish_padded(&w, "big", 65000);
    settle(&w);
    pass(&w, 15000);
    widen(d, LPI_WRITTEN - 1);
    settle(&w);
    pass(&w, 14990);
    CHECK(!d->closed);
    pass(&w, 20);
    CHECK(d->closed);
    close_world(&w);
}

TEST(the_deadline_is_the_writes_alone) {
    peer *c;
    open_world(&w);
    park_slow(&c, 1, 100);
    pass(&w, 20000); /* parked meanwhile */
    publish_padded(&w, "big", 1000);
    pass(&w, 29990);
    CHECK(!c->closed);
    widen(c, SIZE_MAX);
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    pass(&w, 74990); /* and now it is idle */
    CHECK(!c->closed);
    pass(&w, 15);
    CHECK(c->closed);
    close_world(&w);
}

/* ---- the budget ---- */

TEST(beyond_the_budget_a_slow_reader_is_cut_off) {
    peer *slow[2], *c;
    w.cfg.history_bytes = 200000; /* at most half is for them */
    w.cfg.trusted_proxies = "127.0.0.0/8"; /* whose share of it is not bounded */
    open_world(&w);
    park_slow(&slow[0], 1, 400);
    publish_padded(&w, "big", 60000);
    settle(&w);
    CHECK(stats_of(&w).pinned_bytes > 60000);
    park_slow(&slow[1], 1, 400);
    publish_padded(&w, "big", 60000);
    settle(&w);
    CHECK(!slow[0]->closed);
    CHECK(slow[1]->closed); /* its cursor will ask again */
    CHECK(stats_of(&w).pinned_bytes <= 100000);
    c = dial(&w);
    CHECK_INT(ask(&w, c, "/")->status, 404);
    widen(slow[0], SIZE_MAX);
    settle(&w);
    CHECK_STR(member(take(slow[0])->body, "count"), "1");
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    close_world(&w);
}

/* One address may hold a quarter of that half; who is elsewhere is not cut off. */
TEST(beyond_its_share_an_address_is_cut_off) {
    peer *slow[3], *far;
    int i;
    w.cfg.history_bytes = 8 * 25000;
    open_world(&w);
    for (i = 0; i < 3; i++) {
        char name[20];
        snprintf(name, sizeof name, "c%d", i);
        slow[i] = dial(&w);
        get_as(slow[i], "/api/poll/big?last_id=now", name);
        settle(&w);
        widen(slow[i], 400);
        publish_padded(&w, "big", 11000 + (size_t)i); /* each another reply, so none is shared */
        settle(&w);
        CHECK_INT(slow[i]->closed, i == 2);
    }
    CHECK(stats_of(&w).pinned_bytes > 20000 && stats_of(&w).pinned_bytes <= 25000);
    CHECK_INT(w.log_lines[LP_LOG_WARN], 1);
    CHECK(strstr(w.log, "reads too slowly: 1 time, the last from 127.0.0.1"));
    far = dial_from(&w, "127.0.0.2");
    get(far, "/api/poll/big?last_id=now");
    settle(&w);
    widen(far, 400);
    publish_padded(&w, "big", 11000);
    settle(&w);
    CHECK(!far->closed);
    widen(far, SIZE_MAX);
    widen(slow[0], SIZE_MAX);
    widen(slow[1], SIZE_MAX);
    settle(&w);
    CHECK_STR(member(take(far)->body, "count"), "1");
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    close_world(&w);
}

/* What several are sent is kept once, and each address is charged for it as long as one of
   its connections waits. */
TEST(what_is_shared_is_charged_to_each_address_that_waits) {
    static const char *const from[] = {"10.0.0.1", "10.0.0.1", "10.0.0.2"};
    peer *slow[3];
    uint64_t charged;
    int i;
    w.cfg.hosts = "localhost";
    open_world(&w);
    for (i = 0; i < 3; i++) {
        slow[i] = dial_from(&w, from[i]);
        get(slow[i], "/api/poll/big?last_id=now");
        settle(&w);
        widen(slow[i], 400);
    }
    publish_padded(&w, "big", 11000);
    settle(&w);
    charged = stats_of(&w).pinned_bytes;
    CHECK(charged > 11000 && charged < 12000);
    for (i = 0; i < 3; i++) { /* check_accounts counts after each step */
        CHECK_INT(stats_of(&w).pinned_bytes, charged);
        if (i == 1) reset(slow[i]);
        else widen(slow[i], SIZE_MAX);
        settle(&w);
    }
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    close_world(&w);
}

/* The record that a slow reader has counts as well. */
TEST(beyond_partial_bytes_max_a_slow_reader_is_cut_off) {
    enum { N = 400 };
    peer *slow[N];
    int i, closed = 0;
    w.cfg.partial_bytes_max = 65536;
    w.cfg.waiters_per_client = N;
    w.cfg.trusted_proxies = "127.0.0.0/8";
    open_world(&w);
    park_slow(slow, N, 400);
    publish_padded(&w, "big", 60000);
    settle(&w);
    CHECK(w.s->hub.partial_bytes <= 65536);
    for (i = 0; i < N; i++) closed += slow[i]->closed;
    CHECK_INT(N - closed, 65536 / sizeof(lpi_request_buffer));
    for (i = 0; i < N; i++) {
        if (slow[i]->closed) continue;
        widen(slow[i], SIZE_MAX);
        settle(&w);
        CHECK_STR(member(take(slow[i])->body, "count"), "1");
    }
    CHECK_INT(w.s->hub.partial_bytes, 0);
    close_world(&w);
}

TEST(what_is_pinned_leaves_less_for_history) {
    peer *slow;
    w.cfg.history_bytes = 125000;
    w.cfg.trusted_proxies = "127.0.0.0/8";
    open_world(&w);
    park_slow(&slow, 1, 400);
    publish_padded(&w, "big", 60000);
    settle(&w);
    CHECK(stats_of(&w).pinned_bytes > 60000);
    publish_padded(&w, "small", 10000);
    CHECK(stats_of(&w).pinned_bytes + stats_of(&w).history_bytes <= 125000);
    CHECK_INT(stats_of(&w).messages, 1);
    widen(slow, SIZE_MAX);
    settle(&w);
    CHECK_STR(member(take(slow)->body, "count"), "1"); /* it was not taken from him */
    close_world(&w);
}

TEST(the_budget_may_be_lifted) {
    peer *slow[3];
    w.cfg.history_bytes = LP_UNLIMITED;
    open_world(&w);
    park_slow(slow, 3, 10);
    publish_padded(&w, "big", 65000);
    settle(&w);
    CHECK(stats_of(&w).pinned_bytes > 3 * 65000);
    CHECK(!slow[0]->closed && !slow[1]->closed && !slow[2]->closed);
    close_world(&w);
}

TEST(without_memory_a_slow_reader_is_cut_off) {
    int k;
    for (k = 1; k <= 2; k++) {
        peer *c;
        memset(&w, 0, sizeof w);
        open_world(&w);
        park_slow(&c, 1, 400);
        publish_padded(&w, "big", 5000);
        lpi_text_room(&w.s->loops[0].json.text, 10000);
        lpi_text_room(&w.s->loops[0].head, 1000);
        w.m.fail_at = w.m.calls + (size_t)k;
        settle(&w);
        CHECK_INT(w.m.failed, 1);
        CHECK(c->closed);
        CHECK_INT(stats_of(&w).pinned_bytes, 0);
        CHECK_INT(ask(&w, dial(&w), "/")->status, 404);
        close_world(&w);
    }
}

/* ---- the poller fails ---- */

/* The record must not be given back with its timer armed. */
TEST(a_poller_that_fails_at_a_short_write_closes) {
    peer *c, *d;
    open_world(&w);
    park_slow(&c, 1, 10);
    fault(&w, K_POLLER_SET, ENOMEM, 0, 1);
    publish_padded(&w, "big", 1000);
    settle(&w);
    CHECK(c->closed);
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    d = dial(&w);
    park(&w, d, "/api/poll/news?timeout=1");
    pass(&w, 100000);
    CHECK_INT(take(d)->status, 200);
    close_world(&w);
}

TEST(a_poller_that_fails_at_a_refusal_behind_a_pause_closes) {
    peer *c;
    int i;
    w.cfg.head_bytes_max = 256;
    open_world(&w);
    c = dial(&w);
    say(c, "GET /api/poll/news HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    for (i = 0; i < 50; i++) get(c, "/nowhere");
    settle(&w);
    CHECK(!(lpi_connection_at(&w.s->loops[0], 0)->interest & LP_READ)); /* paused */
    fault(&w, K_POLLER_SET, ENOMEM, 0, 1); /* when it would linger */
    publish_n(&w, "news", 1);
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    CHECK(c->closed);
    pass(&w, 100000);
    close_world(&w);
}

TEST(a_poller_that_fails_after_a_write_closes) {
    peer *c;
    open_world(&w);
    park_slow(&c, 1, 10);
    publish_padded(&w, "big", 1000);
    settle(&w);
    widen(c, SIZE_MAX);
    fault(&w, K_POLLER_SET, ENOMEM, 0, 1);
    settle(&w);
    CHECK(c->closed);
    pass(&w, 100000);
    close_world(&w);
}

TEST(a_poller_that_fails_at_a_pause_closes) {
    peer *c;
    int i;
    w.cfg.head_bytes_max = 256;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/news");
    for (i = 0; i < 50; i++) get(c, "/nowhere");
    fault(&w, K_POLLER_SET, ENOMEM, 0, 1);
    settle(&w);
    CHECK(c->closed);
    CHECK_INT(stats_of(&w).waiters, 0);
    close_world(&w);
}

/* ---- what comes while it writes ---- */

TEST(requests_behind_a_slow_reply_wait_and_are_bounded) {
    peer *c;
    int i;
    w.cfg.head_bytes_max = 512;
    open_world(&w);
    publish_padded(&w, "big", 60000);
    c = dial(&w);
    widen(c, 1000);
    get(c, "/api/poll/big");
    settle(&w);
    CHECK_INT(w.s->loops[0].phases[LPI_WRITING], 1);
    for (i = 0; i < 100; i++) get(c, "/nowhere");
    settle(&w);
    CHECK(lpi_connection_at(&w.s->loops[0], 0)->buffer->in_length <= 512);
    widen(c, SIZE_MAX);
    settle(&w);
    CHECK_STR(member(take(c)->body, "count"), "1");
    for (i = 0; i < 100; i++) CHECK_INT(take(c)->status, 404);
    CHECK_SILENT(c);
    CHECK_INT(lpi_connection_at(&w.s->loops[0], 0)->phase, LPI_IDLE);
    close_world(&w);
}

TEST(an_end_while_it_writes_is_answered_to_the_last_byte) {
    peer *c;
    open_world(&w);
    publish_padded(&w, "big", 60000);
    c = dial(&w);
    widen(c, 1000);
    get(c, "/api/poll/big");
    get(c, "/nowhere");
    finish(c);
    CHECK(settle(&w) < 20); /* and the end is not asked for again and again */
    CHECK(!c->closed);
    CHECK(pass(&w, 1000) < 10);
    widen(c, SIZE_MAX);
    settle(&w);
    CHECK_STR(member(take(c)->body, "count"), "1");
    CHECK_INT(take(c)->status, 404);
    CHECK(c->closed && !c->cut);
    close_world(&w);
}

TEST(an_end_while_it_writes_and_reading_is_paused) {
    peer *c;
    int i;
    w.cfg.head_bytes_max = 256;
    open_world(&w);
    publish_padded(&w, "big", 60000);
    c = dial(&w);
    widen(c, 1000);
    get(c, "/api/poll/big");
    settle(&w);
    for (i = 0; i < 30; i++) get(c, "/nowhere");
    settle(&w);
    finish(c);
    CHECK(settle(&w) < 20);
    CHECK(pass(&w, 1000) < 10);
    CHECK(!c->closed);
    widen(c, SIZE_MAX);
    settle(&w);
    CHECK_STR(member(take(c)->body, "count"), "1");
    for (i = 0; i < 30; i++) CHECK_INT(take(c)->status, 404);
    CHECK(c->closed && !c->cut);
    close_world(&w);
}

/* The client has ended its stream behind a poll that is served later: half closed
   while parked, its record is free at once. */
TEST(a_poll_behind_a_slow_reply_and_an_end_is_not_parked) {
    peer *c;
    open_world(&w);
    publish_padded(&w, "big", 60000);
    c = dial(&w);
    widen(c, 1000);
    get(c, "/api/poll/big");
    get(c, "/api/poll/news");
    finish(c);
    settle(&w);
    widen(c, SIZE_MAX);
    settle(&w);
    CHECK_STR(member(take(c)->body, "count"), "1");
    CHECK(c->closed);
    CHECK_INT(stats_of(&w).waiters, 0);
    CHECK_INT(stats_of(&w).connections, 0);
    close_world(&w);
}

TEST(a_reset_while_it_writes_closes_and_releases) {
    peer *c;
    open_world(&w);
    park_slow(&c, 1, 10);
    publish_padded(&w, "big", 1000);
    settle(&w);
    CHECK(stats_of(&w).pinned_bytes);
    reset(c);
    settle(&w);
    CHECK(c->closed);
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    close_world(&w);
}

TEST(a_refusal_that_is_cut_short_is_finished_and_lingers) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    widen(c, 20);
    say(c, "nonsense\r\n\r\n");
    settle(&w);
    CHECK(!c->shut);
    widen(c, SIZE_MAX);
    settle(&w);
    CHECK_INT(take(c)->status, 400);
    CHECK(c->shut && !c->closed);
    close_world(&w);
}
