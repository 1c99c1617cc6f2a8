/* The hooks on messages, before_publish and after_publish, and who may publish over HTTP. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"
#include "../redis_kernel.h"

static world w;

/* ---- before a publish ---- */

static struct {
    int asked, status;
    const char *text, *json; /* what it sets, unless NULL                                  */
    char channel[300], seen[200];
    int then; /* what else it does: 1 reads the request, 2 publishes, 3 takes its time     */
} before;

static int on_before(void *ctx, lp_request *r, lp_slice channel, lp_slice *json,
                     const char **text) {
    CHECK(ctx == &before && !*text);
    CHECK(!w.s->hub.held);
    before.asked++;
    memcpy(before.channel, channel.bytes, channel.length);
    before.channel[channel.length] = 0;
    snprintf(before.seen, sizeof before.seen, "%.*s", (int)json->length, json->bytes);
    if (before.then == 1) {
        CHECK_STR(lp_method(r), "POST");
        CHECK_STR(lp_param(r, "channel"), before.channel);
        CHECK_STR(lp_query(r, "q"), "a b");
        CHECK_STR(lp_body(r), before.seen);
        CHECK_INT(lp_reply(r, 200, NULL, lp_s("")), LP_ERR_ARG);
        CHECK_INT(lp_reply_header(r, "X-Mine", lp_s("1")), LP_ERR_ARG);
    }
    if (before.then == 2) publish(&w, "log", "{\"seen\":true}");
    if (before.then == 3) tick(&w, 5000);
    if (before.text) *text = before.text;
    if (before.json) *json = lp_s(before.json);
    return before.status;
}

static void open_before(void) {
    memset(&before, 0, sizeof before);
    w.cfg.before_publish.ask = on_before;
    w.cfg.before_publish.ctx = &before;
    open_world(&w);
}

static answer *post_to(const char *target, const char *json) {
    peer *c = dial(&w);
    post(c, target, json);
    settle(&w);
    return take(c);
}

TEST(before_publish_lets_pass) {
    open_before();
    before.then = 1;
    CHECK_INT(post_to("/api/publish/a%2Fb%22?q=a+b", " {\"n\":1}")->status, 200);
    CHECK_INT(before.asked, 1);
    CHECK(!strcmp(before.channel, "a/b\""));
    CHECK(!strcmp(before.seen, " {\"n\":1}"));
    CHECK_STR(lp_s(ns_of(look(&w, "a%2Fb%22", "0"))), "1");
    CHECK_INT(post_to("/api/publish/x?q=a+b", "[{\"n\":1},{\"n\":2}]")->status, 200);
    CHECK(!strcmp(before.seen, "[{\"n\":1},{\"n\":2}]"));
    CHECK_INT(before.asked, 2); /* once for the array */
    CHECK_STR(lp_s(ns_of(look(&w, "x", "0"))), "1,2");
    close_world(&w);
}

TEST(before_publish_is_asked_of_good_requests_over_http_alone) {
    peer *c;
    w.cfg.message_bytes_max = 20;
    w.cfg.history_count = 2;
    open_before();
    CHECK_INT(post_to("/api/publish/x", "{")->status, 400);
    CHECK_INT(post_to("/api/publish/x", "[]")->status, 400);
    CHECK_INT(post_to("/api/publish/x", "[{},{},{}]")->status, 413);
    CHECK_INT(post_to("/api/publish/x", "{\"text\":\"too much!\"} ")->status, 413);
    CHECK_INT(post_to("/api/publish/%00", "{}")->status, 400);
    c = dial(&w);
    say(c, "POST /api/publish/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}");
    settle(&w);
    CHECK_INT(take(c)->status, 415);
    publish(&w, "x", "{}");
    CHECK_INT(before.asked, 0);
    CHECK_INT(post_to("/api/publish/x", "{\"text\":\"too much!\"}")->status, 200);
    CHECK_INT(before.asked, 1);
    close_world(&w);
}

static void check_refusal(int status, const char *error) {
    answer *a = post_to("/api/publish/x", "{\"n\":1}");
    CHECK_INT(a->status, status);
    CHECK_STR(member(a->body, "error"), error);
    CHECK_STR(heading(a, "Content-Type"), "application/json");
    if (status == 401) CHECK_STR(heading(a, "WWW-Authenticate"), "Bearer");
    else CHECK(!heading(a, "WWW-Authenticate").bytes);
    if (status == 429 || status == 503) CHECK_STR(heading(a, "Retry-After"), "5");
    else CHECK(!heading(a, "Retry-After").bytes);
    CHECK_INT(stats_of(&w).published, 0);
    CHECK_INT(stats_of(&w).channels, 0);
}

TEST(before_publish_refuses) {
    static const int statuses[] = {400, 401, 403, 404, 409, 422, 429, 499, 500, 503, 599};
    size_t i;
    open_before();
    for (i = 0; i < LPI_COUNT(statuses); i++) {
        before.status = statuses[i];
        before.text = NULL;
        check_refusal(statuses[i], "Message refused");
        before.text = "Not today, <\xff> friend";
        check_refusal(statuses[i], "Not today, <\xef\xbf\xbd> friend");
    }
    before.json = "{}"; /* goes for nothing */
    check_refusal(599, "Not today, <\xef\xbf\xbd> friend");
    CHECK_INT(w.log_lines[LP_LOG_ERROR], 0);
    close_world(&w);
}

TEST(before_publish_with_a_bad_status) {
    static const int statuses[] = {-1, 1, 200, 204, 302, 399, 600, 1000};
    size_t i;
    open_before();
    before.text = "never told";
    for (i = 0; i < LPI_COUNT(statuses); i++) {
        before.status = statuses[i];
        check_refusal(500, "Message not published");
        CHECK_INT(w.log_lines[LP_LOG_ERROR], i + 1);
        CHECK_STR(lp_s(w.log), "before_publish: gave a bad status");
    }
    close_world(&w);
}

TEST(before_publish_gives_other_json) {
    answer *a;
    open_before();
    before.json = "{\"n\":7,\"by\":\"hook\"}";
    a = post_to("/api/publish/x", "{\"n\":1}");
    CHECK_INT(a->status, 200);
    CHECK_INT(count_of(a->body, "\"message_id\":"), 1);
    CHECK_STR(member(look(&w, "x", "0")->body, "by"), "hook");
    before.json = "[{\"n\":8},{\"n\":9}]"; /* the answer is that to an array */
    a = post_to("/api/publish/x", "{\"n\":1}");
    CHECK_INT(a->status, 200);
    CHECK_INT(count_of(a->body, "\"message_ids\":["), 1);
    before.json = " {\"n\":10} ";
    a = post_to("/api/publish/x", "[{\"n\":1},{\"n\":2}]");
    CHECK_INT(count_of(a->body, "\"message_id\":"), 1);
    CHECK_STR(lp_s(ns_of(look(&w, "x", "0"))), "7,8,9,10");
    close_world(&w);
}

TEST(before_publish_gives_bad_json) {
    static const char *const bad[] = {"", "{", "[]", "1", "null", "{} {}", "[{},1]",
                                      "{\"text\":\"21 bytes\"  }", "[{},{},{}]"};
    static const char good[] = "{\"text\":\"20 bytes\" }";
    size_t i;
    w.cfg.message_bytes_max = 20;
    w.cfg.history_count = 2;
    open_before();
    for (i = 0; i < LPI_COUNT(bad); i++) {
        before.json = bad[i];
        check_refusal(500, "Message not published");
        CHECK_INT(w.log_lines[LP_LOG_ERROR], i + 1);
        CHECK_STR(lp_s(w.log), "before_publish: gave bad JSON");
    }
    before.json = good;
    CHECK_INT(post_to("/api/publish/x", "{}")->status, 200);
    close_world(&w);
}

/* A part of the body, which begins where that does. */
static int first_part(void *ctx, lp_request *r, lp_slice channel, lp_slice *json,
                      const char **text) {
    (void)ctx, (void)r, (void)channel, (void)text;
    json->length = 7;
    return 0;
}

TEST(before_publish_gives_a_part_of_what_came) {
    w.cfg.before_publish.ask = first_part;
    open_world(&w);
    CHECK_INT(post_to("/api/publish/x", "{\"n\":1}   ")->status, 200);
    CHECK_INT(post_to("/api/publish/x", "{\"n\":\"abc\"}")->status, 500);
    CHECK_STR(lp_s(ns_of(look(&w, "x", "0"))), "1");
    close_world(&w);
}

TEST(before_publish_may_publish_and_take_its_time) {
    peer *c;
    uint64_t before_us;
    lp_stats stats;
    w.cfg.history_age_ms = 2000;
    open_before();
    before.then = 2;
    CHECK_INT(post_to("/api/publish/log", "{\"n\":1}")->status, 200);
    CHECK(has(look(&w, "log", "0")->body, "\"seen\":true}"));
    CHECK_STR(lp_s(ns_of(look(&w, "log", "0"))), "1"); /* and then the message itself */
    before.then = 3;
    c = park_new(&w, "/api/poll/x");
    before_us = w.k.now_us;
    CHECK_INT(post_to("/api/publish/x", "{\"n\":2}")->status, 200);
    CHECK(w.k.now_us >= before_us + 5000000);
    CHECK_STR(lp_s(ns_of(take(c))), "2"); /* it is young, though the request is not */
    CHECK_STR(lp_s(ns_of(look(&w, "x", "0"))), "2");
    lp_stats_read(w.s, &stats);
    CHECK(lp_latency_percentile_us(stats.latencies, 1) < 1000000);
    close_world(&w);
}

TEST(before_publish_without_memory) {
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        peer *c;
        int status;
        memset(&w, 0, sizeof w);
        open_before();
        before.json = "[{\"n\":2},{\"n\":3}]";
        c = dial(&w);
        settle(&w);
        w.m.fail_at = w.m.calls + k;
        post(c, "/api/publish/x", "[{\"n\":1},{\"n\":1},{\"n\":1}]");
        settle(&w);
        failed = w.m.failed;
        w.m.fail_at = 0;
        status = c->closed ? 0 : take(c)->status;
        CHECK(failed ? status == 503 || !status : status == 200);
        if (status == 503) CHECK_INT(stats_of(&w).messages, 0);
        CHECK_INT(w.log_lines[LP_LOG_ERROR], 0);
        close_world(&w);
    }
    CHECK(k > 8);
}

/* ---- after a publish ---- */

static char told_all[4000]; /* CHANNEL:N, with ',' between */
static int told_count;
static const char *told_answers; /* the channel on which it publishes the double, or NULL */

static void on_after(void *ctx, const lp_message *m) {
    uint64_t n, us;
    CHECK(ctx == told_all);
    CHECK(!w.s->hub.held);
    told_count++;
    CHECK(!lpi_parse_uint(member(m->json, "n"), &n));
    snprintf(told_all + strlen(told_all), sizeof told_all - strlen(told_all), "%s%.*s:%u",
             *told_all ? "," : "", (int)m->channel.length, m->channel.bytes, (unsigned)n);
    CHECK(lp_json_check(m->json, NULL) == LP_OK);
    CHECK_STR(m->id, text_of(m->json, "id"));
    us = us_of(member(m->json, "timestamp"));
    CHECK_INT(us, m->timestamp_us);
    if (told_answers && n < 100) publish_n(&w, told_answers, (int)n * 2);
}

static void prepare_after(void) {
    told_all[0] = 0;
    told_count = 0;
    told_answers = NULL;
    w.cfg.after_publish.tell = on_after;
    w.cfg.after_publish.ctx = told_all;
}

static void on_told(void *ctx, lp_result result, const lp_published *published) {
    (void)ctx;
    CHECK(result == LP_OK && published);
}

static void open_after(void) {
    prepare_after();
    open_world(&w);
}

#define CHECK_TOLD_ALL(want)                   \
    do {                                       \
        CHECK_STR(lp_s(told_all), want);       \
        told_all[0] = 0;                       \
    } while (0)

TEST(after_publish_is_told_in_order) {
    open_after();
    publish_n(&w, "a", 1);
    publish_n(&w, "b", 2);
    publish(&w, "a", "[{\"n\":3},{\"n\":4}]");
    CHECK_TOLD_ALL(""); /* not in the call */
    settle(&w);
    CHECK_TOLD_ALL("a:1,b:2,a:3,a:4");
    CHECK_INT(post_to("/api/publish/%22%5C%2F", "{\"n\":5}")->status, 200);
    CHECK_TOLD_ALL("\"\\/:5");
    CHECK_INT(post_to("/api/publish/a", "{\"m\":5}}")->status, 400);
    CHECK_INT(lp_publish_async(w.s, lp_s("a"), lp_s("{\"n\":6}"), on_told, NULL), LP_OK);
    settle(&w);
    CHECK_TOLD_ALL("a:6");
    close_world(&w);
}

TEST(after_publish_of_a_long_name) {
    char name[256], want[270];
    memset(name, '"', 255); /* each is two bytes in JSON */
    name[255] = 0;
    sprintf(want, "%s:1", name);
    open_after();
    publish_n(&w, name, 1);
    settle(&w);
    CHECK_TOLD_ALL(want);
    close_world(&w);
}

/* What is no longer held is told all the same. */
TEST(after_publish_of_what_was_dropped) {
    w.cfg.history_count = 2;
    w.cfg.channels_max = 1;
    open_after();
    publish_n(&w, "a", 1);
    publish_n(&w, "a", 2);
    publish_n(&w, "a", 3);
    CHECK_INT(lp_channel_delete(w.s, lp_s("a")), LP_OK);
    publish_n(&w, "a", 4);
    CHECK_INT(lp_channel_delete(w.s, lp_s("a")), LP_OK);
    publish_n(&w, "b", 5); /* a is forgotten */
    settle(&w);
    CHECK_TOLD_ALL("a:1,a:2,a:3,a:4,b:5");
    close_world(&w);
}

/* Each answer is told in a turn of its own: who answers himself does not stop the loop. */
TEST(after_publish_may_publish) {
    open_after();
    told_answers = "a";
    publish_n(&w, "a", 30);
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_TOLD_ALL("a:30");
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_TOLD_ALL("a:60");
    CHECK_INT(lp_wait_ms(w.s), 0);
    settle(&w);
    CHECK_TOLD_ALL("a:120");
    CHECK(lp_wait_ms(w.s) > 0);
    close_world(&w);
}

static void publish_one(world *at) { publish_n(at, "a", 1); }

TEST(after_publish_wakes_a_loop_that_sleeps) {
    open_after();
    settle(&w);
    while_asleep(&w, 1, publish_one);
    CHECK_TOLD_ALL("a:1");
    close_world(&w);
}

/* Of several loops the first alone tells, whoever published. */
TEST(after_publish_is_told_by_the_first_loop) {
    peer *c[3];
    int i;
    w.cfg.loops = 3;
    open_after();
    for (i = 0; i < 3; i++) {
        c[i] = dial(&w);
        settle(&w);
    }
    for (i = 0; i < 3; i++) {
        char json[20];
        sprintf(json, "{\"n\":%d}", i);
        post(c[i], "/api/publish/a", json);
        settle_loop(&w, (uint32_t)i);
        CHECK_INT(told_count, i ? 1 : i + 1);
        CHECK_INT(take(c[i])->status, 200);
    }
    settle_loop(&w, 0);
    CHECK_TOLD_ALL("a:0,a:1,a:2");
    settle(&w);
    while_asleep(&w, 7, publish_one);
    CHECK_TOLD_ALL("a:1");
    close_world(&w);
}

TEST(after_publish_tells_the_rest_at_the_end) {
    int stops;
    for (stops = 0; stops < 2; stops++) {
        memset(&w, 0, sizeof w);
        open_after();
        told_answers = NULL;
        publish_n(&w, "a", 1);
        if (stops) {
            lp_stop(w.s);
            pass(&w, 3000);
            CHECK_TOLD_ALL("a:1");
            CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s("{}"), NULL), LP_ERR_STOPPED);
        }
        close_world(&w);
        CHECK_TOLD_ALL(stops ? "" : "a:1");
    }
}

static void publish_too_late(void *ctx, const lp_message *m) {
    (void)ctx, (void)m;
    told_count++;
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s("{}"), NULL), LP_ERR_STOPPED);
}

TEST(after_publish_at_the_end_publishes_no_more) {
    open_after();
    w.s->config.after_publish.tell = publish_too_late;
    publish_n(&w, "a", 1);
    publish_n(&w, "a", 2);
    close_world(&w);
    CHECK_INT(told_count, 2);
}

/* Whatever allocation fails, a message that was published is told, and no other. */
TEST(after_publish_without_memory) {
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        lp_result result;
        memset(&w, 0, sizeof w);
        open_after();
        w.m.fail_at = w.m.calls + k;
        result = lp_publish(w.s, lp_s("a long name of a channel"), lp_s("[{\"n\":1},{\"n\":2}]"),
                            NULL);
        settle(&w);
        failed = w.m.failed;
        CHECK_INT(result, failed ? LP_ERR_NOMEM : LP_OK);
        CHECK_INT(told_count, failed ? 0 : 2);
        close_world(&w);
    }
    CHECK(k > 4);
}

/* Each is told once, in the order of its channel, and no memory is kept. */
TEST(after_publish_of_very_many) {
    static int next[3];
    int round, i, all = 0;
    memset(next, 0, sizeof next);
    w.cfg.history_count = 5;
    open_after();
    for (round = 0; round < unit_rounds(200); round++) {
        char want[400] = "";
        for (i = (int)unit_below(20); i; i--, all++) {
            int ch = (int)unit_below(3);
            char name[2] = {(char)('a' + ch), 0};
            publish_n(&w, name, ++next[ch]);
            sprintf(want + strlen(want), "%s%s:%d", *want ? "," : "", name, next[ch]);
        }
        settle(&w);
        CHECK_TOLD_ALL(want);
    }
    CHECK_INT(told_count, all);
    CHECK(stats_of(&w).messages <= 15);
    CHECK(!w.s->hub.first_untold);
    close_world(&w);
}

/* ---- with Redis ---- */

static redis *hooks_store;
static redis_net hooks_net;
static redis_path *hooks_path;

static uint64_t hooks_move(kernel *k) {
    redis_clock(hooks_store, k->wall_us + k->now_us);
    redis_net_move(&hooks_net, k->now_us);
    return redis_net_due(&hooks_net);
}

static void open_with_redis(void) {
    uint64_t end;
    w.k.now_us = 1000 * UINT64_C(1000000);
    w.k.wall_us = UINT64_C(1732412345123456) - w.k.now_us;
    memset(&hooks_net, 0, sizeof hooks_net);
    hooks_net.random = unit_seed;
    hooks_store = redis_create(unit_seed, w.k.wall_us + w.k.now_us);
    hooks_path = redis_path_add(&hooks_net, "127.0.0.1", 6379, hooks_store);
    w.k.net = &redis_kernel_net;
    w.k.net_ctx = &hooks_net;
    w.k.outside = hooks_move;
    w.cfg.redis = "redis://127.0.0.1:6379";
    open_world(&w);
    settle(&w);
    for (end = now_ms(&w) + 1000; !stats_of(&w).redis_up && now_ms(&w) < end;) pass(&w, 1);
    CHECK_INT(stats_of(&w).redis_up, 1);
}

static void close_with_redis(void) {
    close_world(&w);
    redis_net_free(&hooks_net);
    redis_destroy(hooks_store);
    memset(&w, 0, sizeof w);
}

/* On channel a, as C code does. */
static void publish_pending(const char *json) {
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s(json), NULL), LP_PENDING);
}

static answer *post_keyed(const char *json, const char *key) {
    peer *c = dial(&w);
    sayf(c, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Idempotency-Key: %s\r\nContent-Length: %lu\r\n\r\n%s", key,
         (unsigned long)strlen(json), json);
    settle(&w);
    return take(c);
}

TEST(before_publish_with_redis) {
    memset(&before, 0, sizeof before);
    w.cfg.before_publish.ask = on_before;
    w.cfg.before_publish.ctx = &before;
    open_with_redis();
    CHECK_INT(post_to("/api/publish/a", "{\"n\":1}")->status, 200);
    before.json = "[{\"n\":2},{\"n\":3}]";
    CHECK_INT(count_of(post_to("/api/publish/a", "{}")->body, "\"message_ids\":["), 1);
    CHECK_INT(post_keyed("{}", "not a key")->status, 400);
    CHECK_INT(before.asked, 2); /* before that it was refused */
    CHECK_INT(post_keyed("{}", "k")->status, 200);
    CHECK_INT(post_keyed("{}", "k")->status, 200);
    CHECK_INT(before.asked, 4); /* with each try */
    before.status = 409;
    CHECK_INT(post_keyed("{}", "k")->status, 409);
    before.status = 0;
    before.json = "[";
    CHECK_INT(post_to("/api/publish/a", "{}")->status, 500);
    CHECK_STR(lp_s(ns_of(look(&w, "a", "0"))), "1,2,3,2,3");
    redis_path_cut(&hooks_net, hooks_path);
    settle(&w);
    before.json = "{\"n\":9}";
    CHECK_INT(post_to("/api/publish/a", "{}")->status, 503);
    close_with_redis();
}

/* By the instance that published it, cached or not, when Redis has it. */
TEST(after_publish_with_redis) {
    peer *c;
    prepare_after();
    open_with_redis();
    publish_pending("{\"n\":1}");
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_TOLD_ALL("");
    settle(&w);
    CHECK_TOLD_ALL("a:1"); /* nobody waits: it is not in the cache */
    CHECK_INT(stats_of(&w).channels, 0);
    c = dial(&w);
    get(c, "/api/poll/a?last_id=now");
    settle(&w);
    CHECK_INT(post_to("/api/publish/a", "[{\"n\":2},{\"n\":3}]")->status, 200);
    CHECK_STR(lp_s(ns_of(take(c))), "2,3");
    CHECK_TOLD_ALL("a:2,a:3"); /* and not again by the echo */
    CHECK_INT(post_keyed("{\"n\":4}", "k")->status, 200);
    CHECK_INT(post_keyed("{\"n\":4}", "k")->status, 200);
    CHECK_TOLD_ALL("a:4");
    CHECK_INT(lp_channel_delete(w.s, lp_s("a")), LP_PENDING);
    settle(&w);
    CHECK_TOLD_ALL("");
    close_with_redis();
}

/* What another instance publishes is told there. */
TEST(after_publish_is_not_told_of_others) {
    redis_conn *another;
    char words[300];
    peer *c;
    size_t n;
    lp_text text;
    prepare_after();
    open_with_redis();
    c = dial(&w);
    get(c, "/api/poll/a?last_id=0");
    settle(&w);
    publish_pending("{\"n\":1}");
    settle(&w);
    sprintf(words, "%.16s 2 1732412399000000 {\"n\":2}", text_of(take(c)->body, "last_id"));
    CHECK_TOLD_ALL("a:1");
    get(c, "/api/poll/a?last_id=now");
    settle(&w);
    another = redis_connect(hooks_store);
    lpi_text_init(&text, &lpi_libc_memory);
    lpi_resp_command(&text, 3);
    lpi_resp_word(&text, lp_s("PUBLISH"));
    lpi_store_word_key(&w.s->stores[0], &text, 0, lp_s("a"));
    lpi_resp_word(&text, lp_s(words));
    redis_receive(another, text.bytes, text.length);
    lpi_text_free(&text);
    redis_output(another, &n);
    CHECK(n);
    settle(&w);
    CHECK_STR(lp_s(ns_of(take(c))), "2");
    CHECK_TOLD_ALL("");
    redis_close(another);
    close_with_redis();
}

/* Whether it was published is not known; nor does the key's answer tell it later. */
TEST(after_publish_of_unknown_outcome) {
    peer *c;
    prepare_after();
    open_with_redis();
    c = dial(&w);
    hooks_path->held_back = 1;
    sayf(c, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Idempotency-Key: k\r\nContent-Length: 7\r\n\r\n{\"n\":1}");
    settle(&w);
    pass(&w, 5100);
    CHECK_INT(take(c)->status, 504);
    hooks_path->held_back = 0;
    pass(&w, 3000);
    CHECK_INT(stats_of(&w).redis_up, 1);
    CHECK_INT(post_keyed("{\"n\":1}", "k")->status, 200);
    CHECK_STR(lp_s(ns_of(look(&w, "a", "0"))), "1");
    CHECK_TOLD_ALL("");
    CHECK_INT(post_keyed("{\"n\":2}", "l")->status, 200);
    CHECK_TOLD_ALL("a:2");
    close_with_redis();
}

TEST(after_publish_with_redis_at_the_end) {
    prepare_after();
    open_with_redis();
    publish_pending("{\"n\":1}");
    settle(&w);
    publish_pending("{\"n\":2}"); /* never sent */
    close_with_redis();
    CHECK_TOLD_ALL("a:1");
}

/* ---- who may ---- */

TEST(publish_off_has_no_route) {
    static const struct { const char *method; int status; } cases[] = {
        {"POST", 404}, {"GET", 404}, {"OPTIONS", 404}, {"PUT", 404}};
    size_t i;
    w.cfg.publish = "off";
    w.cfg.publish_token = "secret";
    open_world(&w);
    for (i = 0; i < LPI_COUNT(cases); i++) {
        peer *c = dial(&w);
        sayf(c, "%s /api/publish/x HTTP/1.1\r\nHost: localhost\r\n"
                "Authorization: Bearer secret\r\n\r\n", cases[i].method);
        settle(&w);
        CHECK_INT(take(c)->status, cases[i].status);
    }
    publish_n(&w, "x", 1); /* C code may */
    CHECK_STR(lp_s(ns_of(look(&w, "x", "0"))), "1");
    close_world(&w);
}

/* The program may have a route of its own there. */
static void own_publish(lp_request *r, void *ctx) {
    (void)ctx;
    lp_reply(r, 200, "text/plain", lp_s("mine"));
}

TEST(publish_off_leaves_the_path_to_the_program) {
    w.cfg.publish = "off";
    open_world(&w);
    CHECK_INT(lp_on(w.s, "POST", "/api/publish/{channel}", own_publish, NULL), LP_OK);
    CHECK_STR(post_to("/api/publish/x", "{}")->body, "mine");
    close_world(&w);
}

TEST(publish_token_wants_one_to_be_set) {
    lp_server *s = NULL;
    int round;
    for (round = 0; round < 5; round++) {
        static const char *const secret = "as many bytes as a secret needs.";
        peer *c;
        memset(&w, 0, sizeof w);
        w.cfg.publish = round == 4 ? "anyone" : "token";
        if (round == 1) w.cfg.poll_token = "secret", w.cfg.admin_token = "secret";
        if (round == 2 || round == 4) w.cfg.publish_token = "secret";
        if (round == 3) w.cfg.token_secret = secret;
        if (round < 2) {
            prepare_world(&w);
            CHECK_INT(lp_create(&s, &w.cfg), LP_ERR_CONFIG);
            CHECK_STR(lp_s(w.log), "bad configuration: publish");
            CHECK_INT(w.m.blocks, 0);
            free_world(&w);
            continue;
        }
        open_world(&w);
        c = dial(&w);
        post(c, "/api/publish/x", "{}");
        settle(&w);
        CHECK_INT(take(c)->status, 401);
        close_world(&w);
    }
    CHECK(!s);
}
