/* Reading: requests in pieces, many at once, behind a poll; deadlines; ends of streams. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

static const char *const whole_request =
    "POST /api/publish/news HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    "Content-Length: 9\r\n\r\n{\"n\":123}";

static const char *const chunked_request =
    "POST /api/publish/news HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\n{\"n\r\n5\r\n\":123\r\n1\r\n}\r\n0\r\nT: v\r\n\r\n";

static uint32_t phase_of(uint32_t index) {
    return lpi_connection_at(&w.s->loops[0], index)->phase;
}

/* Wherever it is cut in two, three, or into bytes: the same. */
static void check_pieces(const char *text) {
    size_t length = strlen(text), i;
    int n = 0;
    peer *c = dial(&w);
    for (i = 1; i < length; i++) {
        say_bytes(c, text, i);
        settle(&w);
        CHECK_SILENT(c);
        say(c, text + i);
        settle(&w);
        CHECK_INT(take(c)->status, 200);
        n++;
    }
    for (i = 0; i < length; i++) {
        CHECK_SILENT(c);
        say_bytes(c, text + i, 1);
        settle(&w);
    }
    CHECK_INT(take(c)->status, 200);
    c->piece = 7; /* short reads, all of it being there */
    say(c, text);
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    CHECK_INT(stats_of(&w).published, n + 2);
    CHECK(has(ask(&w, c, "/api/poll/news?timeout=0&limit=1000")->body, "\"n\":123}"));
    CHECK_INT(w.s->loops[0].spare_count, 1); /* its buffer was given back */
    close_world(&w);
}

TEST(a_request_in_pieces) {
    open_world(&w);
    check_pieces(whole_request);
}

TEST(a_chunked_request_in_pieces) {
    open_world(&w);
    check_pieces(chunked_request);
}

TEST(many_requests_in_one_read) {
    peer *c;
    int i;
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < 100; i++) say(c, i % 2 ? whole_request : chunked_request);
    settle(&w);
    for (i = 0; i < 100; i++) CHECK_INT(take(c)->status, 200);
    CHECK_SILENT(c);
    CHECK_INT(c->recvs, 1);
    CHECK_INT(c->sends, 100);
    CHECK_INT(c->sets, 1);
    CHECK_INT(stats_of(&w).published, 100);
    close_world(&w);
}

TEST(requests_cut_anywhere_in_a_long_pipeline) {
    peer *c;
    int i, rounds = unit_rounds(40);
    open_world(&w);
    c = dial(&w);
    while (rounds--) {
        int n = 1 + (int)unit_below(20);
        for (i = 0; i < n; i++) say(c, unit_one_in(2) ? whole_request : chunked_request);
        c->piece = 1 + unit_below(unit_one_in(3) ? 20 : 600);
        settle(&w);
        for (i = 0; i < n; i++) CHECK_INT(take(c)->status, 200);
        CHECK_SILENT(c);
    }
    close_world(&w);
}

/* What is pipelined behind a poll waits for its answer, and is then served in order. */
TEST(requests_behind_a_parked_poll_wait_and_keep_their_order) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    get(c, "/api/poll/news?timeout=30");
    post(c, "/api/publish/other", "{\"n\":1}");
    settle(&w);
    get(c, "/api/poll/other?timeout=30");
    get(c, "/nowhere");
    settle(&w);
    CHECK_SILENT(c);
    CHECK_INT(stats_of(&w).published, 0);
    publish_n(&w, "news", 7);
    settle(&w);
    CHECK_STR(member(take(c)->body, "n"), "7");
    CHECK_STR(member(take(c)->body, "status"), "published");
    CHECK_STR(member(take(c)->body, "n"), "1");
    CHECK_INT(take(c)->status, 404);
    CHECK_SILENT(c);
    CHECK_INT(c->sets, 1);
    close_world(&w);
}

TEST(polls_behind_a_poll_are_parked_one_after_the_other) {
    peer *c;
    int i;
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < 5; i++) get(c, "/api/poll/news?timeout=1&last_id=now");
    settle(&w);
    CHECK_INT(stats_of(&w).waiters, 1);
    for (i = 0; i < 5; i++) {
        publish_n(&w, "news", i);
        settle(&w);
        CHECK_STR(member(take(c)->body, "count"), "1");
        CHECK_SILENT(c);
    }
    CHECK_INT(stats_of(&w).waiters, 0);
    close_world(&w);
}

/* Who pipelines much gets a few turns a step, and the others theirs. */
TEST(a_long_pipeline_does_not_hold_up_the_others) {
    peer *c, *d;
    int i, steps = 0;
    open_world(&w);
    c = dial(&w);
    d = dial(&w);
    settle(&w);
    for (i = 0; i < 1000; i++) get(c, "/nowhere");
    while (c->sends < 1000) {
        uint32_t before = c->sends;
        get(d, "/nowhere");
        CHECK_INT(turn(&w, 0), LP_OK);
        CHECK(c->sends - before <= 16);
        CHECK_INT(take(d)->status, 404);
        steps++;
    }
    CHECK(steps >= 1000 / 16);
    for (i = 0; i < 1000; i++) CHECK_INT(take(c)->status, 404);
    get(c, "/nowhere");
    settle(&w);
    CHECK_INT(take(c)->status, 404);
    pass(&w, 74990); /* and the idle deadline is armed again */
    CHECK(!c->closed);
    pass(&w, 20);
    CHECK(c->closed);
    close_world(&w);
}

TEST(many_long_pipelines_take_turns) {
    enum { N = 100 };
    peer *c[N];
    int i, k;
    open_world(&w);
    for (i = 0; i < N; i++) {
        c[i] = dial(&w);
        for (k = 0; k < 40; k++) get(c[i], "/nowhere");
    }
    reset(c[7]); /* one leaves while it waits for its turn */
    for (i = 0; i < 2; i++) CHECK_INT(turn(&w, 0), LP_OK);
    CHECK(w.s->loops[0].phases[LPI_QUEUED] > 50);
    finish(c[8]); /* and one ends: it is answered nevertheless */
    for (k = 0; k < 5; k++) { /* the first, the last and some between leave */
        uint32_t first = w.s->loops[0].queue.head, last = w.s->loops[0].queue.tail;
        for (i = 0; i < N; i++)
            if (c[i]->fd == lpi_connection_at(&w.s->loops[0], k & 1 ? first : last)->fd) break;
        reset(c[i]);
        CHECK_INT(turn(&w, 0), LP_OK);
    }
    settle(&w);
    for (i = 0; i < N; i++)
        for (k = 0; k < 40 && !c[i]->rst; k++) CHECK_INT(take(c[i])->status, 404);
    CHECK(c[8]->closed && !c[8]->rst);
    close_world(&w);
}

/* At most head_bytes_max is kept behind a poll; the rest stays in the kernel. */
TEST(reading_pauses_behind_a_parked_poll_and_goes_on) {
    peer *c;
    int i, n = 2000;
    size_t said;
    w.cfg.head_bytes_max = 1024;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/news");
    for (i = 0; i < n; i++) get(c, "/nowhere");
    said = c->in_length - c->in_at;
    settle(&w);
    CHECK(said > 60000);
    CHECK_INT(said - (c->in_length - c->in_at), 1024);
    CHECK(!(lpi_connection_at(&w.s->loops[0], 0)->interest & LP_READ));
    CHECK_INT(lpi_connection_at(&w.s->loops[0], 0)->buffer->in_length, 1024);
    CHECK(pass(&w, 5000) < 30); /* and it is not asked again and again */
    publish_n(&w, "news", 1);
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    for (i = 0; i < n; i++) CHECK_INT(take(c)->status, 404);
    CHECK_SILENT(c);
    CHECK_INT(c->in_length - c->in_at, 0);
    CHECK_INT(ask(&w, c, "/")->status, 404);
    close_world(&w);
}

TEST(one_large_read_behind_a_poll_is_kept_once) {
    peer *c;
    int i;
    w.cfg.head_bytes_max = 1024;
    open_world(&w);
    c = dial(&w);
    get(c, "/api/poll/news");
    for (i = 0; i < 4000; i++) get(c, "/nowhere");
    settle(&w);
    CHECK(c->recvs <= 2);
    CHECK(lpi_connection_at(&w.s->loops[0], 0)->buffer->in_length <= LPI_READ_SIZE);
    publish_n(&w, "news", 1);
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    for (i = 0; i < 4000; i++) CHECK_INT(take(c)->status, 404);
    close_world(&w);
}

TEST(a_client_that_left_while_reading_paused_is_seen) {
    int how;
    for (how = 0; how < 2; how++) {
        peer *c;
        int i;
        memset(&w, 0, sizeof w);
        w.cfg.head_bytes_max = 256;
        open_world(&w);
        c = dial(&w);
        park(&w, c, "/api/poll/news");
        for (i = 0; i < 50; i++) get(c, "/nowhere");
        settle(&w);
        if (how) reset(c);
        else finish(c);
        settle(&w);
        CHECK(c->closed);
        CHECK_INT(stats_of(&w).waiters, 0);
        close_world(&w);
    }
}

/* The poller tells once of what comes, and is asked again when a read may have left something. */
TEST(a_read_that_fills_its_room_is_followed_by_another) {
    static const int left[] = {-1, 0, 1, LPI_READ_SIZE};
    static char body[3 * LPI_READ_SIZE];
    size_t i;
    w.cfg.message_bytes_max = 4 * LPI_READ_SIZE;
    open_world(&w);
    memset(body, 'x', sizeof body);
    memcpy(body, "{\"n\":\"", 6);
    memcpy(body + sizeof body - 2, "\"}", 2);
    for (i = 0; i < LPI_COUNT(left); i++) {
        peer *c = dial(&w);
        size_t first;
        settle(&w);
        CHECK_INT(c->sets, 1);
        sayf(c, "POST /api/publish/news HTTP/1.1\r\nHost: localhost\r\n"
                "Content-Type: application/json\r\nContent-Length: %lu\r\n\r\n",
             (unsigned long)sizeof body);
        first = (size_t)(LPI_READ_SIZE + left[i]) - c->in_length;
        say_bytes(c, body, first);
        settle(&w);
        CHECK_INT(c->in_length - c->in_at, 0);
        CHECK_INT(c->sets, 1 + (size_t)(LPI_READ_SIZE + left[i]) / LPI_READ_SIZE);
        CHECK_INT(c->recvs, 1 + (left[i] > 0));
        say_bytes(c, body + first, sizeof body - first);
        settle(&w);
        CHECK_INT(take(c)->status, 200);
        finish(c);
        settle(&w);
        CHECK(c->closed);
    }
    close_world(&w);
}

/* What was kept of the refused request leaves room to read. */
TEST(a_refusal_that_is_not_sent_at_once_reads_on) {
    static char body[5000];
    size_t kept;
    for (kept = 1023; kept <= 1025; kept++) {
        peer *c;
        w.cfg.head_bytes_max = 1024;
        open_world(&w);
        c = dial(&w);
        sayf(c, "POST /api/publish/news HTTP/1.1\r\nHost: localhost\r\n"
                "Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n");
        say_bytes(c, body, kept - c->in_length);
        settle(&w);
        CHECK_INT(lpi_connection_at(&w.s->loops[0], 0)->buffer->in_length, kept);
        widen(c, 10);
        w.m.fail_at = w.m.calls + 1;
        say_bytes(c, body, sizeof body);
        settle(&w);
        w.m.fail_at = 0;
        say_bytes(c, body, 100);
        settle(&w);
        CHECK_INT(c->in_length - c->in_at, 0);
        widen(c, SIZE_MAX);
        settle(&w);
        CHECK_INT(take(c)->status, 503);
        finish(c);
        settle(&w);
        CHECK(c->closed);
        CHECK(!c->cut);
        close_world(&w);
    }
}

/* The last bytes and the end come in one event. */
TEST(an_end_that_comes_with_the_last_bytes_is_read) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    settle(&w);
    get(c, "/api/poll/news?timeout=60");
    finish(c);
    settle(&w);
    CHECK(c->closed);
    CHECK_INT(stats_of(&w).waiters, 0);
    CHECK_INT(c->recvs, 2);
    close_world(&w);
}

TEST(interrupted_and_empty_reads_are_tried_again) {
    static const int errors[] = {EAGAIN, EINTR};
    size_t i;
    peer *c;
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < LPI_COUNT(errors); i++) {
        fault(&w, K_RECV, errors[i], 0, 2);
        CHECK_INT(ask(&w, c, "/")->status, 404);
        park(&w, c, "/api/poll/news?timeout=1");
        fault(&w, K_RECV, errors[i], 0, 2);
        get(c, "/");
        settle(&w);
        CHECK_INT(stats_of(&w).waiters, 1);
        pass(&w, 1002);
        CHECK_INT(take(c)->status, 200);
        CHECK_INT(take(c)->status, 404);
    }
    close_world(&w);
}

TEST(a_broken_connection_is_closed) {
    static const int errors[] = {ECONNRESET, EPIPE, ETIMEDOUT, EIO, ENOBUFS};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(errors); i++) {
        peer *c = dial(&w);
        settle(&w);
        fault(&w, K_RECV, errors[i], 0, 1);
        get(c, "/");
        settle(&w);
        CHECK(c->closed);
        CHECK_SILENT(c);
        CHECK_INT(stats_of(&w).connections, 0);
    }
    close_world(&w);
}

TEST(an_end_within_a_request_closes_without_a_word) {
    static const char *const starts[] = {"", "GET", "GET / HTTP/1.1\r\n",
        ("POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
         "Content-Length: 5\r\n\r\n{}")};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(starts); i++) {
        peer *c = dial(&w);
        say(c, starts[i]);
        settle(&w);
        finish(c);
        settle(&w);
        CHECK(c->closed);
        CHECK_SILENT(c);
        c = dial(&w); /* and all in one step */
        say(c, starts[i]);
        finish(c);
        settle(&w);
        CHECK(c->closed);
        CHECK_SILENT(c);
    }
    CHECK_INT(stats_of(&w).published, 0);
    close_world(&w);
}

TEST(an_end_behind_complete_requests_is_answered_then_closed) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    get(c, "/nowhere");
    say(c, whole_request);
    finish(c);
    settle(&w);
    CHECK_INT(take(c)->status, 404);
    CHECK_INT(take(c)->status, 200);
    CHECK(c->closed && !c->cut);
    close_world(&w);
}

/* More connections are ready than are read before the first of them is served, with more bytes
   than the loop's buffer takes: their bodies come whole, each on its own connection, and what
   they do happens in their order. Every seventh has ended its stream as well. */
TEST(connections_that_are_read_together_are_served_in_order) {
    enum { MANY = 3 * LPI_ARRIVALS + 1 };
    static char body[60000];
    static const uint32_t lengths[] = {40, 700, sizeof body};
    peer *c[MANY];
    answer *heard;
    char number[16];
    const char *at;
    uint32_t i, l;
    for (l = 0; l < LPI_COUNT(lengths); l++) {
        memset(&w, 0, sizeof w);
        open_world(&w);
        for (i = 0; i < MANY; i++) c[i] = dial(&w);
        settle(&w);
        for (i = 0; i < MANY; i++) {
            memset(body, ' ', lengths[l]);
            sprintf(number, "{\"n\":%u,", 1000 + i);
            memcpy(body, number, strlen(number));
            memcpy(body + lengths[l] - 6, "\"m\":1}", 6);
            sayf(c[i], "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
                       "Content-Type: application/json\r\nContent-Length: %u\r\n\r\n", lengths[l]);
            say_bytes(c[i], body, lengths[l]);
            if (i % 7 == 6) finish(c[i]);
        }
        settle(&w);
        for (i = 0; i < MANY; i++) {
            CHECK_INT(take(c[i])->status, 200);
            CHECK_INT(c[i]->closed, i % 7 == 6);
        }
        get(c[0], "/api/poll/a?last_id=0");
        settle(&w);
        heard = take(c[0]);
        CHECK_INT(heard->status, 200);
        at = heard->body.bytes;
        for (i = 0; (at = strstr(at, "\"n\":")) != NULL; at++, i++)
            CHECK_INT(atoi(at + 4), 1000 + i);
        CHECK(lengths[l] == sizeof body ? i >= 10 : i == MANY);
        close_world(&w);
    }
}

/* A client that is turned away is read as well, so that it sees why; not over others' requests. */
TEST(a_request_is_its_own_though_somebody_is_turned_away) {
    lp_event read = {0, LP_READ}, accepts = {LPI_TAG_LISTENER, LP_READ};
    peer *a, *b;
    w.cfg.connections_max = 1;
    open_world(&w);
    a = dial(&w);
    CHECK_INT(ask(&w, a, "/nowhere")->status, 404);
    get(a, "/api/poll/a?timeout=0");
    b = dial(&w);
    get(b, "/api/poll/b?timeout=wrong");
    read.tag = kernel_find(&w.k, a->fd)->tag;
    lpi_loop_event(&w.s->loops[0], &read);
    lpi_loop_event(&w.s->loops[0], &accepts);
    settle(&w);
    CHECK_INT(take(a)->status, 200);
    CHECK_INT(take(b)->status, 503);
    CHECK_CLOSED(b);
    close_world(&w);
}

/* What one request does to others that have arrived with it: these are closed, not served. */
static void close_all(lp_request *r, void *ctx) {
    lpi_loop *loop = r->loop;
    uint32_t index = 0;
    (void)ctx;
    for (; lpi_loop_each(loop, &index); index++)
        if (index != r->connection) lpi_close(loop, index);
    lp_reply(r, 200, "text/plain", lp_s("done"));
}

TEST(a_connection_that_is_closed_before_it_is_served_stays_closed) {
    peer *c[LPI_ARRIVALS];
    uint32_t i;
    open_world(&w);
    lp_on(w.s, "GET", "/close", close_all, NULL);
    for (i = 0; i < LPI_ARRIVALS; i++) c[i] = dial(&w);
    settle(&w);
    for (i = 0; i < LPI_ARRIVALS; i++) get(c[i], i ? "/nowhere" : "/close");
    settle(&w);
    CHECK_INT(take(c[0])->status, 200);
    for (i = 1; i < LPI_ARRIVALS; i++) {
        CHECK(c[i]->closed);
        CHECK_SILENT(c[i]);
    }
    CHECK_INT(stats_of(&w).connections, 1);
    close_world(&w);
}

TEST(what_is_no_request_ends_the_connection) {
    static const struct { const char *text; int status; } cases[] = {
        {"nonsense\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505},
        {"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501},
        {"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: 200-fine\r\n\r\n", 417},
        {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
         "Transfer-Encoding: chunked\r\n\r\n", 400}};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(cases); i++) {
        peer *c = dial(&w);
        answer *a;
        say(c, cases[i].text);
        say(c, whole_request); /* is not one any more */
        settle(&w);
        a = take(c);
        CHECK_INT(a->status, cases[i].status);
        CHECK_STR(heading(a, "Connection"), "close");
        CHECK(member(a->body, "error").length);
        CHECK_SILENT(c);
        CHECK(c->shut && !c->closed);
        finish(c);
        settle(&w);
        CHECK(c->closed && !c->cut);
    }
    CHECK_INT(stats_of(&w).published, 0);
    close_world(&w);
}

TEST(heads_are_bounded) {
    peer *c;
    int i;
    w.cfg.head_bytes_max = 512;
    open_world(&w);
    c = dial(&w);
    say(c, "GET /");
    for (i = 0; i < 600; i++) say(c, "x");
    settle(&w);
    CHECK_INT(take(c)->status, 414);
    c = dial(&w);
    say(c, "GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
    for (i = 0; i < 600; i++) {
        say(c, "x");
        settle(&w);
    }
    CHECK_INT(take(c)->status, 431);
    close_world(&w);
}

/* ---- a 100 (Continue) ---- */

TEST(a_client_that_expects_it_is_told_to_go_on) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    say(c, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
           "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    settle(&w);
    CHECK_BYTES(unheard(c).bytes, unheard(c).length, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    c->out_at += 25;
    say(c, "{}");
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    say(c, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
           "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    settle(&w);
    CHECK_INT(take(c)->status, 415); /* and not told to go on */
    close_world(&w);
}

TEST(a_continue_that_cannot_be_sent_closes) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    fault(&w, K_SEND, ECONNRESET, 0, 1);
    say(c, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
           "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}");
    settle(&w);
    CHECK(c->closed);
    CHECK_INT(stats_of(&w).published, 0);
    close_world(&w);
}

/* ---- deadlines: never early, late by at most a tick ---- */

/* When the connection is shut or closed, in ms from `began`. Steps as lp_run does. */
static uint64_t ms_until_end(const peer *c, uint64_t began) {
    while (!c->shut && !c->closed) {
        CHECK_INT(turn(&w, 1000000), LP_OK);
        if (now_ms(&w) - began > 2000000) unit_fail(__FILE__, __LINE__, "it never ended");
    }
    return now_ms(&w) - began;
}

static void check_deadline(const peer *c, uint64_t began, uint64_t ms) {
    uint64_t took = ms_until_end(c, began);
    if (took < ms || took > ms + TICK_MS)
        unit_fail(__FILE__, __LINE__, "after %lu ms, not %lu", (unsigned long)took,
                  (unsigned long)ms);
}

static void check_timeout_answer(peer *c) {
    answer *a = take(c);
    CHECK_INT(a->status, 408);
    CHECK_STR(a->body, "{\"error\":\"Request timeout\"}");
    CHECK_STR(heading(a, "Connection"), "close");
    CHECK_SILENT(c);
}

TEST(a_slow_head_gets_408) {
    peer *c;
    uint64_t began;
    open_world(&w);
    c = dial(&w);
    pass(&w, 5000); /* does not count: it begins with the first byte */
    say(c, "GET / HT");
    began = now_ms(&w);
    settle(&w);
    pass(&w, 9000);
    say(c, "TP/1.1\r\n"); /* progress renews nothing */
    settle(&w);
    check_deadline(c, began, 10000);
    check_timeout_answer(c);
    close_world(&w);
}

TEST(a_slow_second_head_gets_408) {
    peer *c;
    uint64_t began;
    open_world(&w);
    c = dial(&w);
    CHECK_INT(ask(&w, c, "/")->status, 404);
    pass(&w, 40000);
    CHECK(!c->closed);
    say(c, "G");
    began = now_ms(&w);
    settle(&w);
    check_deadline(c, began, 10000);
    check_timeout_answer(c);
    close_world(&w);
}

TEST(a_slow_body_gets_408) {
    int cut;
    for (cut = 0; cut < 2; cut++) {
        const char *text = cut ? chunked_request : whole_request;
        size_t head = (size_t)(strstr(text, "\r\n\r\n") - text) + 4;
        peer *c;
        uint64_t began;
        memset(&w, 0, sizeof w);
        open_world(&w);
        c = dial(&w);
        say_bytes(c, text, 20);
        settle(&w);
        pass(&w, 8000);
        say_bytes(c, text + 20, head - 20);
        began = now_ms(&w);
        settle(&w);
        CHECK_INT(phase_of(0), LPI_READING_BODY);
        pass(&w, 29000);
        say_bytes(c, text + head, 4);
        settle(&w);
        check_deadline(c, began, 30000);
        check_timeout_answer(c);
        close_world(&w);
    }
}

TEST(an_idle_connection_is_closed_without_a_word) {
    peer *c;
    uint64_t began;
    open_world(&w);
    c = dial(&w);
    CHECK_INT(ask(&w, c, "/")->status, 404);
    began = now_ms(&w);
    check_deadline(c, began, 75000);
    CHECK_SILENT(c);
    close_world(&w);
}

TEST(a_connection_that_never_says_a_word_is_closed) {
    peer *c;
    uint64_t began;
    open_world(&w);
    c = dial(&w);
    began = now_ms(&w);
    check_deadline(c, began, 10000);
    CHECK_SILENT(c);
    close_world(&w);
}

TEST(a_refused_client_may_linger) {
    peer *c;
    uint64_t began;
    open_world(&w);
    c = dial(&w);
    say(c, "nonsense\r\n\r\n");
    settle(&w);
    CHECK(c->shut);
    began = now_ms(&w);
    while (!c->closed) {
        say(c, "and more of it");
        pass(&w, 1);
    }
    CHECK(now_ms(&w) - began >= 2000 && now_ms(&w) - began <= 2000 + TICK_MS);
    close_world(&w);
}

/* ---- the user's code takes its time: what follows has as long as ever ---- */

static void take_time(lp_request *r, void *ctx) {
    w.k.now_us += 80 * UINT64_C(1000000);
    if (!strcmp((const char *)ctx, "error")) lp_reply_error(r, 418, "no");
    if (!strcmp((const char *)ctx, "reply")) lp_reply(r, 200, "text/plain", lp_s("yes"));
}

static void take_note(void *ctx, lp_channel_event what, lp_slice channel) {
    (void)ctx, (void)channel;
    if (what == LP_CHANNEL_OCCUPIED) w.k.now_us += 80 * UINT64_C(1000000);
}

static int think(void *ctx, lp_request *r, lp_action action, lp_slice channel) {
    (void)ctx, (void)r, (void)action, (void)channel;
    w.k.now_us += 40 * UINT64_C(1000000);
    return 0;
}

TEST(deadlines_count_from_the_end_of_a_handler) {
    static const struct { char pattern[8], how[8]; int status; } ways[] = {
        {"/yes", "reply", 200}, {"/no", "error", 418}, {"/none", "none", 500}};
    uint32_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(ways); i++) {
        peer *c = dial(&w);
        lp_on(w.s, "GET", ways[i].pattern, take_time, (void *)(uintptr_t)ways[i].how);
        CHECK_INT(ask(&w, c, ways[i].pattern)->status, ways[i].status);
        check_deadline(c, now_ms(&w), 75000);
    }
    close_world(&w);
}

TEST(deadlines_count_from_the_end_of_the_watch) {
    peer *c, *d;
    w.cfg.watch.channel = take_note;
    open_world(&w);
    c = dial(&w);
    d = dial(&w);
    settle(&w);
    say(c, "GET /api/poll/a?timeout=60 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    settle(&w);
    d = dial(&w);
    say(d, "GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n");
    settle(&w);
    CHECK_INT(take(d)->status, 404);
    check_deadline(d, now_ms(&w), 75000);
    close_world(&w);
}

TEST(a_wait_counts_from_the_end_of_the_hook) {
    peer *c;
    uint64_t began;
    w.cfg.authorize.ask = think;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a?timeout=30");
    began = now_ms(&w);
    while (c->out_at == c->out_length) CHECK_INT(turn(&w, 1000000), LP_OK);
    CHECK_INT(take(c)->status, 200);
    CHECK(now_ms(&w) - began >= 30000 && now_ms(&w) - began <= 30000 + TICK_MS);
    close_world(&w);
}

TEST(deadlines_may_be_off) {
    peer *c[4];
    w.cfg.head_ms = w.cfg.body_ms = w.cfg.idle_ms = w.cfg.write_ms = LP_OFF;
    w.k.sleeps_for_ever = 1;
    open_world(&w);
    c[0] = dial(&w);
    c[1] = dial(&w);
    say(c[1], "GET");
    c[2] = dial(&w);
    say_bytes(c[2], whole_request, strlen(whole_request) - 1);
    c[3] = dial(&w);
    CHECK_INT(ask(&w, c[3], "/")->status, 404);
    pass(&w, 10000000);
    CHECK(!c[0]->closed && !c[1]->closed && !c[2]->closed && !c[3]->closed);
    say(c[2], "}");
    settle(&w);
    CHECK_INT(take(c[2])->status, 200);
    close_world(&w);
}

TEST(a_linger_that_is_off_closes_at_once) {
    peer *c;
    w.cfg.linger_ms = LP_OFF;
    open_world(&w);
    c = dial(&w);
    say(c, "nonsense\r\n\r\n");
    settle(&w);
    CHECK_INT(take(c)->status, 400);
    CHECK(c->closed);
    close_world(&w);
}

/* ---- memory ---- */

TEST(an_idle_or_parked_connection_holds_no_buffer) {
    peer *c;
    size_t i;
    open_world(&w);
    for (i = 0; i < 40; i++) {
        c = dial(&w);
        say_bytes(c, whole_request, 50);
        settle(&w);
        say(c, whole_request + 50);
        settle(&w);
        CHECK_INT(take(c)->status, 200);
        CHECK(!lpi_connection_at(&w.s->loops[0], (uint32_t)i)->buffer);
    }
    park(&w, c, "/api/poll/news?last_id=now");
    CHECK(!lpi_connection_at(&w.s->loops[0], 39)->buffer);
    CHECK(w.s->loops[0].spare_count <= LPI_SPARE_MAX);
    close_world(&w);
}

TEST(a_large_buffer_is_not_kept_as_a_spare) {
    peer *c;
    char *json = (char *)malloc(60001);
    open_world(&w);
    memset(json, ' ', 60000);
    json[0] = '{', json[59999] = '}', json[60000] = 0;
    c = dial(&w);
    sayf(c, "POST /api/publish/news HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n");
    say_bytes(c, json, 30000);
    settle(&w);
    say(c, json + 30000);
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    CHECK_INT(w.s->loops[0].spare_count, 0);
    free(json);
    close_world(&w);
}

static void check_at_capacity(peer *c) {
    answer *a = take(c);
    CHECK_INT(a->status, 503);
    CHECK_STR(member(a->body, "error"), "Server at capacity");
    CHECK_STR(heading(a, "Retry-After"), "5");
    CHECK(c->shut);
}

TEST(all_that_is_incomplete_is_bounded_together) {
    enum { N = 40 };
    static const char *const near[] = {
        "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "::1:0:0:0:1",
        "::2:0:0:0:1", "::3:0:0:0:1", "::4:0:0:0:1", "::5:0:0:0:1"};
    peer *c[N], *d;
    char text[3001];
    int i, refused = 0;
    w.cfg.partial_bytes_max = 65536;
    open_world(&w);
    d = dial(&w);
    memset(text, 'x', 3000);
    text[3000] = 0;
    for (i = 0; i < N; i++) {
        c[i] = dial_from(&w, i < 20 ? near[i % 5] : near[5 + i % 5]);
        sayf(c[i], "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s", text);
        settle(&w);
        CHECK(w.s->hub.partial_bytes <= 65536);
        if (!c[i]->shut) continue;
        check_at_capacity(c[i]);
        refused++;
    }
    CHECK(refused > 20 && refused < N - 5);
    CHECK_INT(ask(&w, d, "/")->status, 404); /* who sends whole requests goes on */
    for (i = 0; i < N; i++) {
        if (c[i]->shut) continue;
        say(c[i], "\r\n\r\n"); /* who was first may finish */
        settle(&w);
        CHECK_INT(take(c[i])->status, 404);
    }
    CHECK_INT(w.s->hub.partial_bytes, 0);
    c[0] = dial(&w);
    sayf(c[0], "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s", text);
    settle(&w);
    CHECK(!c[0]->closed);
    close_world(&w);
}

/* No address has more than a quarter; a proxy that is trusted speaks for many. */
TEST(what_is_incomplete_is_bounded_for_each_address) {
    enum { N = 10 };
    peer *c[N], *d;
    char text[3001];
    int i, refused = 0, trusted;
    for (trusted = 0; trusted < 2; trusted++) {
        refused = 0;
        memset(&w, 0, sizeof w);
        w.cfg.partial_bytes_max = 65536;
        w.cfg.trusted_proxies = trusted ? "127.0.0.1" : NULL;
        open_world(&w);
        memset(text, 'x', 3000);
        text[3000] = 0;
        for (i = 0; i < N; i++) {
            c[i] = dial(&w);
            sayf(c[i], "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s", text);
            settle(&w);
            CHECK(trusted || w.s->hub.partial_bytes <= 65536 / 4);
            if (!c[i]->shut) continue;
            check_at_capacity(c[i]);
            refused++;
        }
        CHECK(trusted ? !refused : refused > 5 && refused < N - 2);
        d = dial_from(&w, "127.0.0.2");
        sayf(d, "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s", text);
        settle(&w);
        say(d, "\r\n\r\n");
        settle(&w);
        CHECK_INT(take(d)->status, 404);
        close_world(&w);
    }
}

/* A poll has no use for a body, however it comes: nothing of it is kept. */
TEST(the_body_of_a_poll_is_not_kept) {
    static const char *const framing[] = {"Content-Length: 60000\r\n\r\n",
                                          "Transfer-Encoding: chunked\r\n\r\nEA60\r\n"};
    static char body[1000];
    size_t before;
    peer *c;
    int i, f;
    memset(body, 'b', sizeof body);
    for (f = 0; f < 2; f++) {
        memset(&w, 0, sizeof w);
        open_world(&w);
        c = dial(&w);
        sayf(c, "GET /api/poll/a?timeout=0 HTTP/1.1\r\nHost: localhost\r\n%s", framing[f]);
        settle(&w);
        before = w.s->hub.partial_bytes;
        CHECK(before < sizeof(lpi_request_buffer) + 1024);
        for (i = 0; i < 60; i++) {
            say_bytes(c, body, sizeof body);
            if (i == 30) say_bytes(c, body, 0);
            else if (i % 2) settle(&w); /* also two pieces at once */
            CHECK_INT(w.s->hub.partial_bytes, i < 59 || f ? before : 0);
            if (i < 59) CHECK(c->out_at == c->out_length);
        }
        if (f) say(c, "\r\n0\r\n\r\n");
        say(c, "GET /api/poll/b?timeout=0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        settle(&w);
        CHECK_INT(take(c)->status, 200);
        CHECK_INT(take(c)->status, 200);
        CHECK(!c->closed);
        close_world(&w);
    }
}

/* Some clients send one after a body. The connection is idle, and not late with a head. */
TEST(an_empty_line_behind_a_request_is_no_request) {
    peer *c;
    int pieces;
    for (pieces = 0; pieces < 2; pieces++) {
        memset(&w, 0, sizeof w);
        w.cfg.head_ms = 1000;
        w.cfg.idle_ms = 5000;
        open_world(&w);
        c = dial(&w);
        CHECK_INT(ask(&w, c, "/")->status, 404);
        say(c, pieces ? "\r" : "\r\n");
        settle(&w);
        if (pieces) say(c, "\n");
        settle(&w);
        pass(&w, 4000);
        CHECK(!c->closed && !c->shut);
        CHECK_INT(ask(&w, c, "/")->status, 404); /* the next is served, and again */
        say(c, "\r\n");
        pass(&w, 5010);
        CHECK(c->closed);
        CHECK_SILENT(c);
        close_world(&w);
    }
}

/* Behind so many requests that the rest waits for its turn. */
TEST(an_empty_line_behind_many_requests_has_a_deadline) {
    peer *c;
    int i;
    w.cfg.idle_ms = 5000;
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < LPI_TURNS; i++) say(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    say(c, "\r\n");
    settle(&w);
    for (i = 0; i < LPI_TURNS; i++) CHECK_INT(take(c)->status, 404);
    pass(&w, 4900);
    CHECK(!c->closed);
    pass(&w, 200);
    CHECK(c->closed);
    CHECK_SILENT(c);
    close_world(&w);
}

TEST(what_cannot_begin_a_request_is_refused_at_once) {
    static const char *const first[] = {"\x16", "\x80", " ", "\n", "(", "\r\n\x16"};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(first); i++) {
        peer *c = dial(&w);
        say(c, first[i]);
        settle(&w);
        CHECK_INT(take(c)->status, 400);
        CHECK(c->shut);
    }
    close_world(&w);
}

TEST(without_memory_an_incomplete_request_is_refused) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    settle(&w);
    say(c, "GET / HT");
    w.m.fail_at = w.m.calls + 1;
    settle(&w);
    CHECK_INT(w.m.failed, 1);
    check_at_capacity(c);
    c = dial(&w);
    CHECK_INT(ask(&w, c, "/")->status, 404);
    close_world(&w);
}
