/* Closing: whatever a connection was doing, all that it held is free at once. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

static void leave_by(peer *c, int how) {
    if (how) reset(c);
    else finish(c);
}

static uint32_t armed_timers(void) {
    lpi_wheel *wheel = &w.s->loops[0].wheel;
    uint32_t slot, i, n = 0;
    for (slot = 0; slot <= LPI_DUE_SLOT; slot++)
        for (i = wheel->heads[slot]; i != LPI_NONE; i = lpi_timer_at(wheel, i)->link.next)
            n++;
    return n;
}

TEST(a_parked_poll_that_leaves_is_free_at_once) {
    int how;
    for (how = 0; how < 2; how++) {
        peer *c;
        memset(&w, 0, sizeof w);
        open_world(&w);
        c = dial(&w);
        park(&w, c, "/api/poll/a,b,c?timeout=60");
        CHECK_INT(armed_timers(), 1);
        CHECK_INT(w.s->hub.waiters.used, 3);
        leave_by(c, how);
        CHECK_INT(turn(&w, 0), LP_OK);
        CHECK(c->closed);
        CHECK_SILENT(c);
        CHECK_INT(stats_of(&w).waiters, 0);
        CHECK_INT(stats_of(&w).connections, 0);
        CHECK_INT(w.s->hub.waiters.used, 0);
        CHECK_INT(w.s->hub.lists.used, 0);
        CHECK_INT(w.s->hub.counters.used, 0);
        CHECK_INT(w.s->loops[0].connections.used, 0);
        CHECK_INT(armed_timers(), 0);
        CHECK_INT(publish(&w, "a", "{}").waiters, 0);
        close_world(&w);
    }
}

TEST(the_limits_count_those_who_are_here) {
    peer *c[6];
    int i, round;
    open_world(&w);
    for (round = 0; round < 3; round++) {
        for (i = 0; i < 6; i++) {
            c[i] = dial(&w);
            park(&w, c[i], "/api/poll/a");
        }
        CHECK_INT(ask(&w, dial(&w), "/api/poll/a")->status, 429);
        for (i = 0; i < 6; i++) leave_by(c[i], i & 1);
        settle(&w);
        CHECK_INT(stats_of(&w).waiters, 0);
    }
    close_world(&w);
}

TEST(one_leaves_and_the_others_stay) {
    peer *c[30];
    int i, left = 30;
    open_world(&w);
    for (i = 0; i < 30; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        c[i] = dial(&w);
        get_as(c[i], i & 1 ? "/api/poll/a" : "/api/poll/b,a", name);
    }
    settle(&w);
    while (left > 5) {
        i = (int)unit_below(30);
        if (c[i]->closed) continue;
        leave_by(c[i], (int)unit_below(2));
        settle(&w);
        left--;
        CHECK_INT(stats_of(&w).waiters, left);
    }
    CHECK_INT(publish(&w, "a", "{}").waiters, left);
    settle(&w);
    for (i = 0; i < 30; i++)
        if (!c[i]->closed) CHECK_STR(member(take(c[i])->body, "count"), "1");
    close_world(&w);
}

/* Told of the message and gone, in the same step: nothing is lost but the reply. */
TEST(a_poll_that_leaves_as_it_is_answered) {
    int how;
    for (how = 0; how < 2; how++) {
        peer *c;
        memset(&w, 0, sizeof w);
        open_world(&w);
        c = dial(&w);
        park(&w, c, "/api/poll/a");
        publish(&w, "a", "{}");
        leave_by(c, how);
        settle(&w);
        CHECK(c->closed);
        CHECK_INT(stats_of(&w).connections, 0);
        CHECK_STR(member(ask(&w, dial(&w), "/api/poll/a")->body, "count"), "1");
        close_world(&w);
    }
}

TEST(an_end_behind_a_poll_that_is_answered_at_once) {
    peer *c;
    open_world(&w);
    publish(&w, "a", "{}");
    c = dial(&w);
    get(c, "/api/poll/a");
    finish(c);
    settle(&w);
    CHECK_STR(member(take(c)->body, "count"), "1");
    CHECK(c->closed && !c->cut);
    close_world(&w);
}

TEST(an_end_behind_a_poll_that_would_wait) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    get(c, "/api/poll/a");
    finish(c);
    settle(&w);
    CHECK_SILENT(c);
    CHECK(c->closed);
    CHECK_INT(stats_of(&w).waiters, 0);
    close_world(&w);
}

/* The poll is waiting, and requests are kept behind it, when the client ends. */
TEST(an_end_behind_requests_behind_a_parked_poll) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a");
    post(c, "/api/publish/b", "{}");
    settle(&w);
    finish(c);
    settle(&w);
    CHECK(c->closed);
    CHECK_INT(stats_of(&w).waiters, 0);
    CHECK_INT(w.s->loops[0].spare_count, 1);
    close_world(&w);
}

TEST(connection_close_is_kept) {
    peer *c;
    answer *a;
    open_world(&w);
    c = dial(&w);
    say(c, "GET /api/poll/a?timeout=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    get(c, "/nowhere");
    pass(&w, 1002);
    a = take(c);
    CHECK_STR(member(a->body, "status"), "timeout");
    CHECK_STR(heading(a, "Connection"), "close");
    CHECK_SILENT(c);
    CHECK(c->shut);
    finish(c);
    settle(&w);
    CHECK(c->closed && !c->cut);
    close_world(&w);
}

TEST(http_1_0_is_closed_unless_it_asked_to_stay) {
    peer *c;
    answer *a;
    open_world(&w);
    c = dial(&w);
    say(c, "GET / HTTP/1.0\r\n\r\n");
    settle(&w);
    a = take(c);
    CHECK_STR(heading(a, "Connection"), "close");
    CHECK(c->shut);
    c = dial(&w);
    say(c, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    settle(&w);
    a = take(c);
    CHECK_STR(heading(a, "Connection"), "keep-alive");
    CHECK(!c->shut);
    CHECK_INT(ask(&w, c, "/")->status, 404);
    close_world(&w);
}

TEST(a_lingering_client_that_has_ended_is_closed_at_once) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    say(c, "nonsense\r\n\r\n");
    finish(c);
    settle(&w);
    CHECK_INT(take(c)->status, 400);
    CHECK(c->closed);
    c = dial(&w);
    say(c, "nonsense\r\n\r\n");
    settle(&w);
    CHECK(!c->closed);
    reset(c);
    settle(&w);
    CHECK(c->closed);
    close_world(&w);
}

TEST(a_shutdown_that_fails_closes) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    fault(&w, K_SHUTDOWN, ENOTCONN, 0, 1);
    say(c, "nonsense\r\n\r\n");
    settle(&w);
    CHECK_INT(take(c)->status, 400);
    CHECK(c->closed);
    close_world(&w);
}

/* Records are reused only after the step in which they were given back. */
TEST(descriptors_and_records_are_reused) {
    int i, rounds = unit_rounds(300);
    peer *c[10];
    open_world(&w);
    for (i = 0; i < 10; i++) c[i] = dial(&w);
    while (rounds--) {
        i = (int)unit_below(10);
        switch (unit_below(4)) {
        case 0: leave_by(c[i], (int)unit_below(2)); break;
        case 1: get(c[i], "/api/poll/a,b?last_id=now&timeout=1"); break;
        case 2: get(c[i], "/nowhere"); break;
        default: publish_n(&w, unit_one_in(2) ? "a" : "b", i);
        }
        if (unit_one_in(3)) pass(&w, unit_below(400));
        if (c[i]->fin || c[i]->rst) c[i] = dial(&w);
        CHECK_INT(turn(&w, 0), LP_OK);
    }
    settle(&w);
    CHECK(w.s->loops[0].connections.chunk_count == 1);
    close_world(&w);
}

/* As after a child process had a copy of the socket, and it could not be taken out of the
   poller. */
TEST(an_event_of_a_closed_connection_is_not_the_next_ones) {
    lpi_loop *loop;
    lp_event old;
    peer *c, *d;
    uint32_t recvs;
    int i;
    open_world(&w);
    loop = &w.s->loops[0];
    c = dial(&w);
    settle(&w);
    old.tag = kernel_find(&w.k, c->fd)->tag;
    old.what = LP_READ | LP_WRITE | LP_HANGUP;
    finish(c);
    settle(&w);
    CHECK(c->closed);
    lpi_loop_event(loop, &old); /* nobody has the record */
    for (i = 0; i < 3; i++) {
        d = dial(&w);
        park(&w, d, "/api/poll/a");
        CHECK_INT(kernel_find(&w.k, d->fd)->tag & LPI_TAG_INDEX, old.tag & LPI_TAG_INDEX);
        recvs = d->recvs;
        lpi_loop_event(loop, &old);
        CHECK_INT(d->recvs, recvs);
        CHECK(!d->closed);
        finish(d);
        settle(&w);
    }
    old.tag = 0x00F00000; /* of a chunk that was given back */
    lpi_loop_event(loop, &old);
    close_world(&w);
}

TEST(a_listener_that_is_closed_accepts_nobody) {
    lp_event event = {LPI_TAG_LISTENER, LP_READ};
    uint32_t calls;
    open_world(&w);
    park(&w, dial(&w), "/api/poll/a");
    lp_stop(w.s);
    CHECK_INT(turn(&w, 0), LP_OK);
    calls = w.k.calls[K_ACCEPT];
    lpi_loop_event(&w.s->loops[0], &event);
    CHECK_INT(w.k.calls[K_ACCEPT], calls);
    CHECK_INT(w.log_lines[LP_LOG_WARN], 0);
    close_world(&w);
}

TEST(destroying_closes_whatever_is_open) {
    peer *c[6];
    open_world(&w);
    publish_padded(&w, "big", 60000);
    c[0] = dial(&w);
    park(&w, c[0], "/api/poll/a,b");
    c[1] = dial(&w);
    say(c[1], "GET");
    c[2] = dial(&w);
    say(c[2], "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
              "Content-Type: application/json\r\nContent-Length: 5\r\n\r\n{}");
    c[3] = dial(&w);
    widen(c[3], 300);
    get(c[3], "/api/poll/big");
    c[4] = dial(&w);
    say(c[4], "nonsense\r\n\r\n");
    settle(&w);
    c[5] = dial(&w); /* in the queue */
    get(c[0], "/nowhere");
    close_world(&w);
}
