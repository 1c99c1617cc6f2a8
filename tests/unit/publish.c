/* Publishing, over HTTP and by lp_publish: what is said back, and what is kept. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

static answer *publish_over_http(const char *target, const char *json) {
    peer *c = dial(&w);
    post(c, target, json);
    settle(&w);
    return take(c);
}

static void check_refused(const char *json, int status, const char *error) {
    answer *a = publish_over_http("/api/publish/news", json);
    CHECK_INT(a->status, status);
    CHECK_STR(member(a->body, "error"), error);
    CHECK_INT(stats_of(&w).messages, 0);
}

TEST(the_answer_names_the_message) {
    answer *a;
    lp_slice id;
    open_world(&w);
    a = publish_over_http("/api/publish/news", "{\"text\":\"hello\"}");
    CHECK_INT(a->status, 200);
    CHECK_STR(member(a->body, "status"), "published");
    id = member(a->body, "message_id");
    CHECK_INT(id.length, 18);
    CHECK(!memcmp(id.bytes + 16, "-1", 2));
    CHECK_STR(member(a->body, "timestamp"), "1732412345.123457");
    CHECK_STR(member(a->body, "waiters"), "0");
    CHECK_STR(heading(a, "Content-Type"), "application/json");
    a = askf(&w, dial(&w), "/api/poll/news?timeout=0");
    CHECK_STR(member(a->body, "id"), text_of(lpi_slice(a->body.bytes, a->body.length), "last_id"));
    CHECK_STR(member(a->body, "text"), "hello");
    close_world(&w);
}

TEST(members_come_in_the_documented_order) {
    answer *a;
    open_world(&w);
    a = publish_over_http("/api/publish/a", "{}");
    CHECK(!memcmp(a->body.bytes, "{\"status\":\"published\",\"message_id\":\"", 35));
    CHECK(has(a->body, ",\"timestamp\":1732412345.123457,\"waiters\":0}"));
    close_world(&w);
}

TEST(waiters_are_those_whom_it_woke) {
    peer *c[3], *p;
    int i;
    open_world(&w);
    for (i = 0; i < 3; i++) {
        c[i] = dial(&w);
        park(&w, c[i], "/api/poll/news,other");
    }
    CHECK_INT(publish(&w, "news", "{}").waiters, 3);
    CHECK_INT(publish(&w, "news", "{}").waiters, 0); /* they are awake already */
    CHECK_INT(publish(&w, "other", "{}").waiters, 3); /* parked there as well  */
    settle(&w);
    p = dial(&w);
    post(p, "/api/publish/news", "{}");
    settle(&w);
    CHECK_STR(member(take(p)->body, "waiters"), "0");
    for (i = 0; i < 3; i++) CHECK_STR(member(take(c[i])->body, "count"), "3");
    park(&w, c[0], "/api/poll/news?last_id=now");
    post(p, "/api/publish/news", "{}");
    settle(&w);
    CHECK_STR(member(take(p)->body, "waiters"), "1");
    close_world(&w);
}

TEST(what_is_no_json_object_is_told_where) {
    open_world(&w);
    check_refused("{\"a\":1,}", 400, "Not a JSON object, at byte 7");
    check_refused("  [1]", 400, "Not a JSON object, at byte 3");
    check_refused("[]", 400, "Not a JSON object, at byte 1");
    check_refused("[{},{\"a\":1,}]", 400, "Not a JSON object, at byte 11");
    check_refused("[{},[{}]]", 400, "Not a JSON object, at byte 4");
    check_refused("[{},{}", 400, "Not a JSON object, at byte 6");
    check_refused("[{},{}]]", 400, "Not a JSON object, at byte 7");
    check_refused("[{} {}]", 400, "Not a JSON object, at byte 4");
    check_refused("[{},]", 400, "Not a JSON object, at byte 4");
    check_refused("[,{}]", 400, "Not a JSON object, at byte 1");
    check_refused("[", 400, "Not a JSON object, at byte 1");
    check_refused("\"text\"", 400, "Not a JSON object, at byte 0");
    check_refused("{} x", 400, "Not a JSON object, at byte 3");
    check_refused("{", 400, "Not a JSON object, at byte 1");
    check_refused("{\"a\":\"\xff\"}", 400, "Not a JSON object, at byte 6");
    close_world(&w);
}

TEST(an_empty_body_is_no_object) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    say(c, "POST /api/publish/news HTTP/1.1\r\nHost: localhost\r\n"
           "Content-Type: application/json\r\n\r\n");
    settle(&w);
    CHECK_INT(take(c)->status, 400);
    close_world(&w);
}

TEST(refusals_before_the_body) {
    static const struct { const char *lines, *target; int status; } cases[] = {
        {"Content-Type: text/plain\r\n", "/api/publish/news", 415},
        {"", "/api/publish/news", 415},
        {"Content-Type: application/jsonx\r\n", "/api/publish/news", 415},
        {"Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
         "/api/publish/news", 415},
        {"Content-Type: application/json\r\nOrigin: https://evil.example\r\n",
         "/api/publish/news", 403},
        {"Content-Type: application/json\r\n", "/api/publish/%00", 400},
        {"Content-Type: application/json\r\n", "/api/publish/%zz", 400},
        {"Content-Type: application/json\r\nHost: rebound.example\r\n",
         "/api/publish/news", 421}};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(cases); i++) {
        peer *c = dial(&w);
        answer *a;
        sayf(c, "POST %s HTTP/1.1\r\n%s%sContent-Length: 2\r\n\r\n", cases[i].target,
             strstr(cases[i].lines, "Host") ? "" : "Host: localhost\r\n", cases[i].lines);
        settle(&w);
        a = take(c); /* the body has not been said */
        CHECK_INT(a->status, cases[i].status);
        CHECK_STR(heading(a, "Connection"), "close");
        CHECK(c->shut && !c->closed);
        say(c, "{}");
        finish(c);
        settle(&w);
        CHECK(c->closed && !c->cut);
    }
    CHECK_INT(stats_of(&w).messages, 0);
    close_world(&w);
}

TEST(json_may_have_parameters_and_any_case) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    say(c, "POST /api/publish/news HTTP/1.1\r\nHost: localhost\r\n"
           "Content-Type: Application/JSON ; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}");
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    close_world(&w);
}

TEST(too_large_is_413) {
    peer *c;
    answer *a;
    w.cfg.message_bytes_max = 100;
    open_world(&w);
    c = dial(&w);
    say(c, "POST /api/publish/news HTTP/1.1\r\nHost: localhost\r\n"
           "Content-Type: application/json\r\nContent-Length: 101\r\n\r\n");
    settle(&w);
    a = take(c);
    CHECK_INT(a->status, 413);
    CHECK_STR(heading(a, "Connection"), "close");
    publish_padded(&w, "news", 100);
    {
        char json[102];
        memset(json, ' ', 101);
        memcpy(json, "{}", 2);
        CHECK_INT(lp_publish(w.s, lp_s("news"), lpi_slice(json, 101), NULL),
                  LP_ERR_TOO_LARGE);
        CHECK_INT(lp_publish(w.s, lp_s("news"), lpi_slice(json, 100), NULL), LP_OK);
    }
    c = dial(&w);
    say(c, "POST /api/publish/news HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
           "Content-Type: application/json\r\n\r\n40\r\n");
    sayf(c, "%-64s\r\n", "{");
    settle(&w);
    CHECK_SILENT(c);
    say(c, "25\r\n"); /* one more than 100 */
    settle(&w);
    CHECK_INT(take(c)->status, 413);
    close_world(&w);
}

TEST(a_token_is_wanted) {
    static const char none[] = "Bearer", bad[] = "Bearer error=\"invalid_token\"";
    static const struct { const char *line, *challenge; } cases[] = {
        {"", none},
        {"Authorization: Bearer wrong\r\n", bad},
        {"Authorization: Bearer secre\r\n", bad},
        {"Authorization: Bearer secretsecret\r\n", bad},
        {"Authorization: Basic secret\r\n", none},
        {"Authorization: Bearer \r\n", none},
        {"Authorization: bEARER secret\r\n", NULL},
        {"Authorization: Bearer  secret \r\n", NULL}};
    size_t i;
    w.cfg.publish_token = "secret";
    open_world(&w);
    for (i = 0; i < LPI_COUNT(cases); i++) {
        peer *c = dial(&w);
        answer *a;
        sayf(c, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n%s"
                "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", cases[i].line);
        settle(&w);
        a = take(c);
        CHECK_INT(a->status, cases[i].challenge ? 401 : 200);
        if (a->status == 401) CHECK_STR(heading(a, "WWW-Authenticate"), cases[i].challenge);
    }
    CHECK_INT(ask(&w, dial(&w), "/api/poll/a?timeout=0")->status, 200); /* not for polls */
    close_world(&w);
}

TEST(lp_publish_says_what_is_wrong) {
    lp_published out;
    open_world(&w);
    memset(&out, 0x55, sizeof out);
    CHECK_INT(lp_publish(NULL, lp_s("a"), lp_s("{}"), &out), LP_ERR_ARG);
    CHECK_INT(lp_publish(w.s, lp_s(""), lp_s("{}"), &out), LP_ERR_ARG);
    CHECK_INT(lp_publish(w.s, lp_s(NULL), lp_s("{}"), &out), LP_ERR_ARG);
    CHECK_INT(lp_publish(w.s, lp_s("a\n"), lp_s("{}"), &out), LP_ERR_ARG);
    CHECK_INT(lp_publish(w.s, lp_s("\xff"), lp_s("{}"), &out), LP_ERR_ARG);
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s("[]"), &out), LP_ERR_JSON);
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s(""), &out), LP_ERR_JSON);
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s(NULL), &out), LP_ERR_JSON);
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s("{}{}"), &out), LP_ERR_JSON);
    CHECK(out.id[0] == 0x55 && out.id[39] == 0x55); /* untouched */
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s("{}"), NULL), LP_OK);
    CHECK_INT(stats_of(&w).messages, 1);
    close_world(&w);
}

TEST(ids_count_and_timestamps_grow) {
    lp_published first, second;
    open_world(&w);
    first = publish(&w, "a", "{}");
    second = publish(&w, "a", "{}");
    CHECK(!strncmp(first.id, second.id, 17));
    CHECK(!strcmp(first.id + 17, "1") && !strcmp(second.id + 17, "2"));
    CHECK(second.timestamp_us > first.timestamp_us);
    w.k.wall_us -= 3600 * UINT64_C(1000000); /* the wall clock jumps back */
    CHECK(publish(&w, "a", "{}").timestamp_us > second.timestamp_us);
    CHECK(strncmp(publish(&w, "b", "{}").id, first.id, 16));
    close_world(&w);
}

TEST(the_publishers_own_id_gives_way) {
    answer *a;
    open_world(&w);
    publish(&w, "a", "{\"id\":7,\"x\":1.50,\"\\u0069d\":8,\"channel\":{},\"y\":\"\\u0041\","
                     "\"timestamp\":[]}");
    a = ask(&w, dial(&w), "/api/poll/a?timeout=0");
    CHECK_INT(count_of(a->body, "\"id\":"), 1);
    CHECK(has(a->body, ",\"x\":1.50,\"y\":\"\\u0041\"}]"));
    close_world(&w);
}

TEST(a_full_table_forgets_the_longest_idle_first) {
    peer *c;
    answer *a;
    w.cfg.channels_max = 3;
    w.cfg.history_age_ms = 60000;
    open_world(&w);
    publish(&w, "held", "{}");
    ask(&w, dial(&w), "/api/poll/idle1?timeout=0");
    pass(&w, 5);
    ask(&w, dial(&w), "/api/poll/idle2?timeout=0");
    publish(&w, "new", "{}"); /* in the place of idle1 */
    CHECK_INT(stats_of(&w).channels, 3);
    CHECK_INT(lp_publish(w.s, lp_s("newer"), lp_s("{}"), NULL), LP_OK);
    CHECK_INT(lp_publish(w.s, lp_s("newest"), lp_s("{}"), NULL), LP_ERR_FULL);
    c = dial(&w);
    post(c, "/api/publish/newest", "{}");
    settle(&w);
    a = take(c);
    CHECK_INT(a->status, 503);
    CHECK_STR(member(a->body, "error"), "Too many channels");
    CHECK_STR(heading(a, "Retry-After"), "5");
    a = ask(&w, c, "/api/poll/newest");
    CHECK_INT(a->status, 503);
    CHECK_STR(member(a->body, "error"), "Too many channels");
    CHECK_STR(member(ask(&w, c, "/api/poll/held?timeout=0")->body, "count"), "1");
    close_world(&w);
}

/* The clock of a step is read once; lp_publish on another thread, or in a handler,
   reads it again. A message from "the future" is as fresh as they come. */
TEST(a_message_younger_than_the_step_is_kept) {
    peer *p, *c;
    answer *a;
    open_world(&w);
    p = dial(&w);
    c = dial(&w);
    settle(&w);
    w.k.cost_us[K_RECV] = 3000; /* a busy machine */
    post(p, "/api/publish/news", "{\"n\":1}");
    get(c, "/api/poll/news?timeout=0");
    w.k.turn = p->fd; /* in the same step, and in this order */
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(take(p)->status, 200);
    a = take(c);
    CHECK_STR(member(a->body, "count"), "1");
    CHECK_INT(stats_of(&w).messages, 1);
    CHECK_INT(stats_of(&w).evicted, 0);
    close_world(&w);
}

static void publish_from_a_handler(lp_request *r, void *ctx) {
    lp_published out;
    (void)ctx;
    w.k.now_us += 5000; /* it works for a while */
    CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s("{}"), &out), LP_OK);
    CHECK_INT(lp_reply(r, 200, "text/plain", lp_s(out.id)), LP_OK);
}

TEST(a_handler_may_publish_and_the_sweep_spares_it) {
    peer *h, *c;
    w.cfg.history_age_ms = 2000;
    open_world(&w);
    CHECK_INT(lp_on(w.s, "GET", "/work", publish_from_a_handler, NULL), LP_OK);
    h = dial(&w);
    c = dial(&w);
    publish(&w, "old", "{}"); /* so that a sweep is due in 2 s */
    settle(&w);
    w.k.now_us += 2001 * 1000; /* now it is, and the handler runs in the same step */
    get(h, "/work");
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(take(h)->status, 200);
    CHECK_INT(stats_of(&w).evicted, 1);
    CHECK_STR(member(ask(&w, c, "/api/poll/news?timeout=0")->body, "count"), "1");
    CHECK_STR(member(ask(&w, c, "/api/poll/old?timeout=0")->body, "count"), "0");
    close_world(&w);
}

/* The poll stands in the same read as the request that worked for a while. */
TEST(a_message_younger_than_the_event_is_kept) {
    peer *c;
    open_world(&w);
    CHECK_INT(lp_on(w.s, "GET", "/work", publish_from_a_handler, NULL), LP_OK);
    c = dial(&w);
    settle(&w);
    get(c, "/work");
    get(c, "/api/poll/news?timeout=0");
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    CHECK_STR(member(take(c)->body, "count"), "1");
    CHECK_INT(stats_of(&w).evicted, 0);
    close_world(&w);
}

TEST(a_channel_younger_than_the_step_is_not_forgotten) {
    uint64_t now;
    char before[40];
    open_world(&w);
    now = w.s->loops[0].now_ms;
    w.k.now_us += 5000;
    strcpy(before, publish(&w, "news", "{}").id);
    lpi_hub_lock(&w.s->hub); /* its message is pushed out, so it falls idle now */
    lpi_channel_evict(&w.s->hub, w.s->hub.oldest, 1,
                      w.s->hub.os->monotonic_us(w.s->hub.os->ctx) / 1000);
    CHECK(lpi_channel_find(&w.s->hub, lp_s("news"),
                           lpi_channel_hash(&w.s->hub, lp_s("news")), now) != LPI_NONE);
    lpi_hub_unlock(&w.s->hub);
    CHECK(!strncmp(publish(&w, "news", "{}").id, before, 17));
    close_world(&w);
}

TEST(the_hub_without_random_numbers_makes_no_channel) {
    open_world(&w);
    fault(&w, K_RANDOM, EIO, 0, 1);
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s("{}"), NULL), LP_ERR_OS);
    CHECK_INT(stats_of(&w).channels, 0);
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s("{}"), NULL), LP_OK);
    close_world(&w);
}

TEST(history_is_bounded_by_bytes) {
    uint64_t most = 0;
    int i;
    w.cfg.history_bytes = 10000;
    open_world(&w);
    for (i = 0; i < 200; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%d", i % 7);
        publish_padded(&w, name, 300);
        check_world(&w);
        if (stats_of(&w).history_bytes > most) most = stats_of(&w).history_bytes;
    }
    CHECK(most <= 10000 && most > 9000);
    CHECK(stats_of(&w).evicted > 150);
    publish_padded(&w, "large", 20000); /* more than all: it is kept, alone */
    CHECK_INT(stats_of(&w).messages, 1);
    close_world(&w);
}

/* ---- arrays ---- */

/* [{"n":FROM},...], of `count` objects, in memory that the next call reuses. */
static const char *array_of(int from, int count) {
    static char json[65536];
    char *to = json;
    int i;
    *to++ = '[';
    for (i = 0; i < count; i++) to += sprintf(to, "%s{\"n\":%d}", i ? "," : "", from + i);
    strcpy(to, "]");
    return json;
}

static lp_result publish_array(const char *channel, const char *json, lp_published *out) {
    return lp_publish(w.s, lp_s(channel), lp_s(json), out);
}

/* The reply has the messages from N on, `count` of them, with ids that count from `seq` on and
   timestamps that grow. */
static void check_messages(const answer *a, int n, int seq, int count) {
    lp_slice rest = a->body;
    uint64_t before = 0;
    int i;
    CHECK_INT(count_of(rest, "\"n\":"), count);
    rest.bytes = (const char *)memmem(rest.bytes, rest.length, "\"messages\":[", 12);
    CHECK(rest.bytes);
    rest.length = (size_t)(a->body.bytes + a->body.length - rest.bytes);
    for (i = 0; i < count; i++) {
        lp_slice id = member(rest, "id"), at;
        uint64_t number, us = us_of(member(rest, "timestamp"));
        CHECK(!lpi_parse_uint(lpi_slice(id.bytes + 17, id.length - 17), &number));
        CHECK_INT(number, seq + i);
        if (us <= before)
            unit_fail(__FILE__, __LINE__, "message %d: %llu after %llu", i,
                      (unsigned long long)us, (unsigned long long)before);
        before = us;
        at = member(rest, "n");
        CHECK(!lpi_parse_uint(at, &number));
        CHECK_INT(number, n + i);
        rest.length -= (size_t)(at.bytes - rest.bytes);
        rest.bytes = at.bytes;
    }
}

TEST(an_array_is_published_in_its_order) {
    answer *a;
    lp_slice ids;
    char first[40];
    open_world(&w);
    publish_n(&w, "news", 1);
    a = publish_over_http("/api/publish/news", " [ {\"n\":2} ,\n{\"n\":3},{\"n\":4, \"id\":7}\t] ");
    CHECK_INT(a->status, 200);
    CHECK(!memcmp(a->body.bytes, "{\"status\":\"published\",\"message_ids\":[\"", 38));
    CHECK(!member(a->body, "message_id").bytes);
    ids = lpi_slice(a->body.bytes + 38, 16);
    snprintf(first, sizeof first, "%.*s-", 16, ids.bytes);
    CHECK_INT(count_of(a->body, first), 3);
    CHECK(has(a->body, "-2\",\"") && has(a->body, "-3\",\"") && has(a->body, "-4\"],"));
    CHECK(has(a->body, "-4\"],\"timestamp\":1732412345.12") && has(a->body, ",\"waiters\":0}"));
    a = look(&w, "news", "0");
    check_messages(a, 1, 1, 4);
    CHECK_STR(member(a->body, "timestamp"), "1732412345.123460"); /* one us a message */
    close_world(&w);
}

/* The answer to an array of one still has a list. */
TEST(an_array_of_one) {
    answer *a;
    open_world(&w);
    a = publish_over_http("/api/publish/news", "[{\"n\":1}]");
    CHECK_INT(count_of(a->body, "-1\"],\"timestamp\""), 1);
    check_messages(look(&w, "news", "0"), 1, 1, 1);
    close_world(&w);
}

TEST(an_array_has_a_thousand_objects_at_most) {
    lp_published out;
    answer *a;
    open_world(&w);
    a = publish_over_http("/api/publish/news", array_of(1, 1000));
    CHECK_INT(a->status, 200);
    CHECK_INT(count_of(a->body, "\",\""), 1000); /* between the ids, and before them */
    check_messages(look(&w, "news", "0"), 1, 1, 1000);
    a = publish_over_http("/api/publish/news", array_of(1, 1001));
    CHECK_INT(a->status, 413);
    CHECK_STR(member(a->body, "error"), "Too many messages");
    CHECK_INT(publish_array("news", array_of(1, 1001), &out), LP_ERR_TOO_LARGE);
    CHECK_INT(stats_of(&w).published, 1000);
    CHECK_INT(publish_array("news", array_of(1001, 1000), &out), LP_OK);
    CHECK_INT(out.count, 1000);
    CHECK(!strcmp(out.id + 17, "2000"));
    check_messages(look(&w, "news", "0"), 1001, 1001, 1000);
    close_world(&w);
}

TEST(an_array_has_no_more_than_the_history) {
    lp_published out;
    w.cfg.history_count = 5;
    open_world(&w);
    memset(&out, 0x55, sizeof out);
    publish_n(&w, "news", 1);
    CHECK_INT(publish_array("news", array_of(2, 6), &out), LP_ERR_TOO_LARGE);
    CHECK(out.id[0] == 0x55);
    CHECK_INT(publish_over_http("/api/publish/news", array_of(2, 6))->status, 413);
    check_messages(look(&w, "news", "0"), 1, 1, 1);
    CHECK_INT(publish_array("news", array_of(2, 5), &out), LP_OK);
    check_messages(look(&w, "news", "0"), 2, 2, 5);
    close_world(&w);
}

TEST(an_array_wakes_once) {
    peer *c[3], *other;
    lp_published out;
    int i;
    open_world(&w);
    for (i = 0; i < 3; i++) c[i] = park_new(&w, i ? "/api/poll/news" : "/api/poll/x,news,y");
    other = park_new(&w, "/api/poll/other");
    CHECK_INT(publish_array("news", array_of(1, 20), &out), LP_OK);
    CHECK_INT(out.waiters, 3);
    CHECK_INT(publish_array("news", array_of(21, 1), &out), LP_OK);
    CHECK_INT(out.waiters, 0); /* they are awake already */
    settle(&w);
    for (i = 0; i < 3; i++) {
        CHECK_INT(c[i]->sends, 1);
        check_messages(take(c[i]), 1, 1, 21);
        CHECK_SILENT(c[i]);
    }
    CHECK_SILENT(other);
    park(&w, c[0], "/api/poll/news?last_id=now");
    CHECK_STR(member(publish_over_http("/api/publish/news", array_of(1, 2))->body, "waiters"),
              "1");
    close_world(&w);
}

static void publish_three(world *at) {
    lp_published out;
    CHECK_INT(lp_publish(at->s, lp_s("news"), lp_s("[{},{},{}]"), &out), LP_OK);
}

/* And a loop that sleeps is signalled once. */
TEST(an_array_signals_a_loop_once) {
    uint32_t wakes;
    open_world(&w);
    park_new(&w, "/api/poll/news");
    wakes = w.k.calls[K_WAKE_SIGNAL];
    while_asleep(&w, 1, publish_three);
    CHECK_INT(w.k.calls[K_WAKE_SIGNAL], wakes + 1);
    close_world(&w);
}

/* What limits the bytes may push out a part of the array itself, but never its last. */
TEST(an_array_may_evict_by_bytes) {
    peer *c;
    answer *a;
    w.cfg.history_bytes = 10000;
    open_world(&w);
    publish_padded(&w, "old", 1000);
    c = park_new(&w, "/api/poll/news");
    CHECK_INT(publish_array("news", array_of(1, 200), NULL), LP_OK);
    CHECK(stats_of(&w).history_bytes <= 10000);
    CHECK(stats_of(&w).messages > 20 && stats_of(&w).messages < 100);
    settle(&w);
    a = take(c);
    CHECK_STR(member(a->body, "reset"), "{\"news\":\"evicted\"");
    check_messages(a, 201 - (int)stats_of(&w).messages, 201 - (int)stats_of(&w).messages,
                   (int)stats_of(&w).messages);
    close_world(&w);
}

static struct { int times; lp_result result; lp_published published; } outcome_of_array;

static void on_array(void *ctx, lp_result result, const lp_published *published) {
    (void)ctx;
    outcome_of_array.times++;
    outcome_of_array.result = result;
    if (published) outcome_of_array.published = *published;
}

TEST(an_array_is_published_asynchronously) {
    memset(&outcome_of_array, 0, sizeof outcome_of_array);
    open_world(&w);
    CHECK_INT(lp_publish_async(w.s, lp_s("news"), lp_s("[{},{}]"), on_array, NULL), LP_OK);
    settle(&w);
    CHECK_INT(outcome_of_array.times, 1);
    CHECK_INT(outcome_of_array.result, LP_OK);
    CHECK_INT(outcome_of_array.published.count, 2);
    CHECK(!strcmp(outcome_of_array.published.id + 17, "2"));
    CHECK_INT(lp_publish_async(w.s, lp_s("news"), lp_s("[{},2]"), on_array, NULL), LP_OK);
    settle(&w);
    CHECK_INT(outcome_of_array.times, 2);
    CHECK_INT(outcome_of_array.result, LP_ERR_JSON);
    CHECK_INT(stats_of(&w).messages, 2);
    close_world(&w);
}

/* A ring that has wrapped makes room for many at once, in order. */
TEST(arrays_and_rings_of_every_size) {
    int round;
    for (round = 0; round < unit_rounds(60); round++) {
        int last = 0, history = 1 + (int)unit_below(70), i;
        memset(&w, 0, sizeof w);
        w.cfg.history_count = (uint32_t)history;
        open_world(&w);
        for (i = 0; i < 12; i++) {
            int count = 1 + (int)unit_below((uint32_t)history), held;
            CHECK_INT(publish_array("news", array_of(last + 1, count), NULL), LP_OK);
            last += count;
            held = last < history ? last : history;
            check_world(&w);
            check_messages(look(&w, "news", "0"), last - held + 1, last - held + 1, held);
        }
        close_world(&w);
    }
}

/* All or none, whatever allocation fails. */
TEST(an_array_without_memory) {
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        peer *c;
        int status;
        memset(&w, 0, sizeof w);
        open_world(&w);
        publish_n(&w, "news", 1);
        c = dial(&w);
        settle(&w);
        w.m.fail_at = w.m.calls + k;
        post(c, "/api/publish/news", array_of(2, 30));
        settle(&w);
        failed = w.m.failed;
        w.m.fail_at = 0;
        status = c->closed ? 0 : take(c)->status;
        CHECK(failed ? status == 503 || !status : status == 200);
        if (status == 503) check_messages(look(&w, "news", "0"), 1, 1, 1);
        else if (!failed) check_messages(look(&w, "news", "0"), 1, 1, 31);
        else CHECK(has(look(&w, "news", "0")->body, "\"count\":31"));
        close_world(&w);
    }
    CHECK(k > 31);
}
