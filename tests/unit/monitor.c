/* What an operator is told: who may have /metrics, /api/stats and /healthz, what they say, and
   the access log: which requests are told, what of them, and lines that nothing can forge. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

/* One request on a connection of its own; `lines` are fields. */
static answer *monitor_ask(const char *method, const char *target, const char *lines) {
    peer *c = dial(&w);
    answer *a;
    sayf(c, "%s %s HTTP/1.1\r\n%s%s\r\n", method, target,
         strstr(lines, "Host:") ? "" : "Host: localhost\r\n", lines);
    settle(&w);
    a = take_with(c, !strcmp(method, "HEAD"));
    finish(c);
    settle(&w);
    return a;
}

static answer *monitor_get(const char *target, const char *lines) {
    return monitor_ask("GET", target, lines);
}

/* ---- who may ---- */

#define BEARER "Authorization: Bearer secret\r\n"

TEST(monitor_is_told_to_whom_it_may) {
    static const struct {
        const char *host, *token, *proxies;
        uint32_t monitor;
        const char *lines;
        int figures, health; /* their statuses */
    } cases[] = {
        /* without a token: this machine alone */
        {NULL, NULL, NULL, 0, "", 200, 200},
        {"::1", NULL, NULL, 0, "", 200, 200},
        {"127.0.0.2", NULL, NULL, 0, "Host: 127.0.0.2:8080\r\n", 200, 200},
        {"*", NULL, NULL, 0, "", 404, 404},
        {"10.1.2.3", NULL, NULL, 0, "", 404, 404},
        {"*", NULL, NULL, 0, BEARER, 404, 404},
        {NULL, NULL, "127.0.0.1", 0, "", 404, 404},
        {NULL, NULL, "10.0.0.0/8", 0, "", 200, 200},
        {NULL, NULL, NULL, 0, "X-Forwarded-For: 192.0.2.1\r\n", 404, 404},
        {NULL, NULL, NULL, 0, "x-forwarded-for: 127.0.0.1\r\n", 404, 404},
        {NULL, NULL, NULL, 0, "X-Real-IP: 192.0.2.1\r\n", 404, 404},
        {NULL, NULL, NULL, 0, "Forwarded: for=192.0.2.1\r\n", 404, 404},
        {NULL, NULL, NULL, 0, "Forwarded:\r\n", 404, 404},
        {NULL, NULL, NULL, 0, "Via: 1.1 proxy\r\n", 404, 404},
        {NULL, NULL, NULL, 0, "Origin: http://localhost\r\n", 404, 404},
        {NULL, NULL, NULL, 0, "Host: chat.example.org\r\n", 404, 404},
        {NULL, NULL, NULL, 0, "Host: 127.0.0.1\r\n", 200, 200},
        /* with one: whoever has it, from anywhere */
        {"*", "secret", NULL, 0, BEARER, 200, 200},
        {"*", "secret", NULL, 0, BEARER "X-Forwarded-For: 192.0.2.1\r\n", 200, 200},
        {NULL, "secret", "127.0.0.1", 0, BEARER, 200, 200},
        {NULL, "secret", NULL, 0, "", 401, 200},
        {"*", "secret", NULL, 0, "", 401, 200},
        {"*", "secret", NULL, 0, "X-Forwarded-For: 192.0.2.1\r\n", 401, 200},
        {"*", "secret", NULL, 0, "Authorization: Bearer secre\r\n", 401, 401},
        {"*", "secret", NULL, 0, "Authorization: Basic secret\r\n", 401, 401},
        {"*", "secret", NULL, 0, BEARER "Origin: http://evil.example\r\n", 403, 403},
        /* everybody */
        {"*", NULL, NULL, 1, "", 200, 200},
        {"*", "secret", NULL, 1, "X-Forwarded-For: 192.0.2.1\r\n", 200, 200},
        {NULL, NULL, "127.0.0.1", 1, "Via: 1.1 proxy\r\n", 200, 200},
        /* nobody */
        {NULL, NULL, NULL, LP_OFF, "", 404, 404},
        {NULL, "secret", NULL, LP_OFF, BEARER, 404, 404}};
    static const char *const targets[] = {"/metrics", "/api/stats", "/healthz"};
    size_t i, k;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        memset(&w, 0, sizeof w);
        w.cfg.host = cases[i].host;
        w.cfg.admin_token = cases[i].token;
        w.cfg.trusted_proxies = cases[i].proxies;
        w.cfg.monitor = cases[i].monitor;
        w.cfg.hosts = "chat.example.org";
        open_world(&w);
        for (k = 0; k < 3; k++) {
            answer *a = monitor_get(targets[k], cases[i].lines);
            int want = k == 2 ? cases[i].health : cases[i].figures;
            if (a->status != want)
                unit_fail(__FILE__, __LINE__, "case %d, %s: %d, not %d", (int)i, targets[k],
                          a->status, want);
            if (want == 404) CHECK_STR(a->body, "{\"error\":\"Not found\"}");
        }
        close_world(&w);
    }
}

/* Not in the API's way: what is refused is refused before a body is read. */
TEST(monitor_has_get_and_head_alone) {
    answer *a;
    peer *c;
    open_world(&w);
    a = monitor_ask("HEAD", "/metrics", "");
    CHECK_INT(a->status, 200);
    CHECK(heading(a, "Content-Length").length >= 3);
    CHECK_INT(monitor_ask("DELETE", "/metrics", "")->status, 405);
    CHECK_STR(heading(monitor_ask("POST", "/healthz", ""), "Allow"), "GET, HEAD, OPTIONS");
    CHECK_INT(monitor_get("/api/metrics", "")->status, 404);
    CHECK_INT(monitor_get("/api/healthz", "")->status, 404);
    CHECK_INT(monitor_get("/stats", "")->status, 404);
    CHECK_INT(monitor_get("/metrics?x=1", "")->status, 200);
    c = dial(&w);
    say(c, "GET /api/stats HTTP/1.1\r\nHost: localhost\r\nVia: 1.0 a\r\nContent-Length: 9\r\n\r\n");
    settle(&w);
    CHECK_INT(take(c)->status, 404);
    close_world(&w);
}

TEST(monitor_that_is_off_has_no_routes) {
    w.cfg.monitor = LP_OFF;
    open_world(&w);
    CHECK_INT(monitor_ask("POST", "/metrics", "")->status, 404);
    CHECK_INT(monitor_ask("OPTIONS", "/healthz", "")->status, 404);
    close_world(&w);
}

TEST(monitor_as_an_option) {
    lp_config cfg;
    memset(&cfg, 0, sizeof cfg);
    CHECK_INT(lp_config_set(&cfg, "monitor", "1"), LP_OK);
    CHECK_INT(cfg.monitor, 1);
    CHECK_INT(lp_config_set(&cfg, "monitor", "off"), LP_OK);
    CHECK(cfg.monitor == LP_OFF);
    CHECK_INT(lp_config_set(&cfg, "monitor", "0"), LP_OK);
    CHECK_INT(cfg.monitor, 0);
    CHECK_INT(lp_config_set(&cfg, "monitor", "2"), LP_ERR_ARG);
    CHECK_INT(lp_config_set(&cfg, "monitor", "unlimited"), LP_ERR_ARG);
    CHECK_INT(cfg.monitor, 0);
}

static void monitor_mine(lp_request *r, void *ctx) {
    lp_reply(r, 200, "text/plain", lp_s((const char *)ctx));
}

/* A program's own route of the same path, added after the library's, serves. */
TEST(monitor_gives_way_to_own_routes) {
    static char mine[] = "mine", part[] = "part";
    open_world(&w);
    CHECK(has(monitor_get("/metrics", "")->body, "longpoll_build_info"));
    CHECK_INT(lp_on(w.s, "GET", "/metrics", monitor_mine, mine), LP_OK);
    CHECK_INT(lp_on(w.s, "GET", "/metrics", monitor_mine, mine), LP_ERR_ARG); /* hidden */
    CHECK_STR(monitor_get("/metrics", "")->body, "mine");
    CHECK_STR(monitor_get("/metrics", "Via: 1.1 a\r\n")->body, "mine");
    CHECK_STR(monitor_get("/healthz", "")->body, "{\"status\":\"ok\"}");
    CHECK_INT(lp_on(w.s, "GET", "/{part}", monitor_mine, part), LP_OK);
    CHECK_STR(monitor_get("/healthz", "")->body, "part");
    CHECK_STR(monitor_get("/metrics", "")->body, "mine");
    CHECK_INT(lp_on(w.s, "GET", "/api/stats", monitor_mine, mine), LP_OK);
    CHECK_STR(monitor_get("/api/stats", "")->body, "mine");
    CHECK_INT(lp_on(w.s, "POST", "/healthz", monitor_mine, mine), LP_OK);
    CHECK_STR(monitor_ask("POST", "/healthz", "")->body, "mine");
    CHECK_INT(lp_on(w.s, "GET", "/api/poll/{x}", monitor_mine, mine), LP_ERR_ARG);
    close_world(&w);
}

TEST(monitor_behind_another_prefix) {
    w.cfg.prefix = "/";
    open_world(&w);
    CHECK_INT(monitor_get("/stats", "")->status, 200);
    CHECK_INT(monitor_get("/metrics", "")->status, 200);
    CHECK_INT(monitor_get("/api/stats", "")->status, 404);
    close_world(&w);
}

/* ---- /healthz ---- */

/* 503 only once the server was stopped, for who is still connected. */
TEST(health_while_it_drains) {
    peer *c, *p;
    answer *a;
    open_world(&w);
    c = dial(&w);
    a = ask(&w, c, "/healthz");
    CHECK_STR(a->body, "{\"status\":\"ok\"}");
    CHECK_STR(heading(a, "Content-Type"), "application/json");
    p = park_new(&w, "/api/poll/a");
    lp_stop(w.s);
    turn(&w, 0);
    CHECK_SILENT(p);
    a = ask(&w, c, "/healthz");
    CHECK_INT(a->status, 503);
    CHECK_STR(a->body, "{\"status\":\"draining\"}");
    CHECK_STR(heading(a, "Connection"), "close");
    pass(&w, 3000);
    close_world(&w);
}

/* A loop may be asked before it has heard of the drain: who is told of it is let go. */
TEST(health_before_a_loop_drains) {
    peer *c[2];
    answer *a;
    w.cfg.loops = 2;
    open_world(&w);
    c[0] = dial(&w), c[1] = dial(&w);
    settle(&w);
    CHECK_INT(c[1]->loop, 1);
    lp_stop(w.s);
    get(c[1], "/healthz");
    settle_loop(&w, 1);
    a = take(c[1]);
    CHECK_INT(a->status, 503);
    CHECK_STR(a->body, "{\"status\":\"draining\"}");
    CHECK_STR(heading(a, "Connection"), "close");
    finish(c[1]);
    settle_loop(&w, 1);
    CHECK(c[1]->closed);
    pass(&w, 3000);
    close_world(&w);
}

/* ---- the figures ---- */

/* The value of a line of /metrics; its name with its labels. */
static const char *metric_of(lp_slice text, const char *name) {
    static char values[8][64];
    static int next;
    char *to = values[next++ % 8], key[100];
    const char *at, *end;
    snprintf(key, sizeof key, "\nlongpoll_%s ", name);
    at = (const char *)memmem(text.bytes, text.length, key, strlen(key));
    if (!at) unit_fail(__FILE__, __LINE__, "no %s", name);
    at += strlen(key);
    end = (const char *)memchr(at, '\n', (size_t)(text.bytes + text.length - at));
    CHECK(end && end - at < 64 && end > at);
    memcpy(to, at, (size_t)(end - at));
    to[end - at] = 0;
    return to;
}

#define CHECK_METRIC(text, name, want) CHECK_STR(lp_s(metric_of((text), (name))), (want))

/* What all of it has to be: HELP, TYPE, then samples of that name, each once. */
static void check_metrics(lp_slice text) {
    char name[80] = "", type[20] = "", whole[400] = "\n", *line = whole + 1;
    lp_slice rest = text, part;
    int samples = 1;
    CHECK(text.length && text.bytes[text.length - 1] == '\n');
    rest.length--;
    while (lpi_split(&rest, '\n', &part)) {
        char *sample, *space, *end;
        CHECK(part.length && part.length < sizeof whole - 3);
        memcpy(line, part.bytes, part.length);
        line[part.length] = 0;
        if (!strncmp(line, "# HELP ", 7)) {
            CHECK(samples);
            CHECK_INT(sscanf(line, "# HELP longpoll_%79s", name), 1);
            CHECK(line[part.length - 1] == '.');
            CHECK(!strchr(line, '\\'));
            samples = 0;
            *type = 0;
            continue;
        }
        if (!strncmp(line, "# TYPE ", 7)) {
            char typed[80];
            CHECK_INT(sscanf(line, "# TYPE longpoll_%79s %19s", typed, type), 2);
            CHECK(!strcmp(typed, name) && !samples);
            CHECK(!strcmp(type, "counter") == (strstr(name, "_total") != NULL));
            continue;
        }
        CHECK(*type && !strncmp(line, "longpoll_", 9));
        sample = line + 9;
        CHECK(!strncmp(sample, name, strlen(name)));
        space = strrchr(line, ' ');
        CHECK(space && strtod(space + 1, &end) >= 0 && !*end);
        space[1] = 0;
        CHECK_INT(count_of(text, whole), 1); /* no sample twice */
        samples++;
    }
    CHECK(samples);
}

/* Of each kind of request some, and what was counted of them. */
TEST(figures_are_what_was_done) {
    peer *c, *d, *s;
    lp_stats st;
    answer *a;
    uint64_t bytes = 0;
    int i;
    w.cfg.waiters_max = 3;
    open_world(&w);
    c = dial(&w);
    d = dial(&w);
    bytes += ask(&w, c, "/nowhere")->body.length;
    bytes += ask(&w, c, "/api/poll/a?timeout=x")->body.length;
    for (i = 0; i < 5; i++) bytes += ask(&w, c, "/api/poll/a?timeout=0")->body.length;
    get(c, "/api/poll/a");
    s = dial(&w);
    get(s, "/api/stream/a,b");
    settle(&w);
    park(&w, d, "/api/poll/b");
    a = monitor_get("/api/poll/b", ""); /* beyond waiters_max */
    CHECK_INT(a->status, 429);
    bytes += a->body.length;
    CHECK_INT(stats_of(&w).streams, 1);
    CHECK_INT(stats_of(&w).waiters, 3);
    w.k.now_us += 1000;
    publish_padded(&w, "a", 1000);
    w.k.now_us += 100; /* after so long its answers are out */
    settle(&w);
    bytes += take(c)->body.length;
    bytes += (uint64_t)count_of(unheard(s), "data: ") ? 1000 + 3 * 2 : 0; /* see below */
    leave(&w, s);
    st = stats_of(&w);
    CHECK_INT(st.streams, 0);
    CHECK_INT(st.requests, 11);
    CHECK_INT(st.replies[2], 5 + 1 + 1);
    CHECK_INT(st.replies[3], 0);
    CHECK_INT(st.replies[4], 3);
    CHECK_INT(st.replies[5], 0);
    CHECK_INT(lpi_figure_sum(st.latencies, LP_LATENCIES), 2);
    CHECK_INT(st.latencies_us, 200);
    CHECK_INT(lpi_figure_sum(st.reply_sizes, LP_REPLY_SIZES), 3 + 5 + 1 + 1 + 1);
    CHECK_INT(st.reply_sizes[0], 9); /* one is the head of the stream alone */
    CHECK_INT(st.reply_sizes[2], 2); /* 1,000 and what stands around them */
    CHECK(st.reply_bytes > bytes && st.reply_bytes < bytes + 200);

    a = monitor_get("/metrics", "");
    CHECK_STR(heading(a, "Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
    check_metrics(a->body);
    CHECK_METRIC(a->body, "build_info{version=\"" LP_VERSION "\"}", "1");
    CHECK_METRIC(a->body, "requests_total", "11");
    CHECK_METRIC(a->body, "replies_total{code=\"2xx\"}", "7");
    CHECK_METRIC(a->body, "replies_total{code=\"4xx\"}", "3");
    CHECK_METRIC(a->body, "messages_published_total", "1");
    CHECK_METRIC(a->body, "messages_delivered_total", "2");
    CHECK_METRIC(a->body, "refused_total", "1");
    CHECK_METRIC(a->body, "waiters", "1");
    CHECK_METRIC(a->body, "connections", "3");
    CHECK_METRIC(a->body, "delivery_delay_seconds_count", "2");
    CHECK_METRIC(a->body, "delivery_delay_seconds_sum", "0.000200");
    CHECK_METRIC(a->body, "delivery_delay_seconds_bucket{le=\"0.000064\"}", "0");
    CHECK_METRIC(a->body, "delivery_delay_seconds_bucket{le=\"0.000128\"}", "2");
    CHECK_METRIC(a->body, "delivery_delay_seconds_bucket{le=\"16.777216\"}", "2");
    CHECK_METRIC(a->body, "delivery_delay_seconds_bucket{le=\"+Inf\"}", "2");
    CHECK_METRIC(a->body, "reply_size_bytes_bucket{le=\"256\"}", "9");
    CHECK_METRIC(a->body, "reply_size_bytes_bucket{le=\"1024\"}", "9");
    CHECK_METRIC(a->body, "reply_size_bytes_bucket{le=\"4096\"}", "11");
    CHECK(!has(a->body, "redis"));

    a = monitor_get("/api/stats", "");
    CHECK_INT(lp_json_check(a->body, NULL), LP_OK);
    CHECK_STR(heading(a, "Content-Type"), "application/json");
    CHECK_STR(member(a->body, "version"), LP_VERSION);
    CHECK_STR(member(a->body, "requests"), "12");
    CHECK_STR(member(a->body, "2xx"), "8");
    CHECK_STR(member(a->body, "4xx"), "3");
    CHECK_STR(member(a->body, "count"), "2");
    CHECK_STR(member(a->body, "p50_us"), "111");
    CHECK_STR(member(a->body, "latencies_us"), "200");
    CHECK(!has(a->body, "redis"));
    close_world(&w);
}

/* The largest numbers, in the least room. */
TEST(figures_of_any_size) {
    lp_stats st;
    lp_slice text;
    uint32_t i;
    uint64_t *each[4];
    w.cfg.redis = NULL;
    open_world(&w);
    memset(&st, 0xff, sizeof st);
    each[0] = st.latencies, each[1] = st.first_latencies;
    for (i = 0; i < LP_LATENCIES; i++) each[0][i] = each[1][i] = UINT64_MAX / LP_LATENCIES;
    w.s->config.redis = "redis://127.0.0.1"; /* so that all of them are told */
    text = lpi_metrics_render(&w.s->loops[0], &st);
    check_metrics(text);
    CHECK_METRIC(text, "requests_total", "18446744073709551615");
    CHECK_METRIC(text, "redis_up", "4294967295");
    CHECK_METRIC(text, "redis_round_trip_seconds", "18446744073709.551615");
    CHECK_METRIC(text, "delivery_delay_seconds_sum", "18446744073709.551615");
    CHECK_METRIC(text, "delivery_delay_seconds_count", "18446744073709551552");
    text = lpi_monitor_render_stats(&w.s->loops[0], &st);
    CHECK_INT(lp_json_check(text, NULL), LP_OK);
    CHECK_STR(member(text, "redis_unknown"), "18446744073709551615");
    w.s->config.redis = NULL;
    close_world(&w);
}

/* Each bucket of the delays ends where the library's own does, and all rise. */
TEST(delays_are_in_their_buckets) {
    uint32_t us = 1, i;
    open_world(&w);
    for (; us < UINT32_C(40000000); us += us / 7 + 1) {
        lp_stats st;
        lp_slice text;
        uint64_t before = 0, bound;
        memset(&st, 0, sizeof st);
        st.latencies[lpi_latency_index(us)] = 1;
        text = lpi_metrics_render(&w.s->loops[0], &st);
        for (i = LPI_DELAY_MIN; i <= LPI_DELAY_MAX; i++) {
            char name[80];
            uint64_t n;
            bound = UINT64_C(1) << i;
            snprintf(name, sizeof name, "delivery_delay_seconds_bucket{le=\"%lu.%06lu\"}",
                     (unsigned long)(bound / 1000000), (unsigned long)(bound % 1000000));
            n = strtoull(metric_of(text, name), NULL, 10);
            CHECK(n >= before);
            if (n != (us < bound)) unit_fail(__FILE__, __LINE__, "%u us in %s", us, name);
            before = n;
        }
        CHECK_METRIC(text, "delivery_delay_seconds_bucket{le=\"+Inf\"}", "1");
    }
    close_world(&w);
}

TEST(sizes_are_in_their_buckets) {
    uint64_t bound = 256;
    uint32_t i;
    CHECK_INT(lpi_reply_size_index(0), 0);
    CHECK_INT(lpi_reply_size_index(1), 0);
    for (i = 0; i < LP_REPLY_SIZES - 1; i++, bound *= 4) {
        CHECK_INT(lpi_reply_size_index(bound - 1), i);
        CHECK_INT(lpi_reply_size_index(bound), i);
        CHECK_INT(lpi_reply_size_index(bound + 1), i + 1);
    }
    CHECK_INT(lpi_reply_size_index(UINT64_MAX), LP_REPLY_SIZES - 1);
}

/* Those of several loops together, and after their end. */
TEST(figures_of_several_loops) {
    peer *c[6];
    lp_stats st;
    int i;
    w.cfg.loops = 3;
    open_world(&w);
    for (i = 0; i < 6; i++) c[i] = dial(&w);
    settle(&w);
    for (i = 0; i < 6; i++) CHECK_INT(ask(&w, c[i], i < 4 ? "/nowhere" : "/healthz")->status, i < 4 ? 404 : 200);
    get(c[5], "/api/stream/a");
    settle(&w);
    turn(&w, 0); /* "up to the end of each loop's last turn" */
    st = stats_of(&w);
    CHECK_INT(st.requests, 7);
    CHECK_INT(st.replies[2], 3);
    CHECK_INT(st.replies[4], 4);
    CHECK_INT(st.streams, 1);
    lp_stop(w.s);
    pass(&w, 6000);
    CHECK_INT(turn(&w, 0), LP_ERR_STOPPED);
    st = stats_of(&w);
    CHECK_INT(st.streams, 0);
    CHECK_INT(st.requests, 7);
    close_world(&w);
}

/* Connections that are refused before they are read count too. */
TEST(figures_of_rejected_connections) {
    peer *c, *d;
    w.cfg.connections_max = 1;
    open_world(&w);
    c = dial(&w);
    d = dial(&w);
    settle(&w);
    CHECK_INT(take(d)->status, 503);
    CHECK(!c->closed);
    CHECK_INT(stats_of(&w).replies[5], 1);
    CHECK_INT(stats_of(&w).requests, 0);
    close_world(&w);
}

/* Without memory for the body there is no answer, and the server goes on. */
TEST(figures_without_memory) {
    size_t k, failed = 1;
    static const char *const targets[] = {"/metrics", "/api/stats", "/healthz"};
    size_t i;
    for (i = 0; i < 3; i++)
        for (k = 1, failed = 1; failed; k++) {
            peer *c;
            memset(&w, 0, sizeof w);
            open_world(&w);
            c = dial(&w);
            settle(&w);
            get(c, targets[i]);
            w.m.calls = 0;
            w.m.fail_at = k;
            settle(&w);
            failed = w.m.failed;
            w.m.fail_at = 0;
            CHECK(failed ? c->closed || unheard(c).length : take(c)->status == 200);
            CHECK_INT(monitor_get(targets[i], "")->status, 200);
            close_world(&w);
        }
}

/* ---- the access log: what is told ---- */

/* What the hook was told, a line for each; and what it is to do. */
static char monitor_told[20000];
static int told_count, told_publishes;
static lp_access told_last;

static void tell_access(void *ctx, const lp_access *a) {
    CHECK(ctx == &w);
    CHECK(a->client.bytes && a->method.bytes && a->path.bytes && a->agent.bytes && a->referer.bytes);
    CHECK(a->status >= 200 && a->status <= 599);
    told_last = *a;
    told_count++;
    if (strlen(monitor_told) < sizeof monitor_told - 2000)
        sprintf(monitor_told + strlen(monitor_told), "%.*s %.*s %.*s %d%s\n", (int)a->client.length,
                a->client.bytes, (int)a->method.length, a->method.bytes, (int)a->path.length,
                a->path.bytes, a->status, a->stream ? " stream" : "");
    if (told_publishes) publish_n(&w, "told", told_publishes++);
}

static void open_told(void) {
    monitor_told[0] = 0;
    told_count = told_publishes = 0;
    w.cfg.access_log.write = tell_access;
    w.cfg.access_log.ctx = &w;
    open_world(&w);
}

#define CHECK_ACCESS(want)                  \
    do {                                  \
        CHECK_STR(lp_s(monitor_told), (want));    \
        monitor_told[0] = 0;                      \
    } while (0)

TEST(access_of_each_request_once) {
    peer *c, *d;
    w.cfg.waiters_per_client = 1;
    open_told();
    c = dial(&w);
    ask(&w, c, "/nowhere?token=secret");
    CHECK_ACCESS("127.0.0.1 GET /nowhere 404\n");
    CHECK_INT(told_last.bytes, strlen("{\"error\":\"Not found\"}"));
    ask(&w, c, "/api/poll/a?timeout=0&access_token=secret");
    CHECK_ACCESS("127.0.0.1 GET /api/poll/a 200\n");
    ask(&w, c, "/api/poll/a?limit=0");
    CHECK_ACCESS("127.0.0.1 GET /api/poll/a 400\n");
    post(c, "/api/publish/a?token=secret", "{}");
    settle(&w);
    CHECK_ACCESS("127.0.0.1 POST /api/publish/a 200\n");
    CHECK_INT(told_last.bytes, take(c)->body.length);
    park(&w, c, "/api/poll/a?last_id=now");
    CHECK_ACCESS("");
    d = dial(&w);
    ask(&w, d, "/api/poll/b"); /* a second one of the client */
    CHECK_ACCESS("127.0.0.1 GET /api/poll/b 429\n");
    pass(&w, 1000);
    publish_n(&w, "a", 1);
    settle(&w);
    CHECK_ACCESS("127.0.0.1 GET /api/poll/a 200\n");
    CHECK(told_last.duration_us >= 1000000 && told_last.duration_us < 1100000);
    CHECK_INT(told_last.bytes, take(c)->body.length);
    park(&w, c, "/api/poll/a?last_id=now&timeout=5");
    pass(&w, 5100);
    CHECK_ACCESS("127.0.0.1 GET /api/poll/a 200\n");
    take(c);
    park(&w, c, "/api/poll/a?last_id=now");
    leave(&w, c);
    CHECK_ACCESS("127.0.0.1 GET /api/poll/a 499\n");
    CHECK_INT(told_last.bytes, 0);
    close_world(&w);
    CHECK_ACCESS("");
}

TEST(access_of_what_cannot_be_read) {
    static const struct { const char *text, *want; } cases[] = {
        {"GET /x y HTTP/1.1\r\n\r\n", "127.0.0.1   400\n"},
        {"GET /a HTTP/3.0\r\n\r\n", "127.0.0.1   505\n"},
        {"\x16\x03\x01", "127.0.0.1   400\n"},
        {"POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
         "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "127.0.0.1 POST /api/publish/a 400\n"},
        {"GET /a HTTP/1.1\r\nHost: evil.example\r\n\r\n", "127.0.0.1 GET /a 421\n"},
        {"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", "127.0.0.1 OPTIONS * 204\n"},
        {"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "127.0.0.1 HEAD /metrics 200\n"},
        {"HEAD /api/poll/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
         "127.0.0.1 HEAD /api/poll/a 200\n"},
        {"HEAD /api/stream/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
         "127.0.0.1 HEAD /api/stream/a 200\n"},
        {"GET http://localhost?q HTTP/1.1\r\nHost: localhost\r\n\r\n", "127.0.0.1 GET / 404\n"},
        {"GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /2?x HTTP/1.0\r\n\r\n",
         "127.0.0.1 GET /1 404\n127.0.0.1 GET /2 404\n"}};
    size_t i;
    open_told();
    for (i = 0; i < LPI_COUNT(cases); i++) {
        peer *c = dial(&w);
        say(c, cases[i].text);
        settle(&w);
        CHECK_ACCESS(cases[i].want);
        if (strstr(cases[i].want, " HEAD ")) CHECK_INT(told_last.bytes, 0);
        finish(c);
        settle(&w);
    }
    CHECK(told_last.http10);
    {
        peer *c = dial(&w), *d = dial(&w);
        say(c, "GET / HT"); /* late, in its head and in its body */
        say(d, "POST /api/publish/b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
               "Content-Length: 5\r\n\r\n{");
        pass(&w, 11000);
        CHECK_ACCESS("127.0.0.1   408\n");
        pass(&w, 25000);
        CHECK_ACCESS("127.0.0.1 POST /api/publish/b 408\n");
        d = dial(&w);
        say(d, "POST /api/publish/c HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
               "Content-Length: 5\r\n\r\n{");
        settle(&w);
        leave(&w, d);
        CHECK_ACCESS("127.0.0.1 POST /api/publish/c 499\n");
    }
    close_world(&w);
    CHECK_ACCESS("");
}

/* A stream is told when it ends, with all that it was sent. */
TEST(access_of_streams) {
    peer *c = NULL;
    lp_slice text;
    const char *events;
    w.cfg.stream_beat_ms = 1000;
    w.cfg.waiters_per_client = 1;
    open_told();
    c = dial(&w);
    get(c, "/api/stream/a?last_id=now");
    settle(&w);
    take(c);
    ask(&w, dial(&w), "/api/stream/b");
    CHECK_ACCESS("127.0.0.1 GET /api/stream/b 429\n");
    publish_n(&w, "a", 1);
    settle(&w);
    publish_n(&w, "a", 2);
    pass(&w, 1500);
    CHECK_ACCESS("");
    text = unheard(c);
    events = (const char *)memmem(text.bytes, text.length, "\n\n", 2) + 2; /* what the head says */
    leave(&w, c);
    CHECK_ACCESS("127.0.0.1 GET /api/stream/a 200 stream\n");
    CHECK_INT(told_last.bytes, (size_t)(text.bytes + text.length - events));
    CHECK(told_last.duration_us >= 1500000);

    publish_n(&w, "c", 1);
    c = dial(&w);
    get(c, "/api/stream/c"); /* which begins with a message */
    settle(&w);
    CHECK_ACCESS("");
    lp_stop(w.s);
    pass(&w, 6000);
    CHECK_ACCESS("127.0.0.1 GET /api/stream/c 200 stream\n");
    close_world(&w);
    CHECK_ACCESS("");
}

/* Whose address it is, agent and referer; of the referer no query. */
TEST(access_says_who_asked) {
    static char agent[700];
    peer *c;
    w.cfg.trusted_proxies = "127.0.0.1";
    open_told();
    monitor_get("/a", "X-Forwarded-For: 192.0.2.7\r\nUser-Agent: curl/8\r\n"
                      "Referer: https://example.org/page?token=secret#frag\r\n");
    CHECK_ACCESS("192.0.2.7 GET /a 404\n");
    monitor_get("/a", "X-Forwarded-For: 2001:db8::7\r\nReferer: #x\r\nUser-Agent:\r\n");
    CHECK_ACCESS("2001:db8::7 GET /a 404\n");
    c = dial(&w);
    say(c, "GET /api/poll/p?last_id=now HTTP/1.1\r\nHost: localhost\r\nX-Real-IP: 192.0.2.9\r\n\r\n");
    settle(&w);
    publish_n(&w, "p", 1);
    settle(&w);
    CHECK_ACCESS("192.0.2.9 GET /api/poll/p 200\n");
    memset(agent, 'x', sizeof agent - 1);
    {
        lp_request r;
        lpi_access *kept;
        char text[2000];
        lpi_http http;
        lpi_http_init(&http, 16384);
        snprintf(text, sizeof text, "GET /%s?token=secret HTTP/1.1\r\nHost: localhost\r\nUser-Agent: y%s\r\n"
                 "Referer: https://e.org/%.20s?token=secret\r\n\r\n", agent, agent, agent);
        CHECK(lpi_http_head(&http, text, strlen(text)) > 0);
        memset(&r, 0, sizeof r);
        r.server = w.s;
        r.loop = &w.s->loops[0];
        r.http = &http;
        r.bytes = text;
        kept = lpi_access_new(&r);
        CHECK_INT(kept->access.path.length, LP_ACCESS_TEXT);
        CHECK_INT(kept->access.agent.length, LP_ACCESS_TEXT);
        CHECK(kept->access.agent.bytes[0] == 'y');
        CHECK_STR(kept->access.referer, "https://e.org/xxxxxxxxxxxxxxxxxxxx");
        CHECK_STR(kept->access.method, "GET");
        CHECK_INT(kept->access.wall_us, w.k.wall_us + w.k.now_us);
        lpi_free(&w.s->memory, kept, kept->size);
    }
    close_world(&w);
}

/* The hook may publish, and what it publishes reaches who waits. */
TEST(access_hook_may_publish) {
    peer *c;
    int i;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    open_told();
    c = dial(&w);
    for (i = 0; i < 40; i++) park_new(&w, "/api/poll/a");
    told_count = 0;
    told_publishes = 1;
    publish_n(&w, "a", 7);
    settle(&w);
    CHECK_INT(told_count, 40);
    told_publishes = 0;
    CHECK_STR(lp_s(ns_of(look(&w, "told", "0"))) , "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,"
              "20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40");
    leave(&w, c);
    close_world(&w);
}

/* Without a hook nothing is kept. Of each poll with one a few hundred bytes. */
TEST(access_keeps_nothing_without_a_hook) {
    open_world(&w);
    park_new(&w, "/api/poll/a");
    CHECK(!w.s->loops[0].accesses && !w.s->loops[0].access_capacity);
    CHECK_INT(sizeof(lpi_connection), 64);
    CHECK_INT(sizeof(lpi_waiter), 32);
    close_world(&w);
}

/* Without memory to keep what is to be told the request is served all the same. */
TEST(access_without_memory) {
    size_t k;
    for (k = 1; k <= 3; k++) {
        peer *c;
        memset(&w, 0, sizeof w);
        open_told();
        c = dial(&w);
        settle(&w);
        w.m.calls = 0;
        if (k < 3) w.m.fail_at = k; /* the array of them, or one of them */
        park(&w, c, "/api/poll/a?last_id=now");
        w.m.fail_at = 0;
        publish_n(&w, "a", 1);
        settle(&w);
        CHECK_INT(take(c)->status, 200);
        CHECK_INT(told_count, k == 3);
        ask(&w, c, "/nowhere");
        CHECK_INT(told_count, 1 + (k == 3));
        close_world(&w);
    }
}

/* ---- its lines ---- */

static lp_access access_sample(void) {
    lp_access a;
    memset(&a, 0, sizeof a);
    a.client = lp_s("192.0.2.7");
    a.method = lp_s("GET");
    a.path = lp_s("/rooms/7");
    a.agent = lp_s("curl/8");
    a.referer = lp_s("");
    a.wall_us = UINT64_C(1795503701123456);
    a.duration_us = 1234;
    a.bytes = 612;
    a.status = 200;
    return a;
}

TEST(access_lines_as_they_are) {
    char line[LP_ACCESS_LINE];
    lp_access a = access_sample();
    size_t n = lp_access_common(line, sizeof line, &a);
    CHECK_STR(lpi_slice(line, n), "192.0.2.7 - - [24/Nov/2026:07:01:41 +0000] \"GET /rooms/7 HTTP/1.1\" 200 612\n");
    CHECK_INT(strlen(line), n);
    n = lp_access_json(line, sizeof line, &a);
    CHECK_STR(lpi_slice(line, n), "{\"time\":\"2026-11-24T07:01:41.123456Z\",\"client\":\"192.0.2.7\","
              "\"method\":\"GET\",\"http\":\"1.1\",\"status\":200,\"bytes\":612,\"duration_us\":1234,"
              "\"stream\":false,\"path\":\"/rooms/7\",\"agent\":\"curl/8\",\"referer\":\"\"}\n");
    CHECK_INT(strlen(line), n);
    a.http10 = a.stream = 1;
    a.status = 499;
    a.bytes = UINT64_MAX;
    a.duration_us = UINT64_MAX;
    a.wall_us = 0;
    n = lp_access_common(line, sizeof line, &a);
    CHECK_STR(lpi_slice(line, n), "192.0.2.7 - - [01/Jan/1970:00:00:00 +0000] \"GET /rooms/7 HTTP/1.0\" 499 "
              "18446744073709551615\n");
    n = lp_access_json(line, sizeof line, &a);
    CHECK(has(lp_s(line), "\"1970-01-01T00:00:00.000000Z\"") && has(lp_s(line), "\"http\":\"1.0\"") &&
          has(lp_s(line), "\"duration_us\":18446744073709551615,\"stream\":true"));
    a.method = a.path = lp_s("");
    lp_access_common(line, sizeof line, &a);
    CHECK(has(lp_s(line), " \"-\" 499 "));
    lp_access_json(line, sizeof line, &a);
    CHECK_INT(lp_json_check(lp_s(line), NULL), LP_OK);
}

/* A line has the fields that it should have, however its texts try. */
TEST(access_lines_cannot_be_forged) {
    static const char evil[] = "/\"\\ a\r\n127.0.0.1 - - \x01\x7f\x1b[31m\"}\xc3\xa4\xff\xed\xa0\x80/";
    char line[LP_ACCESS_LINE];
    lp_access a = access_sample();
    a.path = a.agent = a.referer = a.method = a.client = lpi_slice(evil, sizeof evil - 1);
    a.path = lpi_slice(evil, sizeof evil); /* with a NUL */
    lp_access_common(line, sizeof line, &a);
    CHECK(has(lp_s(line), "/\\x22\\x5c\\x20a\\x0d\\x0a127.0.0.1\\x20-\\x20-\\x20\\x01\\x7f\\x1b[31m\\x22}"
                          "\\xc3\\xa4\\xff\\xed\\xa0\\x80/\\x00 HTTP/1.1\" 200 612\n"));
    CHECK_INT(count_of(lp_s(line), "\""), 2);
    CHECK_INT(count_of(lp_s(line), "\n"), 1);
    CHECK_INT(count_of(lp_s(line), " "), 9);
    lp_access_json(line, sizeof line, &a);
    CHECK_INT(lp_json_check(lpi_slice(line, strlen(line) - 1), NULL), LP_OK);
    CHECK(has(lp_s(line), "\"path\":\"/\\u0022\\u005c a\\u000d\\u000a127.0.0.1 - - \\u0001\\u007f\\u001b[31m\\u0022}"
                          "\xc3\xa4\\ufffd\\ufffd\\ufffd\\ufffd/\\u0000\",\"agent\":\"/\\u0022"));
    CHECK_INT(count_of(lp_s(line), "\n"), 1);
}

/* Whatever the room, nothing is written past it and the line is whole. */
TEST(access_lines_in_any_room) {
    static char text[3000];
    char line[3000];
    size_t size, i, n;
    lp_access a = access_sample();
    for (i = 0; i < sizeof text; i++) text[i] = "/a\"\\\n\x01\xc3\xa4\xff~"[unit_random() % 10];
    a.client = a.method = a.path = a.agent = a.referer = lpi_slice(text, 600);
    a.bytes = a.duration_us = UINT64_MAX;
    a.status = 499;
    for (size = 0; size < sizeof line; size += size < 1000 ? 1 : 7) {
        memset(line, 'Z', sizeof line);
        n = lp_access_common(line, size, &a);
        CHECK(n < size || (!n && !size));
        CHECK((n > 0) == (size >= LP_ACCESS_LINE_MIN));
        CHECK(!size || !line[n]);
        if (n) CHECK(line[n - 1] == '\n' && has(lp_s(line), "\" 499 18446744073709551615\n"));
        for (i = size; i < sizeof line; i++) CHECK(line[i] == 'Z');
        memset(line, 'Z', sizeof line);
        n = lp_access_json(line, size, &a);
        CHECK(n < size || (!n && !size));
        CHECK((n > 0) == (size >= LP_ACCESS_LINE_MIN));
        CHECK(!size || !line[n]);
        if (n) CHECK_INT(lp_json_check(lpi_slice(line, n), NULL), LP_OK);
        for (i = size; i < sizeof line; i++) CHECK(line[i] == 'Z');
    }
}
