/* Polls: what may be asked, what is answered at once, who may, and the limits. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"
#include "../store.h"

static world w;

static void check_bad(peer *c, const char *target, const char *error) {
    answer *a = ask(&w, c, target);
    if (a->status != 400) unit_fail(__FILE__, __LINE__, "%s got %d", target, a->status);
    CHECK_STR(member(a->body, "error"), error);
    CHECK_INT(stats_of(&w).waiters, 0);
}

TEST(bad_questions) {
    static const struct { const char *target, *error; } cases[] = {
        {"/api/poll/%00", "Bad channel name"},
        {"/api/poll/a%", "Bad channel name"},
        {"/api/poll/a%ff", "Bad channel name"},
        {"/api/poll/a,", "Bad channel name"},
        {"/api/poll/,a", "Bad channel name"},
        {"/api/poll/a,b,a", "Channel named twice"},
        {"/api/poll/a,%61", "Channel named twice"},
        {"/api/poll/1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "Too many channels"},
        {"/api/poll/a?timeout=", "Bad timeout"},
        {"/api/poll/a?timeout=-1", "Bad timeout"},
        {"/api/poll/a?timeout=1e3", "Bad timeout"},
        {"/api/poll/a?timeout=1.", "Bad timeout"},
        {"/api/poll/a?timeout=.5", "Bad timeout"},
        {"/api/poll/a?timeout=1%20", "Bad timeout"},
        {"/api/poll/a?limit=0", "Bad limit"},
        {"/api/poll/a?limit=1001", "Bad limit"},
        {"/api/poll/a?limit=", "Bad limit"},
        {"/api/poll/a?limit=01", "Bad limit"},
        {"/api/poll/a?limit=1.0", "Bad limit"},
        {"/api/poll/a?last_id=1", "Bad last_id"},
        {"/api/poll/a?last_id=NOW", "Bad last_id"},
        {"/api/poll/a?last_id=0123456789abcdef-", "Bad last_id"},
        {"/api/poll/a?last_id=0123456789ABCDEF-1", "Bad last_id"},
        {"/api/poll/a?last_id=0123456789abcdef-01", "Bad last_id"},
        {"/api/poll/a?last_id=0,0", "Bad last_id"},
        {"/api/poll/a,b?last_id=0123456789abcdef-1", "Bad last_id"},
        {"/api/poll/a,b,c?last_id=0,now", "Bad last_id"},
        {"/api/poll/a?since=x", "Bad since"},
        {"/api/poll/a?since=", "Bad since"},
        {"/api/poll/a?since=1.1234567", "Bad since"},
        {"/api/poll/a,b?since=0", "since takes one channel"},
        {"/api/poll/a?since=0&last_id=0", "since and last_id exclude each other"},
        {"/api/poll/a?since=0&last_id=", "since and last_id exclude each other"},
        {"/api/poll/a?limit=1&limit=1", "Parameter given twice"},
        {"/api/poll/a?limit=%zz", "Bad query"},
        {"/api/poll/a?last_id=now%f", "Bad query"}};
    size_t i;
    peer *c;
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < LPI_COUNT(cases); i++) check_bad(c, cases[i].target, cases[i].error);
    CHECK_INT(stats_of(&w).channels, 0);
    say(c, "GET /api/poll/a HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: a b\r\n\r\n");
    settle(&w);
    CHECK_STR(member(take(c)->body, "error"), "Bad X-Client-ID");
    say(c, "GET /api/poll/a HTTP/1.1\r\nHost: localhost\r\nX-Client-ID:\r\n\r\n");
    settle(&w);
    CHECK_STR(member(take(c)->body, "error"), "Bad X-Client-ID");
    close_world(&w);
}

TEST(names_are_decoded_once) {
    open_world(&w);
    publish(&w, "a,b/c", "{}");
    publish(&w, "%41", "{}");
    publish(&w, "\xc3\xa4+", "{}");
    CHECK_STR(member(ask(&w, dial(&w), "/api/poll/a%2Cb%2fc?timeout=0")->body, "count"), "1");
    CHECK_STR(member(ask(&w, dial(&w), "/api/poll/%2541?timeout=0")->body, "count"), "1");
    CHECK_STR(member(ask(&w, dial(&w), "/api/poll/%c3%a4+?timeout=0")->body, "count"), "1");
    CHECK_STR(member(ask(&w, dial(&w), "/api/poll/%C3%A4%2b?timeout=0")->body, "count"), "1");
    CHECK_INT(ask(&w, dial(&w), "/api/poll/a/b?timeout=0")->status, 404);
    CHECK_INT(ask(&w, dial(&w), "/api/poll/")->status, 404);
    close_world(&w);
}

TEST(sixteen_channels_of_255_bytes) {
    char target[16 * 256 + 100] = "/api/poll/", name[16][256];
    int i;
    peer *c;
    w.cfg.head_bytes_max = 65535;
    open_world(&w);
    for (i = 0; i < 16; i++) {
        memset(name[i], 'a' + i, 255);
        name[i][255] = 0;
        if (i) strcat(target, ",");
        strcat(target, name[i]);
    }
    strcat(target, "?timeout=3");
    c = dial(&w);
    say(c, "GET ");
    say(c, target);
    say(c, " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    settle(&w);
    CHECK_INT(stats_of(&w).waiters, 1);
    CHECK_INT(w.s->hub.waiters.used, 16);
    CHECK_INT(publish(&w, name[15], "{}").waiters, 1);
    settle(&w);
    CHECK_INT(count_of(member(take(c)->body, "last_id"), ","), 15);
    close_world(&w);
}

/* ---- waiting ---- */

/* In ms. */
static uint64_t wait_for_answer(peer *c) {
    uint64_t began = now_ms(&w);
    while (!unheard(c).length) CHECK_INT(turn(&w, 100000000), LP_OK);
    return now_ms(&w) - began;
}

TEST(a_timeout_is_neither_early_nor_late) {
    static const struct { const char *text; uint64_t ms; } cases[] = {
        {"timeout=1", 1000}, {"timeout=0.5", 500}, {"timeout=0.001", 1},
        {"timeout=0.0000001", 1}, {"", 30000}, {"timeout=60", 60000},
        {"timeout=61", 60000}, {"timeout=99999999999999999999999", 60000},
        {"timeout=12.3456", 12346}, {"timeout=007", 7000}};
    size_t i;
    peer *c;
    open_world(&w);
    c = dial(&w);
    settle(&w);
    for (i = 0; i < LPI_COUNT(cases); i++) {
        uint64_t took;
        char target[100];
        answer *a;
        w.k.now_us += unit_below(5000000); /* any fraction of a millisecond */
        snprintf(target, sizeof target, "/api/poll/a?%s", cases[i].text);
        settle(&w);
        park(&w, c, target);
        took = wait_for_answer(c);
        if (took < cases[i].ms || took > cases[i].ms + TICK_MS)
            unit_fail(__FILE__, __LINE__, "%s took %lu ms", target, (unsigned long)took);
        a = take(c);
        CHECK_STR(member(a->body, "status"), "timeout");
        CHECK_STR(member(a->body, "count"), "0");
        CHECK(has(a->body, "\"messages\":[]}"));
    }
    close_world(&w);
}

TEST(a_timeout_of_zero_answers_at_once) {
    answer *a;
    open_world(&w);
    a = ask(&w, dial(&w), "/api/poll/a?timeout=0");
    CHECK_STR(member(a->body, "status"), "timeout");
    a = ask(&w, dial(&w), "/api/poll/a?timeout=0.0");
    CHECK_STR(member(a->body, "status"), "timeout");
    CHECK_INT(w.s->hub.waiters.used, 0);
    close_world(&w);
}

TEST(the_default_is_cut_to_the_cap_too) {
    peer *c;
    w.cfg.timeout_ms_max = 2000;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a");
    CHECK(wait_for_answer(c) <= 2000 + TICK_MS);
    close_world(&w);
}

TEST(a_timeout_returns_the_cursor_that_was_parked) {
    peer *c;
    answer *a;
    lp_published p;
    char last_id[60], channel_start[40];
    open_world(&w);
    a = ask(&w, dial(&w), "/api/poll/news?timeout=0");
    strcpy(channel_start, text_of(a->body, "timestamp"));
    CHECK(!strcmp(channel_start, "1732412345.123456")); /* the channel's start */
    CHECK(!strcmp(text_of(a->body, "last_id") + 16, "-0"));
    p = publish_n(&w, "news", 1);
    c = dial(&w);
    park(&w, c, "/api/poll/news?last_id=now&timeout=1");
    pass(&w, 1002);
    a = take(c);
    CHECK_STR(member(a->body, "last_id"), p.id);
    CHECK_STR(member(a->body, "timestamp"), "1732412345.123457"); /* its message's */
    strcpy(last_id, text_of(a->body, "last_id"));
    get(c, "/api/poll/news,other?last_id=now&timeout=1");
    pass(&w, 1002);
    a = take(c);
    CHECK(!memcmp(member(a->body, "last_id").bytes, last_id, strlen(last_id)));
    CHECK(member(a->body, "last_id").bytes[strlen(last_id)] == ',');
    close_world(&w);
}

/* 0 and now are resolved when the poll comes: what is said back is a position. */
TEST(a_cursor_is_good_for_the_next_poll) {
    peer *c;
    answer *a;
    int i;
    open_world(&w);
    c = dial(&w);
    a = ask(&w, c, "/api/poll/news?last_id=0&timeout=0");
    for (i = 1; i <= 20; i++) {
        char last_id[60];
        strcpy(last_id, text_of(a->body, "last_id"));
        if (i % 3) publish_n(&w, "news", i);
        if (i % 5 == 0) publish_n(&w, "news", -i);
        a = askf(&w, c, "/api/poll/news?last_id=%s&timeout=0", last_id);
        CHECK_INT(atoi(text_of(a->body, "count")), (i % 3 != 0) + (i % 5 == 0));
        CHECK(!has(a->body, "\"reset\""));
    }
    close_world(&w);
}

TEST(the_cursor_is_decoded_like_any_query_value) {
    lp_published p;
    char id[60], *dash;
    open_world(&w);
    p = publish_n(&w, "news", 1);
    publish_n(&w, "news", 2);
    strcpy(id, p.id);
    dash = strchr(id, '-');
    *dash = 0;
    CHECK_STR(member(askf(&w, dial(&w), "/api/poll/news?timeout=0&last_id=%s%%2D%s", id,
                          dash + 1)->body, "n"), "2");
    CHECK_STR(member(ask(&w, dial(&w), "/api/poll/news?timeout=0&%6cast_id=now")->body,
                     "count"), "0");
    CHECK_STR(member(ask(&w, dial(&w), "/api/poll/news,b?timeout=0&last_id=now%2C0")->body,
                     "count"), "0");
    close_world(&w);
}

TEST(an_unknown_parameter_is_ignored) {
    open_world(&w);
    CHECK_INT(ask(&w, dial(&w), "/api/poll/a?timeout=0&x=1&x=2&&y&z=%zz&%zz=1")->status, 200);
    close_world(&w);
}

/* ---- resets ---- */

static void check_reset(answer *a, const char *reset_text, const char *count) {
    CHECK_INT(a->status, 200);
    CHECK_STR(member(a->body, "status"), "messages");
    CHECK_STR(member(a->body, "count"), count);
    if (!has(a->body, reset_text))
        unit_fail(__FILE__, __LINE__, "no %s in %.*s", reset_text, (int)a->body.length,
                  a->body.bytes);
}

TEST(what_cannot_be_proven_is_said_at_once) {
    lp_published p[10];
    char other[40];
    int i;
    w.cfg.history_count = 3;
    open_world(&w);
    for (i = 0; i < 10; i++) p[i] = publish_n(&w, "news", i);
    check_reset(askf(&w, dial(&w), "/api/poll/news?last_id=%s", p[5].id),
                ",\"reset\":{\"news\":\"evicted\"}}", "3");
    CHECK(!has(askf(&w, dial(&w), "/api/poll/news?last_id=%s", p[6].id)->body, "reset"));
    strcpy(other, p[9].id);
    strcpy(other + 17, "11");
    check_reset(askf(&w, dial(&w), "/api/poll/news?last_id=%s", other),
                ",\"reset\":{\"news\":\"ahead\"}}", "3");
    check_reset(ask(&w, dial(&w), "/api/poll/news?last_id=0123456789abcdef-9"),
                ",\"reset\":{\"news\":\"epoch\"}}", "3");
    check_reset(ask(&w, dial(&w), "/api/poll/none?last_id=0123456789abcdef-0"),
                ",\"reset\":{\"none\":\"epoch\"}}", "0");
    check_reset(askf(&w, dial(&w), "/api/poll/news,none?last_id=%s,0123456789abcdef-0",
                     p[5].id),
                ",\"reset\":{\"news\":\"evicted\",\"none\":\"epoch\"}}", "3");
    check_reset(askf(&w, dial(&w), "/api/poll/none,news?last_id=0,%s&limit=2", p[5].id),
                ",\"more\":true,\"reset\":{\"news\":\"evicted\"}}", "2");
    CHECK_INT(stats_of(&w).resets, 6);
    close_world(&w);
}

TEST(a_name_in_a_reset_is_quoted) {
    open_world(&w);
    check_reset(ask(&w, dial(&w), "/api/poll/%22%5c?last_id=0123456789abcdef-0"),
                ",\"reset\":{\"\\\"\\\\\":\"epoch\"}}", "0");
    close_world(&w);
}

TEST(after_a_reset_the_cursor_is_good) {
    peer *c;
    answer *a;
    open_world(&w);
    publish_n(&w, "news", 1);
    c = dial(&w);
    a = ask(&w, c, "/api/poll/news?last_id=0123456789abcdef-0");
    a = askf(&w, c, "/api/poll/news?timeout=0&last_id=%s", text_of(a->body, "last_id"));
    CHECK_STR(member(a->body, "status"), "timeout");
    CHECK(!has(a->body, "reset"));
    close_world(&w);
}

/* ---- the basic dialect ---- */

TEST(since_asks_one_at_a_time) {
    lp_published p[3];
    peer *c;
    answer *a;
    char since[40] = "0";
    int i;
    open_world(&w);
    for (i = 0; i < 3; i++) p[i] = publish_n(&w, "news", i);
    c = dial(&w);
    for (i = 0; i < 3; i++) {
        a = askf(&w, c, "/api/poll/news?since=%s&limit=50", since);
        CHECK(!memcmp(a->body.bytes, "{\"status\":\"message\",\"last_id\":\"", 31));
        CHECK_STR(member(a->body, "last_id"), p[i].id);
        CHECK_STR(member(a->body, "count"), "1");
        CHECK(has(a->body, ",\"count\":1,\"data\":{\"id\":"));
        CHECK(!has(a->body, "more"));
        strcpy(since, text_of(a->body, "timestamp"));
    }
    sayf(c, "GET /api/poll/news?since=%s&timeout=1 HTTP/1.1\r\nHost: localhost\r\n\r\n", since);
    pass(&w, 1002);
    a = take(c);
    CHECK_STR(member(a->body, "status"), "timeout");
    CHECK(has(a->body, ",\"count\":0,\"messages\":[]}"));
    CHECK_STR(member(a->body, "timestamp"), since);
    CHECK_STR(member(a->body, "last_id"), p[2].id);
    close_world(&w);
}

/* With something held, a reset in the basic dialect is told at once. */
TEST(since_with_a_reset_and_messages) {
    answer *a;
    w.cfg.history_count = 2;
    open_world(&w);
    publish_n(&w, "news", 1);
    a = ask(&w, dial(&w), "/api/poll/news?since=1");
    CHECK_STR(member(a->body, "status"), "message");
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}}"));
    publish_n(&w, "news", 2);
    publish_n(&w, "news", 3);
    a = ask(&w, dial(&w), "/api/poll/news?since=1732412345.123456");
    CHECK(has(a->body, "\"reset\":{\"news\":\"evicted\"}}"));
    CHECK_STR(member(a->body, "n"), "2");
    a = ask(&w, dial(&w), "/api/poll/news?since=1732412345.123457");
    CHECK(!has(a->body, "reset")); /* that of the newest evicted: all after it is here */
    a = ask(&w, dial(&w), "/api/poll/news?since=9999999999");
    CHECK(has(a->body, "\"reset\":{\"news\":\"ahead\"}}"));
    CHECK_STR(member(a->body, "n"), "2");
    close_world(&w);
}

/* With nothing held it is parked, since that client would spin, and the reset rides on
   the reply that ends the wait. */
TEST(since_with_a_reset_and_nothing_held_is_parked) {
    peer *c;
    answer *a;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/news?since=5&timeout=1");
    pass(&w, 1002);
    a = take(c);
    CHECK_STR(member(a->body, "status"), "timeout");
    CHECK(has(a->body, ",\"messages\":[],\"reset\":{\"news\":\"epoch\"}}"));
    park(&w, c, "/api/poll/news?since=5&timeout=1");
    publish_n(&w, "news", 1);
    settle(&w);
    a = take(c);
    CHECK_STR(member(a->body, "status"), "message");
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}}"));
    CHECK_STR(member(a->body, "n"), "1");
    park(&w, c, "/api/poll/news?last_id=now&timeout=1"); /* and on no other's */
    publish_n(&w, "news", 2);
    settle(&w);
    CHECK(!has(take(c)->body, "reset"));
    close_world(&w);
}

/* ---- limits ---- */

static void check_too_many(answer *a, const char *error) {
    CHECK_INT(a->status, 429);
    CHECK_STR(member(a->body, "error"), error);
    CHECK_STR(heading(a, "Retry-After"), "5");
    CHECK(!heading(a, "Connection").bytes);
}

TEST(limits_by_client_channel_address_and_server) {
    peer *c[10];
    int i;
    answer *a;
    w.cfg.waiters_max = 6;
    w.cfg.waiters_per_client = 2;
    w.cfg.waiters_per_channel = 3;
    w.cfg.waiters_per_address = 5;
    open_world(&w);
    for (i = 0; i < 10; i++) c[i] = dial_from(&w, i < 8 ? "10.0.0.1" : "10.0.0.2");
    get_as(c[0], "/api/poll/a", "one");
    get_as(c[1], "/api/poll/b", "one");
    settle(&w);
    get_as(c[2], "/api/poll/c", "one");
    settle(&w);
    check_too_many(take(c[2]), "Too many connections from client");
    get_as(c[2], "/api/poll/a", "two");
    get_as(c[3], "/api/poll/a,c", "two");
    settle(&w);
    get_as(c[4], "/api/poll/c,a", "three");
    settle(&w);
    check_too_many(take(c[4]), "Channel at capacity");
    get_as(c[4], "/api/poll/c", "three");
    settle(&w);
    get_as(c[5], "/api/poll/d", "four");
    settle(&w);
    a = take(c[5]);
    CHECK_INT(a->status, 429); /* five from 10.0.0.1 */
    CHECK_STR(heading(a, "Retry-After"), "5");
    get_as(c[8], "/api/poll/d", "four");
    settle(&w);
    CHECK_SILENT(c[8]);
    get_as(c[9], "/api/poll/d", "five");
    settle(&w);
    check_too_many(take(c[9]), "Server at capacity");
    CHECK_INT(stats_of(&w).waiters, 6);
    CHECK_INT(stats_of(&w).refused, 4);
    get_as(c[9], "/api/poll/d?timeout=0", "five"); /* one that does not wait may */
    settle(&w);
    CHECK_INT(take(c[9])->status, 200);
    publish(&w, "d", "{}");
    settle(&w);
    CHECK_INT(take(c[8])->status, 200);
    get_as(c[9], "/api/poll/e", "five");
    settle(&w);
    CHECK_SILENT(c[9]);
    close_world(&w);
}

TEST(without_a_name_the_address_is_the_client) {
    peer *c[3];
    w.cfg.waiters_per_client = 1;
    open_world(&w);
    c[0] = dial_from(&w, "10.0.0.1");
    c[1] = dial_from(&w, "10.0.0.2");
    c[2] = dial_from(&w, "10.0.0.1");
    park(&w, c[0], "/api/poll/a");
    park(&w, c[1], "/api/poll/a");
    check_too_many(ask(&w, c[2], "/api/poll/a"), "Too many connections from client");
    get_as(c[2], "/api/poll/a", "10.0.0.1"); /* a name is no address */
    settle(&w);
    CHECK_SILENT(c[2]);
    close_world(&w);
}

TEST(an_ipv6_client_has_a_whole_64_for_the_ceiling) {
    peer *c[3];
    w.cfg.waiters_per_address = 1;
    open_world(&w);
    c[0] = dial_from(&w, "2001:db8::1");
    c[1] = dial_from(&w, "2001:db8::ffff:1");
    c[2] = dial_from(&w, "2001:db8:0:1::1");
    park(&w, c[0], "/api/poll/a");
    CHECK_INT(ask(&w, c[1], "/api/poll/a")->status, 429);
    park(&w, c[2], "/api/poll/a");
    close_world(&w);
}

/* ---- who may ---- */

static char asked[512];
static int refuse_with;

static int authorize(void *ctx, lp_request *r, lp_action action, lp_slice channel) {
    lp_stats stats;
    (void)ctx;
    sprintf(asked + strlen(asked), "%s:%.*s:%.*s;", action == LP_POLL ? "poll" : "publish",
            (int)channel.length, channel.bytes, (int)lp_header(r, "Cookie").length,
            lp_header(r, "Cookie").bytes ? lp_header(r, "Cookie").bytes : "");
    CHECK(lp_reply(r, 200, NULL, lp_s("")) == LP_ERR_ARG); /* not its answer to give */
    CHECK(lp_reply_error(r, 403, "no") == LP_ERR_ARG);
    CHECK(lp_reply_header(r, "X-A", lp_s("b")) == LP_ERR_ARG);
    lp_stats_read(w.s, &stats); /* the hub is not held */
    CHECK_INT(lp_publish(w.s, lp_s("audit"), lp_s("{}"), NULL), LP_OK);
    return strstr(asked, "secret") ? refuse_with : 0;
}

TEST(the_hook_is_asked_once_per_channel) {
    peer *c;
    w.cfg.authorize.ask = authorize;
    open_world(&w);
    c = dial(&w);
    say(c, "GET /api/poll/a,b%2Cc,%64?timeout=0 HTTP/1.1\r\nHost: localhost\r\nCookie: k\r\n\r\n");
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    CHECK_STR(lp_s(asked), "poll:a:k;poll:b,c:k;poll:d:k;");
    asked[0] = 0;
    park(&w, c, "/api/poll/a");
    publish(&w, "a", "{}");
    settle(&w);
    CHECK_STR(lp_s(asked), "poll:a:;"); /* and not again when it is answered */
    close_world(&w);
}

TEST(the_hook_refuses_with_401_or_403) {
    static const struct { int says, status; const char *error; } cases[] = {
        {401, 401, "Unauthorized"}, {403, 403, "Forbidden"}, {-1, 403, "Forbidden"},
        {200, 403, "Forbidden"}};
    size_t i;
    w.cfg.authorize.ask = authorize;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(cases); i++) {
        answer *a;
        refuse_with = cases[i].says;
        asked[0] = 0;
        a = ask(&w, dial(&w), "/api/poll/a,secret,b");
        CHECK_INT(a->status, cases[i].status);
        CHECK_STR(member(a->body, "error"), cases[i].error);
        CHECK_STR(heading(a, "WWW-Authenticate"), cases[i].says == 401 ? "Bearer" : "");
        CHECK_STR(lp_s(asked), "poll:a:;poll:secret:;");
        CHECK_INT(stats_of(&w).waiters, 0);
    }
    close_world(&w);
}

TEST(publishing_is_judged_before_the_body_is_read) {
    static const char head[] = "POST /api/publish/%s HTTP/1.1\r\nHost: localhost\r\n"
                               "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n";
    peer *c;
    w.cfg.authorize.ask = authorize;
    open_world(&w);
    c = dial(&w);
    sayf(c, head, "ne%77s");
    settle(&w);
    CHECK_STR(lp_s(asked), "publish:news:;");
    say(c, "{");
    settle(&w);
    say(c, "}");
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    CHECK_STR(lp_s(asked), "publish:news:;"); /* once */
    asked[0] = 0;
    refuse_with = 403;
    sayf(c, head, "secret");
    settle(&w);
    CHECK_INT(take(c)->status, 403);
    CHECK(c->shut); /* the body that comes is no request */
    close_world(&w);
}

/* ---- HEAD ---- */

TEST(head_never_waits) {
    peer *c;
    answer *a, *b;
    open_world(&w);
    c = dial(&w);
    say(c, "HEAD /api/poll/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    settle(&w);
    a = take_head(c);
    CHECK_INT(a->status, 200);
    CHECK_SILENT(c);
    b = ask(&w, c, "/api/poll/a?timeout=0");
    CHECK_INT(atoi(text_of(lpi_slice(b->body.bytes, b->body.length), "count")), 0);
    CHECK_INT(heading(a, "Content-Length").length, heading(b, "Content-Length").length);
    close_world(&w);
}

/* ---- fetching: the store is elsewhere ---- */

static lpi_channel *channel_named(const char *name) {
    lpi_hub *hub = &w.s->hub;
    uint32_t index;
    lpi_hub_lock(hub);
    index = lpi_channel_find(hub, lp_s(name), lpi_channel_hash(hub, lp_s(name)), now_ms(&w));
    lpi_hub_unlock(hub);
    return lpi_channel_at(hub, index);
}

/* The channel's state has come. */
static void load(const char *name) {
    lpi_hub *hub = &w.s->hub;
    lpi_hub_lock(hub);
    store_load_channel(hub, lpi_channel_find(hub, lp_s(name), lpi_channel_hash(hub, lp_s(name)),
                                             now_ms(&w)), now_ms(&w));
    lpi_hub_unlock(hub);
}

static uint32_t parked(void) { return w.s->loops[0].phases[LPI_PARKED]; }

TEST(a_fetching_poll_is_judged_when_all_its_channels_have_come) {
    peer *c, *d, *e;
    open_world(&w);
    store_open(&w.s->hub);
    c = dial(&w);
    park(&w, c, "/api/poll/a,b?last_id=0");
    d = dial(&w);
    park(&w, d, "/api/poll/a?last_id=0123456789abcdef-7");
    e = dial(&w);
    park(&w, e, "/api/poll/a?timeout=1");
    CHECK_INT(parked(), 3);
    CHECK_INT(w.s->hub.requested.used, 4);
    load("a");
    settle(&w);
    CHECK(has(take(d)->body, "\"reset\":{\"a\":\"epoch\"}"));
    CHECK_INT(parked(), 2);
    CHECK_INT(w.s->hub.requested.used, 2); /* that of c, which waits for b */
    load("b");
    settle(&w);
    CHECK_INT(parked(), 2);
    CHECK_INT(w.s->hub.requested.used, 0);
    CHECK_INT(publish_n(&w, "a", 1).waiters, 2);
    settle(&w);
    CHECK_STR(member(take(c)->body, "n"), "1");
    CHECK_STR(member(take(e)->body, "n"), "1");
    close_world(&w);
}

TEST(a_fetching_poll_whose_wait_is_over_gets_503) {
    peer *c;
    answer *a;
    open_world(&w);
    store_open(&w.s->hub);
    c = dial(&w);
    park(&w, c, "/api/poll/a,b?timeout=2");
    pass(&w, 2002);
    a = take(c);
    CHECK_INT(a->status, 503);
    CHECK_STR(heading(a, "Retry-After"), "5");
    CHECK_INT(w.s->hub.requested.used, 0);
    c = dial(&w);
    park(&w, c, "/api/poll/a,b?timeout=2");
    finish(c);
    settle(&w);
    CHECK(c->closed);
    CHECK_INT(w.s->hub.requested.used, 0);
    close_world(&w);
}

/* With timeout=0 too: what it asks for is fetched, and then it is answered at once. */
TEST(a_poll_fetches_for_redis_timeout_ms_at_most) {
    static const char *const waits[] = {"0", "60"};
    peer *c;
    int i;
    for (i = 0; i < 2; i++) {
        char target[60];
        memset(&w, 0, sizeof w);
        w.cfg.redis_timeout_ms = 700;
        open_world(&w);
        store_open(&w.s->hub);
        snprintf(target, sizeof target, "/api/poll/a?timeout=%s", waits[i]);
        c = dial(&w);
        park(&w, c, target);
        pass(&w, 690);
        CHECK_SILENT(c);
        pass(&w, 20);
        CHECK_INT(take(c)->status, 503);
        c = dial(&w);
        park(&w, c, target);
        pass(&w, 600);
        load("a");
        settle(&w);
        if (!i) CHECK_STR(member(take(c)->body, "status"), "timeout");
        else CHECK_SILENT(c);
        pass(&w, 59300);
        if (i) CHECK_SILENT(c);
        pass(&w, 200);
        if (i) CHECK_STR(member(take(c)->body, "status"), "timeout");
        close_world(&w);
    }
}

TEST(another_epoch_while_parked_is_a_reset) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a");
    channel_named("a")->epoch_number++;
    channel_named("a")->epoch++;
    publish_n(&w, "a", 1);
    settle(&w);
    CHECK(has(take(c)->body, "\"reset\":{\"a\":\"epoch\"}"));
    close_world(&w);
}
