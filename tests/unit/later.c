/* Requests that are answered later: once, by the program or by 504, unless the client has
   gone. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;
static lp_deferred later_handles[64];
static int later_count;

/* Defers, for the milliseconds of ?ms=, and notes the handle. */
static void defer_it(lp_request *r, void *ctx)
{
    lp_slice ms = lp_query(r, "ms");
    uint32_t timeout_ms = 0;
    (void)ctx;
    if (ms.length && *ms.bytes == 'o') timeout_ms = LP_OFF;
    else if (ms.length) timeout_ms = (uint32_t)strtoul(ms.bytes, NULL, 10);
    if (lp_reply_header(r, "X-Mine", lp_s("kept")) != LP_OK) {
        CHECK(w.m.failed); /* and then nothing can be put off */
        CHECK_INT(lp_defer(r, timeout_ms, &later_handles[later_count]), LP_ERR_NOMEM);
        lp_reply_error(r, 503, "No memory");
        return;
    }
    if (lp_query(r, "bare").bytes == NULL)
        CHECK_INT(lp_reply_header(r, "Cache-Control", lp_s("max-age=1")), LP_OK);
    CHECK_INT(lp_defer(r, timeout_ms, NULL), LP_ERR_ARG);
    if (lp_defer(r, timeout_ms, &later_handles[later_count]) != LP_OK) {
        lp_reply_error(r, 503, "No memory");
        return;
    }
    CHECK_INT(lp_defer(r, timeout_ms, &later_handles[later_count + 1]), LP_ERR_ARG);
    CHECK_INT(lp_reply(r, 200, NULL, lp_s("twice")), LP_ERR_ARG);
    CHECK_INT(lp_reply_header(r, "X-More", lp_s("late")), LP_ERR_ARG);
    later_count++;
}

static lp_result give_answer(int i, const char *body)
{
    return lp_reply_later(w.s, later_handles[i], 200, "text/plain", lp_s(body));
}

static void later_open(void)
{
    later_count = 0;
    open_world(&w);
    CHECK_INT(lp_on(w.s, "GET", "/later", defer_it, NULL), LP_OK);
    CHECK_INT(lp_on(w.s, "POST", "/later", defer_it, NULL), LP_OK);
}

TEST(it_is_answered_once)
{
    peer *c;
    answer *a;
    later_open();
    c = dial(&w);
    get(c, "/later");
    settle(&w);
    pass(&w, 5000);
    CHECK_SILENT(c);
    CHECK_INT(later_count, 1);
    CHECK_INT(give_answer(0, "hello"), LP_OK);
    CHECK_INT(give_answer(0, "again"), LP_ERR_GONE);
    settle(&w);
    a = take(c);
    CHECK_INT(a->status, 200);
    CHECK_STR(a->body, "hello");
    CHECK_STR(heading(a, "Content-Type"), "text/plain");
    CHECK_STR(heading(a, "X-Mine"), "kept");
    CHECK_STR(heading(a, "Cache-Control"), "max-age=1");
    CHECK_INT(give_answer(0, "again"), LP_ERR_GONE);
    get(c, "/later?bare=1");
    settle(&w);
    CHECK_INT(give_answer(1, ""), LP_OK);
    settle(&w);
    a = take(c);
    CHECK_STR(a->body, "");
    CHECK_STR(heading(a, "Cache-Control"), "no-store");
    CHECK_SILENT(c);
    close_world(&w);
}

TEST(bad_arguments)
{
    peer *c;
    lp_deferred none = {0, 0, 0}, elsewhere, other;
    later_open();
    c = dial(&w);
    get(c, "/later");
    settle(&w);
    elsewhere = other = later_handles[0];
    elsewhere.loop = 1;
    other.connection = 5000;
    CHECK_INT(lp_reply_later(w.s, none, 200, NULL, lp_s("")), LP_ERR_GONE);
    CHECK_INT(lp_reply_later(w.s, elsewhere, 200, NULL, lp_s("")), LP_ERR_GONE);
    CHECK_INT(lp_reply_later(w.s, other, 200, NULL, lp_s("")), LP_ERR_GONE);
    CHECK_INT(lp_reply_later(NULL, later_handles[0], 200, NULL, lp_s("")), LP_ERR_ARG);
    CHECK_INT(lp_reply_later(w.s, later_handles[0], 199, NULL, lp_s("")), LP_ERR_ARG);
    CHECK_INT(lp_reply_later(w.s, later_handles[0], 600, NULL, lp_s("")), LP_ERR_ARG);
    CHECK_INT(lp_reply_later(w.s, later_handles[0], 200, "a\r\nb", lp_s("")), LP_ERR_ARG);
    CHECK_INT(lp_reply_later(w.s, later_handles[0], 200, NULL,
                             lpi_slice("", (size_t)INT32_MAX + 1)), LP_ERR_ARG);
    CHECK_SILENT(c);
    CHECK_INT(lp_reply_later(w.s, later_handles[0], 204, NULL, lpi_slice(NULL, 0)), LP_OK);
    settle(&w);
    CHECK_INT(take(c)->status, 204);
    close_world(&w);
}

static void later_at_once(lp_request *r, void *ctx)
{
    lp_deferred handle;
    (void)ctx;
    CHECK_INT(lp_defer(r, 0, &handle), LP_OK);
    CHECK_INT(lp_reply_later(w.s, handle, 201, "text/plain", lp_s("soon")), LP_OK);
}

TEST(within_the_handler)
{
    peer *c;
    later_open();
    CHECK_INT(lp_on(w.s, "GET", "/once", later_at_once, NULL), LP_OK);
    c = dial(&w);
    CHECK_INT(ask(&w, c, "/once")->status, 201);
    close_world(&w);
}

TEST(time_is_up)
{
    peer *c[3];
    answer *a;
    w.cfg.later_ms = 700;
    w.cfg.idle_ms = 1000000;
    later_open();
    c[0] = dial(&w), c[1] = dial(&w), c[2] = dial(&w);
    get(c[0], "/later");
    settle(&w);
    get(c[1], "/later?ms=300");
    settle(&w);
    get(c[2], "/later?ms=off");
    settle(&w);
    pass(&w, 299);
    CHECK_SILENT(c[1]);
    pass(&w, 10);
    a = take(c[1]);
    CHECK_INT(a->status, 504);
    CHECK_STR(a->body, "{\"error\":\"No answer in time\"}");
    CHECK(!heading(a, "X-Mine").bytes);
    CHECK_STR(heading(a, "Cache-Control"), "no-store");
    CHECK_INT(give_answer(1, "late"), LP_ERR_GONE);
    pass(&w, 389);
    CHECK_SILENT(c[0]);
    pass(&w, 12);
    CHECK_INT(take(c[0])->status, 504);
    pass(&w, 500000);
    CHECK_SILENT(c[2]);
    CHECK_INT(give_answer(2, "at last"), LP_OK);
    settle(&w);
    CHECK_STR(take(c[2])->body, "at last");
    CHECK_INT(ask(&w, c[1], "/api/poll/a?timeout=0")->status, 200);
    close_world(&w);
}

/* An answer that was left just before the time was up is the one that counts. */
TEST(an_answer_at_the_last_moment)
{
    peer *c;
    later_open();
    c = dial(&w);
    get(c, "/later?ms=100");
    settle(&w);
    CHECK_INT(give_answer(0, "just"), LP_OK);
    w.k.now_us += 1000000;
    lpi_later_expire(&w.s->loops[0], later_handles[0].connection);
    CHECK_SILENT(c);
    settle(&w);
    CHECK_STR(take(c)->body, "just");
    CHECK_SILENT(c);
    close_world(&w);
}

TEST(a_client_that_has_gone)
{
    int how;
    for (how = 0; how < 4; how++) {
        peer *c;
        memset(&w, 0, sizeof w);
        later_open();
        c = dial(&w);
        get(c, "/later");
        settle(&w);
        if (how & 2) CHECK_INT(give_answer(0, "too late"), LP_OK);
        if (how & 1) reset(c);
        else finish(c);
        settle(&w);
        CHECK(c->closed);
        if (!(how & 2)) CHECK_INT(give_answer(0, "nobody"), LP_ERR_GONE);
        CHECK_INT(stats_of(&w).connections, 0);
        /* Another connection takes the record: it must not get that answer. */
        c = dial(&w);
        get(c, "/later");
        settle(&w);
        CHECK_INT(later_handles[0].connection, later_handles[1].connection);
        CHECK_INT(give_answer(0, "a stranger's"), LP_ERR_GONE);
        CHECK_SILENT(c);
        CHECK_INT(give_answer(1, "mine"), LP_OK);
        settle(&w);
        CHECK_STR(take(c)->body, "mine");
        close_world(&w);
    }
}

/* An answer that was in the inbox when its connection went, and another one came. */
TEST(an_answer_does_not_reach_the_next_connection)
{
    peer *c;
    lpi_task *task;
    later_open();
    c = dial(&w);
    get(c, "/later");
    settle(&w);
    reset(c);
    settle(&w);
    c = dial(&w);
    get(c, "/later");
    settle(&w);
    CHECK_INT(later_count, 2);
    CHECK_INT(later_handles[0].connection, later_handles[1].connection);
    task = lpi_later_new_answer(&w.s->memory, lp_s(""), lp_s("for the first"));
    task->of.answer.request = later_handles[0];
    task->of.answer.status = 200;
    lpi_inbox_add(&w.s->loops[0], task, 1);
    settle(&w);
    CHECK_SILENT(c);
    CHECK_INT(give_answer(1, "for the second"), LP_OK);
    settle(&w);
    CHECK_STR(take(c)->body, "for the second");
    close_world(&w);
}

TEST(what_is_pipelined_waits_in_order)
{
    peer *c;
    later_open();
    c = dial(&w);
    say(c, "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n"
           "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n"
           "GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n");
    settle(&w);
    CHECK_INT(later_count, 1);
    get(c, "/api/poll/a?timeout=0");
    settle(&w);
    CHECK_SILENT(c);
    CHECK_INT(give_answer(0, "one"), LP_OK);
    settle(&w);
    CHECK_STR(take(c)->body, "one");
    CHECK_INT(later_count, 2);
    CHECK_SILENT(c);
    CHECK_INT(give_answer(1, "two"), LP_OK);
    settle(&w);
    CHECK_STR(take(c)->body, "two");
    CHECK_INT(take(c)->status, 404);
    CHECK_INT(take(c)->status, 200);
    close_world(&w);
}

TEST(head_requests_and_old_clients)
{
    peer *c, *old;
    answer *a;
    later_open();
    c = dial(&w), old = dial(&w);
    say(c, "HEAD /later HTTP/1.1\r\nHost: localhost\r\n\r\n");
    settle(&w);
    say(old, "GET /later HTTP/1.0\r\n\r\n");
    settle(&w);
    CHECK_INT(give_answer(0, "seen"), LP_OK);
    CHECK_INT(give_answer(1, "gone"), LP_OK);
    settle(&w);
    a = take_with(c, 1);
    CHECK_STR(heading(a, "Content-Length"), "4");
    CHECK_SILENT(c);
    a = take(old);
    CHECK_STR(a->body, "gone");
    CHECK_STR(heading(a, "Connection"), "close");
    CHECK(old->shut);
    close_world(&w);
}

TEST(a_body_may_be_sent_in_pieces)
{
    peer *c;
    later_open();
    c = dial(&w);
    say(c, "POST /later HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab");
    settle(&w);
    CHECK_INT(later_count, 0);
    say(c, "cde");
    settle(&w);
    CHECK_INT(later_count, 1);
    CHECK_INT(give_answer(0, "read"), LP_OK);
    settle(&w);
    CHECK_STR(take(c)->body, "read");
    CHECK_INT(ask(&w, c, "/api/poll/a?timeout=0")->status, 200);
    close_world(&w);
}

/* In a drain it waits for the answer, but not beyond the drain's end. */
TEST(a_drain_waits_for_it)
{
    peer *c[3];
    answer *a;
    w.cfg.drain_ms = 2000;
    later_open();
    c[0] = dial(&w), c[1] = dial(&w), c[2] = dial(&w);
    get(c[0], "/later");
    settle(&w);
    get(c[1], "/later?ms=off");
    settle(&w);
    get(c[2], "/later?ms=400");
    settle(&w);
    lp_stop(w.s);
    settle(&w);
    CHECK_SILENT(c[0]);
    pass(&w, 500);
    CHECK_INT(take(c[2])->status, 504);
    pass(&w, 1000);
    CHECK_INT(give_answer(0, "in time"), LP_OK);
    settle(&w);
    a = take(c[0]);
    CHECK_STR(a->body, "in time");
    CHECK_STR(heading(a, "Connection"), "close");
    CHECK_SILENT(c[1]);
    pass(&w, 600);
    CHECK_INT(take(c[1])->status, 504);
    CHECK_INT(give_answer(1, "too late"), LP_ERR_GONE);
    close_world(&w);
}

/* Deferred when the drain has begun already. */
TEST(deferred_in_a_drain)
{
    peer *c, *stays;
    w.cfg.drain_ms = 2000;
    later_open();
    c = dial(&w), stays = dial(&w);
    park(&w, stays, "/api/poll/a");
    say(c, "GET /later?ms=off HTTP/1.1\r\nHost: ");
    settle(&w);
    lp_stop(w.s);
    settle(&w);
    say(c, "localhost\r\n\r\n");
    settle(&w);
    CHECK_INT(later_count, 1);
    CHECK_SILENT(c);
    pass(&w, 2100);
    CHECK_INT(take(c)->status, 504);
    close_world(&w);
}

/* lp_destroy, with one that waits and one whose answer is on its way. */
TEST(nothing_leaks)
{
    peer *c[2];
    later_open();
    c[0] = dial(&w), c[1] = dial(&w);
    get(c[0], "/later");
    settle(&w);
    get(c[1], "/later");
    settle(&w);
    CHECK_INT(give_answer(1, "on its way"), LP_OK);
    close_world(&w);
}

TEST(without_memory)
{
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        peer *c;
        lp_result result = LP_OK;
        memset(&w, 0, sizeof w);
        later_open();
        c = dial(&w);
        settle(&w);
        w.m.fail_at = w.m.calls + k;
        get(c, "/later");
        settle(&w);
        if (later_count) result = give_answer(0, "hello");
        failed = w.m.failed;
        w.m.fail_at = 0;
        if (later_count && result == LP_ERR_NOMEM) result = give_answer(0, "hello");
        CHECK_INT(result, LP_OK);
        settle(&w);
        if (!c->closed) {
            answer *a = take(c);
            CHECK(later_count ? a->status == 200 : a->status == 503);
        }
        close_world(&w);
    }
    CHECK(k > 4);
}

TEST(several_loops)
{
    peer *c[3];
    int i;
    w.cfg.loops = 3;
    later_open();
    for (i = 0; i < 3; i++) {
        c[i] = dial(&w);
        get(c[i], "/later");
        settle(&w);
    }
    CHECK_INT(later_count, 3);
    for (i = 0; i < 3; i++) {
        char body[16];
        snprintf(body, sizeof body, "%d", i);
        CHECK_INT(give_answer(i, body), LP_OK);
    }
    settle(&w);
    for (i = 0; i < 3; i++) {
        char body[16];
        snprintf(body, sizeof body, "%d", i);
        CHECK_STR(take(c[i])->body, body);
    }
    CHECK(later_handles[0].loop != later_handles[1].loop);
    CHECK(later_handles[1].loop != later_handles[2].loop);
    close_world(&w);
}

static int later_asked(void *ctx, lp_request *r, lp_action action, lp_slice channel)
{
    lp_deferred handle;
    (void)ctx, (void)action, (void)channel;
    CHECK_INT(lp_defer(r, 0, &handle), LP_ERR_ARG);
    return 0;
}

TEST(only_a_handlers_request_can_be_put_off)
{
    peer *c;
    w.cfg.authorize.ask = later_asked;
    open_world(&w);
    c = dial(&w);
    CHECK_INT(ask(&w, c, "/api/poll/a?timeout=0")->status, 200);
    close_world(&w);
}
