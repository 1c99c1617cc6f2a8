/* Accepting: how many at once, and what happens when there is no room. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

enum { REST_MS = 250 };

static void check_turned_away(peer *c) {
    answer *a = take(c);
    CHECK_INT(a->status, 503);
    CHECK_STR(a->body, "{\"error\":\"Server at capacity\"}");
    CHECK_STR(heading(a, "Connection"), "close");
    CHECK_STR(heading(a, "Retry-After"), "5");
    CHECK_STR(heading(a, "Content-Type"), "application/json");
    CHECK(c->shut);
    CHECK(c->closed);
    CHECK(!c->cut);
    CHECK_SILENT(c);
}

TEST(one_poller_set_per_connection) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    get(c, "/");
    settle(&w);
    CHECK_INT(take(c)->status, 404);
    CHECK_INT(c->sets, 1);
    CHECK_INT(w.k.all[c->description].watched, LP_READ | LP_HANGUP | LP_EDGE);
    CHECK_INT(c->recvs, 1);
    CHECK_INT(c->sends, 1);
    CHECK_INT(stats_of(&w).connections, 1);
    close_world(&w);
}

TEST(a_bounded_number_is_accepted_per_step) {
    peer *c[200];
    int i, steps = 1;
    open_world(&w);
    for (i = 0; i < 200; i++) c[i] = dial(&w);
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(stats_of(&w).connections, LPI_ACCEPTS);
    while (stats_of(&w).connections < 200) {
        CHECK_INT(turn(&w, 0), LP_OK);
        steps++;
    }
    CHECK_INT(steps, (200 + LPI_ACCEPTS - 1) / LPI_ACCEPTS);
    for (i = 0; i < 200; i++) CHECK(c[i]->accepted);
    close_world(&w);
}

TEST(a_storm_of_connections_does_not_hold_up_the_others) {
    peer *c;
    int i;
    open_world(&w);
    c = dial(&w);
    settle(&w);
    for (i = 0; i < 500; i++) dial(&w);
    get(c, "/");
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(take(c)->status, 404);
    CHECK(stats_of(&w).connections <= 1 + LPI_ACCEPTS);
    close_world(&w);
}

TEST(a_connections_own_trouble_is_not_the_listeners) {
    static const int errors[] = {ECONNABORTED, EINTR, EPROTO};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(errors); i++) {
        peer *c = dial(&w);
        fault(&w, K_ACCEPT, errors[i], 0, 3);
        settle(&w);
        CHECK(c->accepted);
        CHECK_INT(w.s->accept_resume_ms, 0);
    }
    CHECK_INT(w.log_lines[LP_LOG_WARN], 0);
    close_world(&w);
}

/* A security module may forbid it for ever: the connection stays in the queue. */
TEST(what_is_forbidden_is_not_tried_without_end) {
    peer *c;
    uint32_t calls;
    open_world(&w);
    c = dial(&w);
    fault(&w, K_ACCEPT, EPERM, 0, UINT32_MAX);
    settle(&w);
    CHECK(w.s->accept_resume_ms > 0);
    calls = w.k.calls[K_ACCEPT];
    pass(&w, 10 * LPI_ACCEPT_PAUSE_MS);
    CHECK(w.k.calls[K_ACCEPT] <= calls + 12);
    fault(&w, K_ACCEPT, 0, 0, 0);
    pass(&w, 2 * LPI_ACCEPT_PAUSE_MS);
    CHECK(c->accepted);
    close_world(&w);
}

/* At its edge; what one address may not have, another may. */
TEST(an_address_has_so_many_connections_and_no_more) {
    peer *c[4], *far[2];
    int i, round;
    w.cfg.connections_per_address = 3;
    open_world(&w);
    for (round = 0; round < 3; round++) {
        for (i = 0; i < 4; i++) {
            c[i] = dial(&w);
            settle(&w);
            CHECK_INT(stats_of(&w).connections, i < 3 ? i + 1 : 3);
        }
        CHECK_INT(take(c[3])->status, 503);
        CHECK(c[3]->shut && c[3]->closed);
        far[0] = dial_from(&w, "2001:db8:0:1::1"); /* of IPv6 by /64 */
        far[1] = dial_from(&w, "2001:db8:0:1:ffff::1");
        CHECK_INT(ask(&w, far[0], "/")->status, 404);
        CHECK_INT(ask(&w, far[1], "/")->status, 404);
        for (i = 0; i < 3; i++) finish(c[i]);
        finish(far[0]);
        finish(far[1]);
        settle(&w);
        CHECK_INT(stats_of(&w).connections, 0);
        CHECK_INT(w.s->hub.accounts.used, 0);
    }
    CHECK(strstr(w.log, "503 Too many connections from address"));
    CHECK(strstr(w.log, "from 127.0.0.1"));
    close_world(&w);
}

TEST(a_proxy_has_as_many_as_it_likes) {
    peer *c[4];
    int i;
    w.cfg.connections_per_address = 2;
    w.cfg.trusted_proxies = "127.0.0.1";
    open_world(&w);
    for (i = 0; i < 4; i++) { /* and who is behind it too, however many */
        c[i] = dial(&w);
        say(c[i], "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n");
        settle(&w);
        CHECK_INT(take(c[i])->status, 404);
    }
    CHECK_INT(stats_of(&w).connections, 4);
    for (i = 0; i < 3; i++) { /* which does not count against who comes by itself */
        c[i] = dial_from(&w, "10.0.0.1");
        settle(&w);
        CHECK_INT(c[i]->shut, i == 2);
    }
    close_world(&w);
}

/* EMFILE: each of those who wait is told, by way of the reserved descriptor. */
TEST(without_descriptors_the_reserve_turns_away) {
    peer *first, *c[5], *later;
    int i;
    open_world(&w);
    first = dial(&w);
    settle(&w);
    w.k.fd_limit = kernel_open_count(&w.k, K_FREE);
    for (i = 0; i < 5; i++) {
        c[i] = dial(&w);
        get(c[i], "/api/poll/news");
    }
    settle(&w);
    for (i = 0; i < 5; i++) check_turned_away(c[i]);
    CHECK_INT(kernel_open_count(&w.k, K_SPARE), 1);
    CHECK_INT(stats_of(&w).connections, 1);
    CHECK_INT(stats_of(&w).refused, 5);
    CHECK_INT(ask(&w, first, "/")->status, 404);
    w.k.fd_limit = 0;
    later = dial(&w);
    get(later, "/");
    pass(&w, REST_MS + 1);
    CHECK_INT(take(later)->status, 404);
    close_world(&w);
}

/* Nobody is left in the queue, so there is nothing to rest from. */
TEST(the_reserve_makes_no_rest_necessary) {
    peer *a, *b;
    open_world(&w);
    w.k.fd_limit = kernel_open_count(&w.k, K_FREE);
    a = dial(&w);
    settle(&w);
    check_turned_away(a);
    b = dial(&w);
    settle(&w);
    CHECK_INT(w.s->accept_resume_ms, 0);
    check_turned_away(b);
    close_world(&w);
}

TEST(without_even_a_reserve_the_listener_rests) {
    peer *c;
    uint32_t calls;
    int steps;
    prepare_world(&w);
    fault(&w, K_RESERVE, EMFILE, 0, 1000);
    open_world(&w);
    CHECK(w.s->reserve < 0);
    w.k.fd_limit = kernel_open_count(&w.k, K_FREE);
    c = dial(&w);
    settle(&w);
    CHECK(w.s->accept_resume_ms);
    CHECK_STR(lp_s(w.log), "accepting pauses");
    calls = w.k.calls[K_ACCEPT];
    steps = pass(&w, 10 * REST_MS);
    CHECK(steps < 60); /* and not a busy loop */
    CHECK(w.k.calls[K_ACCEPT] - calls < 30);
    CHECK(!c->accepted);
    fault(&w, K_RESERVE, 0, 0, 0);
    w.k.fd_limit = 0;
    get(c, "/");
    pass(&w, REST_MS + 1);
    CHECK_INT(take(c)->status, 404);
    close_world(&w);
}

static void check_pause(int error) {
    peer *c;
    uint64_t began;
    memset(&w, 0, sizeof w);
    open_world(&w);
    fault(&w, K_ACCEPT, error, 0, 1);
    c = dial(&w);
    began = now_ms(&w);
    settle(&w);
    CHECK(!c->accepted);
    CHECK_INT(w.log_lines[LP_LOG_WARN], 1);
    while (!c->accepted) CHECK_INT(turn(&w, 1), LP_OK);
    CHECK(now_ms(&w) - began >= REST_MS);
    CHECK(now_ms(&w) - began <= REST_MS + 2);
    CHECK_INT(w.s->accept_resume_ms, 0);
    close_world(&w);
}

TEST(out_of_buffers_the_listener_rests_and_resumes) {
    check_pause(ENOBUFS);
    check_pause(ENOMEM);
    check_pause(EOPNOTSUPP); /* whatever else: never a busy loop */
}

TEST(a_rest_that_cannot_end_goes_on) {
    peer *c;
    open_world(&w);
    fault(&w, K_ACCEPT, ENOBUFS, 0, 1);
    c = dial(&w);
    settle(&w);
    fault(&w, K_POLLER_SET, ENOMEM, 0, 2);
    pass(&w, REST_MS + 5);
    CHECK(!c->accepted);
    pass(&w, 2 * REST_MS + 5);
    CHECK(c->accepted);
    close_world(&w);
}

TEST(a_rest_does_not_hold_up_those_who_are_here) {
    peer *c, *d;
    open_world(&w);
    c = dial(&w);
    settle(&w);
    fault(&w, K_ACCEPT, ENOBUFS, 0, 1);
    d = dial(&w);
    CHECK_INT(ask(&w, c, "/")->status, 404);
    CHECK(!d->accepted);
    close_world(&w);
}

TEST(beyond_connections_max_one_is_turned_away) {
    peer *c[4];
    int i;
    w.cfg.connections_max = 3;
    open_world(&w);
    for (i = 0; i < 4; i++) {
        c[i] = dial(&w);
        get(c[i], "/");
        settle(&w);
    }
    for (i = 0; i < 3; i++) CHECK_INT(take(c[i])->status, 404);
    check_turned_away(c[3]);
    CHECK_INT(stats_of(&w).refused, 1);
    finish(c[0]);
    settle(&w);
    c[3] = dial(&w);
    CHECK_INT(ask(&w, c[3], "/")->status, 404);
    close_world(&w);
}

TEST(a_poller_that_takes_no_more_turns_away) {
    peer *c;
    open_world(&w);
    fault(&w, K_POLLER_SET, ENOSPC, 0, 1);
    c = dial(&w);
    get(c, "/");
    settle(&w);
    check_turned_away(c);
    c = dial(&w);
    CHECK_INT(ask(&w, c, "/")->status, 404);
    close_world(&w);
}

TEST(without_memory_for_a_record_one_is_turned_away) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    settle(&w);
    finish(c);
    settle(&w);
    w.m.fail_at = w.m.calls + 1; /* nothing is needed: a record is there */
    c = dial(&w);
    settle(&w);
    CHECK_INT(w.m.failed, 0);
    close_world(&w);

    memset(&w, 0, sizeof w);
    open_world(&w);
    w.s->loops[0].json.text.bytes = NULL; /* (it has none yet) */
    lp_json_object(&w.s->loops[0].json), lp_json_end(&w.s->loops[0].json);
    w.m.fail_at = w.m.calls + 1;
    c = dial(&w);
    settle(&w);
    CHECK_INT(w.m.failed, 1);
    CHECK(c->closed);
    c = dial(&w);
    CHECK_INT(ask(&w, c, "/")->status, 404);
    close_world(&w);
}

/* Descriptor 0 is as good as any other. */
TEST(descriptor_zero_is_one) {
    peer *c;
    open_world(&w);
    CHECK_INT(w.s->loops[0].poller.fd, 0); /* all were opened from there */
    c = dial(&w);
    CHECK_INT(ask(&w, c, "/")->status, 404);
    close_world(&w);
}

TEST(accepting_works_again_after_every_error) {
    static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EINTR, EIO};
    int i;
    open_world(&w);
    for (i = 0; i < 300; i++) {
        peer *c = dial(&w);
        fault(&w, K_ACCEPT, errors[unit_below(LPI_COUNT(errors))], 0, unit_below(4));
        pass(&w, 4 * REST_MS);
        if (c->closed) { /* turned away */
            check_turned_away(c);
            continue;
        }
        CHECK(c->accepted);
        CHECK_INT(ask(&w, c, "/")->status, 404);
        finish(c);
    }
    close_world(&w);
}
