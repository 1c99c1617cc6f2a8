/* Routes: your own and the built-in ones, and what a handler may say. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;
static char heard[1000]; /* what the last handler saw */

static void note(const char *what, lp_slice s) {
    sprintf(heard + strlen(heard), "%s=%s%.*s%s;", what, s.bytes ? "[" : "none",
            (int)s.length, s.bytes ? s.bytes : "", s.bytes ? "]" : "");
}

static void tell(lp_request *r, void *ctx) {
    heard[0] = 0;
    note("ctx", lp_s((const char *)ctx));
    note("method", lp_method(r));
    note("path", lp_path(r));
    note("id", lp_param(r, "id"));
    note("q", lp_query(r, "q"));
    note("body", lp_body(r));
    CHECK_INT(lp_reply(r, 200, "text/plain", lp_s(heard)), LP_OK);
}

static void on(const char *method, const char *pattern, lp_handler handler, const char *ctx) {
    CHECK_INT(lp_on(w.s, method, pattern, handler, (void *)(uintptr_t)ctx), LP_OK);
}

static answer *request(const char *method, const char *target, const char *lines,
                       const char *body) {
    peer *c = dial(&w);
    sayf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s", method, target, lines);
    if (body) sayf(c, "Content-Length: %lu\r\n", (unsigned long)strlen(body));
    say(c, "\r\n");
    if (body) say(c, body);
    settle(&w);
    return take_with(c, !strcmp(method, "HEAD"));
}

TEST(patterns_and_parameters) {
    static const struct { const char *target, *want; } cases[] = {
        {"/", "ctx=[root];method=[GET];path=[/];id=none;q=none;body=[];"},
        {"/?q=1", "ctx=[root];method=[GET];path=[/];id=none;q=[1];body=[];"},
        {"/rooms/7/info", "ctx=[info];method=[GET];path=[/rooms/7/info];id=[7];q=none;body=[];"},
        {"/rooms/a%2Fb%20c/info",
         "ctx=[info];method=[GET];path=[/rooms/a%2Fb%20c/info];id=[a/b c];q=none;body=[];"},
        {"/rooms/a+b/info?q=a+b%2B",
         "ctx=[info];method=[GET];path=[/rooms/a+b/info];id=[a+b];q=[a b+];body=[];"},
        {"/rooms/%zz/info?q=%zz",
         "ctx=[info];method=[GET];path=[/rooms/%zz/info];id=none;q=none;body=[];"},
        {"/rooms/7?x&q&q=2", "ctx=[room];method=[GET];path=[/rooms/7];id=[7];q=[];body=[];"},
        {"/rooms/best", "ctx=[best];method=[GET];path=[/rooms/best];id=none;q=none;body=[];"},
        {"/end/", "ctx=[end];method=[GET];path=[/end/];id=none;q=none;body=[];"},
        {"http://localhost", "ctx=[root];method=[GET];path=[/];id=none;q=none;body=[];"},
        {"http://localhost?q=x", "ctx=[root];method=[GET];path=[/];id=none;q=[x];body=[];"},
        {"/rooms", NULL}, {"/rooms/", NULL}, {"/rooms//info", NULL}, {"/rooms/7/", NULL},
        {"/rooms/7/info/x", NULL}, {"/end", NULL}, {"//", NULL}, {"/rooms/7%2Finfo", "room"},
        {"/ROOMS/7", NULL}, {"/rooms/../rooms/7", NULL}};
    size_t i;
    open_world(&w);
    on("GET", "/", tell, "root");
    on("GET", "/rooms/best", tell, "best");
    on("GET", "/rooms/{id}", tell, "room");
    on("GET", "/rooms/{id}/info", tell, "info");
    on("GET", "/end/", tell, "end");
    on("GET", "/{id}/best", tell, "late"); /* the earliest of several wins */
    for (i = 0; i < LPI_COUNT(cases); i++) {
        answer *a = request("GET", cases[i].target, "", NULL);
        if (a->status != (cases[i].want ? 200 : 404))
            unit_fail(__FILE__, __LINE__, "%s got %d", cases[i].target, a->status);
        if (cases[i].want && strchr(cases[i].want, '=')) CHECK_STR(a->body, cases[i].want);
        else if (cases[i].want) CHECK(has(a->body, cases[i].want));
        else CHECK_STR(a->body, "{\"error\":\"Not found\"}");
    }
    close_world(&w);
}

TEST(several_parameters) {
    open_world(&w);
    on("GET", "/{a}/{id}/{c}", tell, "x");
    CHECK(has(request("GET", "/1/2/3", "", NULL)->body, "id=[2]"));
    close_world(&w);
}

TEST(a_last_part_takes_the_rest) {
    static const struct { const char *target, *want; } cases[] = {
        {"/f/", "ctx=[f];method=[GET];path=[/f/];id=[];q=none;body=[];"},
        {"/f/a", "ctx=[f];method=[GET];path=[/f/a];id=[a];q=none;body=[];"},
        {"/f/a/b/?q=1", "ctx=[f];method=[GET];path=[/f/a/b/];id=[a/b/];q=[1];body=[];"},
        {"/f//", "ctx=[f];method=[GET];path=[/f//];id=[/];q=none;body=[];"},
        {"/f/a%2Fb/%63+", "ctx=[f];method=[GET];path=[/f/a%2Fb/%63+];id=[a/b/c+];q=none;body=[];"},
        {"/f/%zz/a", "ctx=[f];method=[GET];path=[/f/%zz/a];id=none;q=none;body=[];"},
        {"/two/7/a/b", "ctx=[two];method=[GET];path=[/two/7/a/b];id=[a/b];q=none;body=[];"},
        {"/two/7/", "ctx=[two];method=[GET];path=[/two/7/];id=[];q=none;body=[];"},
        {"/f/one", "ctx=[one];method=[GET];path=[/f/one];id=none;q=none;body=[];"},
        {"/f/x/one", "ctx=[part];method=[GET];path=[/f/x/one];id=[x];q=none;body=[];"},
        {"/f", NULL}, {"/two/7", NULL}, {"/two//a", NULL}, {"/F/a", NULL}, {"/fa", NULL}};
    size_t i;
    open_world(&w);
    on("GET", "/f/{id...}", tell, "f"); /* what comes after it is not hidden by it */
    on("GET", "/f/one", tell, "one");
    on("GET", "/f/{id}/one", tell, "part");
    on("GET", "/two/{a}/{id...}", tell, "two");
    for (i = 0; i < LPI_COUNT(cases); i++) {
        answer *a = request("GET", cases[i].target, "", NULL);
        if (a->status != (cases[i].want ? 200 : 404))
            unit_fail(__FILE__, __LINE__, "%s got %d", cases[i].target, a->status);
        if (cases[i].want) CHECK_STR(a->body, cases[i].want);
    }
    CHECK_STR(heading(request("POST", "/f/a/b", "", NULL), "Allow"), "GET, HEAD, OPTIONS");
    CHECK_INT(request("HEAD", "/f/a/b", "", NULL)->status, 200);
    close_world(&w);
}

/* It serves what nothing else does. */
TEST(a_rest_at_the_root_leaves_the_library_its_paths) {
    w.cfg.monitor = 1;
    open_world(&w);
    on("GET", "/{id...}", tell, "rest");
    on("GET", "/mine", tell, "mine");
    CHECK(has(request("GET", "/", "", NULL)->body, "ctx=[rest]"));
    CHECK(has(request("GET", "/a/b", "", NULL)->body, "id=[a/b]"));
    CHECK(has(request("GET", "/mine", "", NULL)->body, "ctx=[mine]"));
    CHECK(has(request("GET", "/healthz", "", NULL)->body, "\"status\":\"ok\""));
    CHECK(has(request("GET", "/metrics", "", NULL)->body, "longpoll_"));
    CHECK(has(request("GET", "/api/poll/a?timeout=0", "", NULL)->body, "timeout"));
    CHECK_INT(request("POST", "/api/publish/a", "", "{}")->status, 415);
    CHECK(has(request("GET", "/api/poll", "", NULL)->body, "ctx=[rest]"));
    close_world(&w);
}

TEST(lp_on_says_what_is_wrong_with_a_rest) {
    static const char *const never[] = {"/{a...}/b", "/{...}", "/{a...}{b...}", "/a{b...}", "/{a...",
                                        "/{a...}/", "/{a...}/{b...}", "/{a...}...}", "{a...}"};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(never); i++)
        if (lp_on(w.s, "GET", never[i], tell, NULL) != LP_ERR_ARG)
            unit_fail(__FILE__, __LINE__, "%s is let through", never[i]);
    on("GET", "/{a}/{b}", tell, "");        /* which is not all of the next one */
    on("GET", "/f/{a...}", tell, "f");
    on("GET", "/{a..}/b/c", tell, "");      /* two dots are nothing special */
    on("GET", "/f/g/h", tell, "");          /* it comes before */
    CHECK_INT(lp_on(w.s, "GET", "/f/{b...}", tell, NULL), LP_ERR_ARG);
    CHECK_INT(lp_on(w.s, "GET", "/f/g/{b...}", tell, NULL), LP_ERR_ARG);
    on("POST", "/f/{b...}", tell, "");
    on("GET", "/{a}/x/{b...}", tell, "");   /* /f/x/ is not all of it */
    on("GET", "/{b...}", tell, "all");
    CHECK_INT(lp_on(w.s, "GET", "/g/{b...}", tell, NULL), LP_ERR_ARG);
    CHECK(has(request("GET", "/f/g/i", "", NULL)->body, "ctx=[f]"));
    CHECK(has(request("GET", "/g/h/i", "", NULL)->body, "ctx=[all]"));
    close_world(&w);
    memset(&w, 0, sizeof w);
    w.cfg.prefix = "/api/{rest...}";
    prepare_world(&w);
    CHECK_INT(lp_create(&w.s, &w.cfg), LP_ERR_CONFIG);
    CHECK_STR(lp_s(w.log), "bad configuration: prefix");
}

TEST(lp_on_says_what_is_wrong) {
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    static const char *const not_methods[] = {"HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "",
                                              "GETS"};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(methods); i++)
        CHECK_INT(lp_on(w.s, methods[i], "/x", tell, NULL), LP_OK);
    for (i = 0; i < LPI_COUNT(not_methods); i++)
        CHECK_INT(lp_on(w.s, not_methods[i], "/x", tell, NULL), LP_ERR_ARG);
    CHECK_INT(lp_on(w.s, "GET", "x", tell, NULL), LP_ERR_ARG);
    CHECK_INT(lp_on(w.s, "GET", "", tell, NULL), LP_ERR_ARG);
    CHECK_INT(lp_on(w.s, "GET", NULL, tell, NULL), LP_ERR_ARG);
    CHECK_INT(lp_on(w.s, NULL, "/", tell, NULL), LP_ERR_ARG);
    CHECK_INT(lp_on(w.s, "GET", "/", NULL, NULL), LP_ERR_ARG);
    CHECK_INT(lp_on(NULL, "GET", "/", tell, NULL), LP_ERR_ARG);
    w.m.fail_at = w.m.calls + 1;
    w.m.fail_forever = 1;
    for (i = 0; i < 200; i++) {
        char pattern[16];
        sprintf(pattern, "/y%d", (int)i);
        if (lp_on(w.s, "GET", pattern, tell, NULL) != LP_OK) break;
    }
    CHECK(i < 200);
    CHECK_INT(lp_on(w.s, "GET", "/y", tell, NULL), LP_ERR_NOMEM);
    w.m.fail_at = 0;
    CHECK_INT(request("PATCH", "/x", "", "b")->status, 200);
    close_world(&w);
}

TEST(lp_on_refuses_what_nothing_can_match) {
    static const char *const never[] = {
        "/static/*", "/*", "/a{b}", "/{a}b", "/{a", "/a}", "/{}", "/{a{b}}", "/a b", "/a?b",
        "/a#b", "/a\\b", "/\xc3\xa4", "/a\nb", "/api/poll/{x}", "/api/poll/news"};
    static const char *const some[] = {"/a%20b", "/{a}", "/api/poll", "/api/poll/{x}/more",
                                       "/{a}/{b}/", "/api/publish/{x}"};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(never); i++)
        if (lp_on(w.s, "GET", never[i], tell, NULL) != LP_ERR_ARG)
            unit_fail(__FILE__, __LINE__, "%s is let through", never[i]);
    for (i = 0; i < LPI_COUNT(some); i++)
        if (lp_on(w.s, "GET", some[i], tell, NULL) != LP_OK)
            unit_fail(__FILE__, __LINE__, "%s is refused", some[i]);
    CHECK_INT(lp_on(w.s, "GET", "/b", tell, NULL), LP_ERR_ARG); /* /{a} hides it */
    CHECK_INT(lp_on(w.s, "POST", "/b", tell, NULL), LP_OK);
    CHECK_INT(lp_on(w.s, "POST", "/b", tell, NULL), LP_ERR_ARG);
    CHECK_INT(lp_on(w.s, "POST", "/{a}", tell, NULL), LP_OK); /* of which /b is a part */
    CHECK_INT(lp_on(w.s, "POST", "/api/poll/{x}", tell, NULL), LP_OK);
    close_world(&w);
}

/* ---- what is told of what was refused ---- */

TEST(a_foreign_host_is_told_of_once_a_second) {
    peer *c = NULL;
    int i;
    w.cfg.idle_ms = LP_OFF;
    open_world(&w);
    for (i = 0; i < 40; i++) {
        c = dial(&w);
        sayf(c, "GET / HTTP/1.1\r\nHost: evil%d.example\r\n\r\n", i);
        settle(&w);
        CHECK_INT(take(c)->status, 421);
    }
    CHECK_INT(w.log_lines[LP_LOG_WARN], 1);
    CHECK_STR(lp_s(w.log), "421 Host not served here, evil0.example is not in hosts: 1 time, "
                           "the last from 127.0.0.1");
    pass(&w, 900);
    CHECK_INT(w.log_lines[LP_LOG_WARN], 1);
    pass(&w, 200); /* the others together */
    CHECK_INT(w.log_lines[LP_LOG_WARN], 2);
    CHECK_STR(lp_s(w.log), "421 Host not served here, evil39.example is not in hosts: 39 times, "
                           "the last from 127.0.0.1");
    pass(&w, 5000);
    CHECK_INT(w.log_lines[LP_LOG_WARN], 2);
    close_world(&w);
}

TEST(each_kind_of_refusal_has_its_line) {
    int i;
    w.cfg.publish_token = "secret";
    open_world(&w);
    for (i = 0; i < 3; i++) {
        CHECK_INT(request("GET", "/api/poll/a?limit=0", "", NULL)->status, 400);
        CHECK_INT(request("POST", "/api/publish/a", "", "{}")->status, 401);
        CHECK_INT(request("GET", "/nowhere", "", NULL)->status, 404);
        CHECK_INT(request("DELETE", "/api/poll/a", "", NULL)->status, 405);
        CHECK_INT(request("GET", "/api/poll/a?timeout=0", "", NULL)->status, 200);
    }
    CHECK_INT(w.log_lines[LP_LOG_WARN], 2); /* a path that is not there is none */
    pass(&w, 1100);
    CHECK_INT(w.log_lines[LP_LOG_WARN], 4);
    close_world(&w);
}

/* With more statuses than are told apart the last record serves. */
TEST(refusals_of_any_number_of_kinds) {
    uint8_t address[16] = {0};
    int i;
    open_world(&w);
    for (i = 0; i < 40; i++)
        lpi_note_refusal(&w.s->loops[0], 400 + i, "No", lp_s(""), address);
    CHECK_INT(w.log_lines[LP_LOG_WARN], LPI_REFUSALS);
    pass(&w, 1100);
    CHECK_INT(w.log_lines[LP_LOG_WARN], LPI_REFUSALS + 1);
    close_world(&w);
}

TEST(a_proxy_that_is_not_trusted_is_told_of_once) {
    int i, trusted;
    for (trusted = 0; trusted < 2; trusted++) {
        memset(&w, 0, sizeof w);
        w.cfg.trusted_proxies = trusted ? "127.0.0.1" : NULL;
        open_world(&w);
        for (i = 0; i < 3; i++)
            request("GET", "/", i ? "X-Forwarded-For: 10.0.0.1\r\n" : "X-Real-IP: 10.0.0.1\r\n",
                    NULL);
        CHECK_INT(w.log_lines[LP_LOG_WARN], !trusted);
        if (!trusted) CHECK(strstr(w.log, "127.0.0.1") && strstr(w.log, "trusted_proxies"));
        close_world(&w);
    }
}

static void own_origin(lp_request *r, void *ctx) {
    (void)ctx;
    CHECK_INT(lp_reply_header(r, "access-control-allow-origin", lp_s("https://c.example")), LP_OK);
    CHECK_INT(lp_reply(r, 200, "text/plain", lp_s("x")), LP_OK);
}

TEST(a_handlers_own_allowed_origin_replaces_ours) {
    answer *a;
    w.cfg.cors = "https://a.example";
    open_world(&w);
    on("GET", "/own", own_origin, NULL);
    a = request("GET", "/own", "Origin: https://a.example\r\n", NULL);
    CHECK_STR(heading(a, "Access-Control-Allow-Origin"), "https://c.example");
    CHECK(!has(a->head, "https://a.example"));
    CHECK_STR(heading(a, "Vary"), "Origin");
    a = request("GET", "/nowhere", "Origin: https://a.example\r\n", NULL);
    CHECK_STR(heading(a, "Access-Control-Allow-Origin"), "https://a.example");
    close_world(&w);
}

TEST(every_method_has_its_handler) {
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(methods); i++) on(methods[i], "/x", tell, methods[i]);
    for (i = 0; i < LPI_COUNT(methods); i++) {
        char want[40];
        snprintf(want, sizeof want, "ctx=[%s];method=[%s];", methods[i], methods[i]);
        CHECK(has(request(methods[i], "/x", "", NULL)->body, want));
        CHECK(has(request(methods[i], "/x", "", "b")->body, "body=[b];"));
    }
    close_world(&w);
}

TEST(another_method_is_405_with_allow) {
    answer *a;
    open_world(&w);
    on("GET", "/x", tell, "");
    on("PUT", "/x", tell, "");
    on("DELETE", "/{id}", tell, "");
    a = request("POST", "/x", "", NULL);
    CHECK_INT(a->status, 405);
    CHECK_STR(heading(a, "Allow"), "GET, HEAD, PUT, DELETE, OPTIONS");
    CHECK_STR(a->body, "{\"error\":\"Method not allowed\"}");
    CHECK(!heading(a, "Connection").bytes);
    a = request("BREW", "/y", "", NULL);
    CHECK(a->status == 405 || a->status == 501);
    a = request("POST", "/x", "", "body"); /* unread, so it ends */
    CHECK_INT(a->status, 405);
    CHECK_STR(heading(a, "Connection"), "close");
    a = request("GET", "/api/publish/a", "", NULL);
    CHECK_STR(heading(a, "Allow"), "POST, OPTIONS");
    a = request("POST", "/api/poll/a", "", NULL);
    CHECK_STR(heading(a, "Allow"), "GET, HEAD, OPTIONS");
    close_world(&w);
}

TEST(head_is_get_without_a_body) {
    peer *c;
    answer *a;
    open_world(&w);
    on("GET", "/x", tell, "");
    c = dial(&w);
    say(c, "HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    get(c, "/x");
    settle(&w);
    a = take_head(c);
    CHECK_INT(a->status, 200);
    CHECK(atoi(heading(a, "Content-Length").bytes) == (int)strlen(heard) + 1); /* HEAD */
    CHECK_STR(heading(a, "Content-Type"), "text/plain");
    CHECK(has(take(c)->body, "method=[GET]"));
    CHECK_SILENT(c);
    a = request("HEAD", "/nowhere", "", NULL);
    CHECK_INT(a->status, 404);
    close_world(&w);
}

TEST(options_comes_by_itself) {
    answer *a;
    open_world(&w);
    on("PATCH", "/x", tell, "");
    a = request("OPTIONS", "/x", "", NULL);
    CHECK_INT(a->status, 204);
    CHECK_STR(heading(a, "Allow"), "PATCH, OPTIONS");
    CHECK(!heading(a, "Content-Length").bytes);
    CHECK(!heading(a, "Access-Control-Allow-Methods").bytes);
    a = request("OPTIONS", "*", "", NULL);
    CHECK_INT(a->status, 204);
    CHECK(has(heading(a, "Allow"), "OPTIONS"));
    CHECK_INT(request("OPTIONS", "/nowhere", "", NULL)->status, 404);
    a = request("OPTIONS", "/api/publish/a", "", NULL);
    CHECK_STR(heading(a, "Allow"), "POST, OPTIONS");
    close_world(&w);
}

TEST(preflights) {
    answer *a;
    w.cfg.cors = "https://a.example, https://b.example";
    w.cfg.cors_max_age_s = 77;
    open_world(&w);
    a = request("OPTIONS", "/api/publish/a",
                "Origin: https://b.example\r\nAccess-Control-Request-Method: POST\r\n", NULL);
    CHECK_INT(a->status, 204);
    CHECK_STR(heading(a, "Access-Control-Allow-Origin"), "https://b.example");
    CHECK_STR(heading(a, "Access-Control-Allow-Methods"), "POST, OPTIONS");
    CHECK_STR(heading(a, "Access-Control-Max-Age"), "77");
    CHECK_STR(heading(a, "Vary"), "Origin");
    a = request("OPTIONS", "/api/publish/a",
                "Origin: https://c.example\r\nAccess-Control-Request-Method: POST\r\n", NULL);
    CHECK(!heading(a, "Access-Control-Allow-Origin").bytes);
    CHECK(!heading(a, "Access-Control-Allow-Methods").bytes);
    CHECK_STR(heading(a, "Vary"), "Origin");
    a = request("GET", "/api/poll/a?timeout=0", "Origin: https://a.example\r\n", NULL);
    CHECK_STR(heading(a, "Access-Control-Allow-Origin"), "https://a.example");
    a = request("GET", "/api/poll/a?timeout=0", "", NULL);
    CHECK(!heading(a, "Access-Control-Allow-Origin").bytes);
    CHECK_STR(heading(a, "Vary"), "Origin");
    close_world(&w);
}

/* ---- what a handler may say ---- */

static int say_nothing;

static void misbehave(lp_request *r, void *ctx) {
    (void)ctx;
    if (say_nothing) return;
    CHECK_INT(lp_reply(r, 199, NULL, lp_s("")), LP_ERR_ARG);
    CHECK_INT(lp_reply(r, 600, NULL, lp_s("")), LP_ERR_ARG);
    CHECK_INT(lp_reply(r, -1, NULL, lp_s("")), LP_ERR_ARG);
    CHECK_INT(lp_reply(r, 200, "text/plain\r\nX: y", lp_s("")), LP_ERR_ARG);
    CHECK_INT(lp_reply_error(r, 199, "x"), LP_ERR_ARG);
    CHECK_INT(lp_reply_error(r, 418, "I am a \"teapot\""), LP_OK);
    CHECK_INT(lp_reply(r, 200, NULL, lp_s("")), LP_ERR_ARG);
    CHECK_INT(lp_reply_error(r, 500, "x"), LP_ERR_ARG);
    CHECK_INT(lp_reply_header(r, "X-Late", lp_s("1")), LP_ERR_ARG);
}

TEST(a_handler_answers_once) {
    answer *a;
    peer *c;
    open_world(&w);
    on("GET", "/x", misbehave, "");
    c = dial(&w);
    a = ask(&w, c, "/x");
    CHECK_INT(a->status, 418);
    CHECK_STR(a->body, "{\"error\":\"I am a \\\"teapot\\\"\"}");
    CHECK_STR(heading(a, "Content-Type"), "application/json");
    CHECK_SILENT(c);
    say_nothing = 1;
    a = ask(&w, c, "/x");
    CHECK_INT(a->status, 500);
    CHECK(member(a->body, "error").length);
    CHECK_INT(w.log_lines[LP_LOG_ERROR], 1);
    CHECK_INT(ask(&w, c, "/")->status, 404); /* and the connection goes on */
    close_world(&w);
}

static void headers(lp_request *r, void *ctx) {
    static const char *const ours[] = {
        "Connection", "CONTENT-LENGTH", "content-type", "Date", "Transfer-Encoding",
        "Trailer", "Upgrade", "X-Content-Type-Options"};
    static const char *const bad[] = {"", "a b", "a:", "a\r", "\xc3\xa4", "a\n", "(", NULL};
    size_t i;
    (void)ctx;
    for (i = 0; i < LPI_COUNT(ours); i++)
        CHECK_INT(lp_reply_header(r, ours[i], lp_s("x")), LP_ERR_ARG);
    for (i = 0; i < LPI_COUNT(bad); i++)
        CHECK_INT(lp_reply_header(r, bad[i], lp_s("x")), LP_ERR_ARG);
    CHECK_INT(lp_reply_header(r, "X-A", lp_s("1\r\nX-B: 2")), LP_ERR_ARG);
    CHECK_INT(lp_reply_header(r, "X-A", lp_s("1\n")), LP_ERR_ARG);
    CHECK_INT(lp_reply_header(r, "X-A", lp_s("1\r")), LP_ERR_ARG);
    CHECK_INT(lp_reply_header(r, "X-A", lpi_slice("1\0", 2)), LP_ERR_ARG);
    CHECK_INT(lp_reply_header(r, "X-Good", lp_s("a, \"b\"; \xc3\xa4")), LP_OK);
    CHECK_INT(lp_reply_header(r, "X-Empty", lp_s("")), LP_OK);
    CHECK_INT(lp_reply_header(r, "cache-control", lp_s("max-age=60")), LP_OK);
    CHECK_INT(lp_reply(r, 200, NULL, lp_s(NULL)), LP_OK);
}

TEST(header_lines_cannot_be_smuggled) {
    answer *a;
    peer *c;
    open_world(&w);
    on("GET", "/x", headers, "");
    c = dial(&w);
    a = ask(&w, c, "/x");
    CHECK_INT(a->status, 200);
    CHECK_STR(heading(a, "X-Good"), "a, \"b\"; \xc3\xa4");
    CHECK(heading(a, "X-Empty").bytes);
    CHECK(!heading(a, "X-A").bytes && !heading(a, "X-B").bytes);
    CHECK_STR(heading(a, "Cache-Control"), "max-age=60");
    CHECK_INT(count_of(a->head, "ache-"), 1);
    CHECK_STR(heading(a, "Content-Length"), "0");
    CHECK(!heading(a, "Content-Type").bytes);
    a = ask(&w, c, "/nowhere"); /* nothing of it on the next answer */
    CHECK_STR(heading(a, "Cache-Control"), "no-store");
    CHECK(!heading(a, "X-Good").bytes);
    close_world(&w);
}

TEST(every_answer_has_the_documented_fields) {
    answer *a;
    open_world(&w);
    a = ask(&w, dial(&w), "/api/poll/a?timeout=0");
    CHECK_STR(heading(a, "Date"), "Sun, 24 Nov 2024 01:39:05 GMT");
    CHECK_STR(heading(a, "Cache-Control"), "no-store");
    CHECK_STR(heading(a, "X-Content-Type-Options"), "nosniff");
    CHECK(heading(a, "Content-Length").bytes);
    pass(&w, 2000);
    a = ask(&w, dial(&w), "/");
    CHECK_STR(heading(a, "Date"), "Sun, 24 Nov 2024 01:39:07 GMT");
    CHECK_STR(heading(a, "X-Content-Type-Options"), "nosniff");
    close_world(&w);
}

static int with_status;

static void reply_with_status(lp_request *r, void *ctx) {
    (void)ctx;
    CHECK_INT(lp_reply(r, with_status, "text/plain", lp_s("body")), LP_OK);
}

TEST(statuses_without_a_body_have_none) {
    static const int statuses[] = {200, 204, 304, 404, 599};
    size_t i;
    peer *c;
    open_world(&w);
    on("GET", "/x", reply_with_status, "");
    c = dial(&w);
    for (i = 0; i < LPI_COUNT(statuses); i++) {
        answer *a;
        with_status = statuses[i];
        a = ask(&w, c, "/x");
        CHECK_INT(a->status, with_status);
        CHECK_INT(a->body.length, with_status == 204 || with_status == 304 ? 0 : 4);
        CHECK_SILENT(c);
    }
    close_world(&w);
}

static void large(lp_request *r, void *ctx) {
    size_t size = 3 << 20;
    char *bytes = (char *)malloc(size), value[900];
    (void)ctx;
    memset(bytes, 'b', size);
    memset(value, 'v', 899);
    value[899] = 0;
    CHECK_INT(lp_reply_header(r, "X-Long", lp_s(value)), LP_OK);
    CHECK_INT(lp_reply(r, 200, "text/plain", lpi_slice(bytes, size)), LP_OK);
    free(bytes); /* it was copied, or sent */
}

TEST(a_large_answer_in_pieces) {
    peer *c;
    answer *a;
    size_t i;
    open_world(&w);
    on("GET", "/large", large, "");
    c = dial(&w);
    widen(c, 100000);
    get(c, "/large");
    settle(&w);
    while (w.s->loops[0].phases[LPI_WRITING]) {
        widen(c, 100000);
        settle(&w);
    }
    a = take(c);
    CHECK_INT(a->body.length, 3 << 20);
    for (i = 0; i < a->body.length; i++) CHECK(a->body.bytes[i] == 'b');
    CHECK_INT(heading(a, "X-Long").length, 899);
    close_world(&w);
}

static void read_header(lp_request *r, void *ctx) {
    (void)ctx;
    heard[0] = 0;
    note("x", lp_header(r, "x-Thing"));
    note("y", lp_header(r, "Y"));
    note("z", lp_header(r, "Z"));
    note("client", lp_client(r));
    CHECK_INT(lp_reply(r, 200, "text/plain", lp_s(heard)), LP_OK);
}

TEST(headers_and_the_client) {
    peer *c;
    w.cfg.trusted_proxies = "10.0.0.0/8";
    open_world(&w);
    on("GET", "/h", read_header, "");
    CHECK_STR(request("GET", "/h", "X-THING:  a b \r\nY:\r\n", NULL)->body,
              "x=[a b];y=[];z=none;client=[127.0.0.1];");
    c = dial_from(&w, "10.1.2.3");
    say(c, "GET /h HTTP/1.1\r\nHost: any.example\r\nX-Forwarded-For: 1.2.3.4, 2001:db8::7, "
           "10.9.9.9\r\n\r\n");
    settle(&w);
    CHECK(has(take(c)->body, "client=[2001:db8::7];"));
    c = dial_from(&w, "11.1.2.3");
    say(c, "GET /h HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n");
    settle(&w);
    CHECK(has(take(c)->body, "client=[11.1.2.3];"));
    close_world(&w);
}

/* Say `body` in chunks of one byte each. */
static answer *request_chunked(const char *target, const char *lines, const char *body) {
    peer *c = dial(&w);
    sayf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\n%sTransfer-Encoding: chunked\r\n\r\n", target,
         lines);
    for (; *body; body++) sayf(c, "1\r\n%c\r\n", *body);
    say(c, "0\r\n\r\n");
    settle(&w);
    return take(c);
}

/* A body for a handler: whole, chunked or not, up to body_bytes_max. */
TEST(bodies_come_whole) {
    peer *c;
    w.cfg.body_bytes_max = 20;
    open_world(&w);
    on("POST", "/x", tell, "");
    on("GET", "/x", tell, "");
    c = dial(&w);
    say(c, "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
           "5\r\nhello\r\n");
    settle(&w);
    CHECK_SILENT(c);
    say(c, "6\r\n world\r\n0\r\n\r\nGET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    settle(&w);
    CHECK(has(take(c)->body, "body=[hello world];"));
    CHECK(has(take(c)->body, "body=[];"));
    CHECK(has(request("POST", "/x", "", "12345678901234567890")->body, "=[12345678901234567890]"));
    CHECK_INT(request("POST", "/x", "", "123456789012345678901")->status, 413);
    CHECK(has(request_chunked("/x", "", "12345678901234567890")->body, "=[12345678901234567890]"));
    CHECK_INT(request_chunked("/x", "", "123456789012345678901")->status, 413);
    CHECK(has(request("GET", "/x", "", "12")->body, "body=[12];"));
    close_world(&w);
}

/* Neither of the two limits is the other's. */
TEST(bodies_and_messages_have_a_limit_each) {
    static const char json[] = "Content-Type: application/json\r\n";
    static const char text[] = "{\"text\":\"of 23 bytes.\"}", more[] = "{\"text\":\"of 24 bytes.\"} ";
    int larger;
    for (larger = 0; larger < 2; larger++) {
        memset(&w, 0, sizeof w);
        w.cfg.body_bytes_max = larger ? 24 : 23;
        w.cfg.message_bytes_max = larger ? 23 : 24;
        open_world(&w);
        on("POST", "/x", tell, "");
        CHECK_INT(request("POST", "/api/publish/a", json, more)->status, larger ? 413 : 200);
        CHECK_INT(request_chunked("/api/publish/a", json, more)->status, larger ? 413 : 200);
        CHECK_INT(request("POST", "/x", "", more)->status, larger ? 200 : 413);
        CHECK_INT(request_chunked("/x", "", more)->status, larger ? 200 : 413);
        CHECK_INT(request("POST", "/x", "", text)->status, 200);
        CHECK_INT(request("POST", "/api/publish/a", json, text)->status, 200);
        close_world(&w);
    }
}

/* However large a body may be, one address has its share of partial_bytes_max alone: an eighth
   for one request, since its buffer doubles. */
TEST(large_bodies_keep_to_their_share) {
    static char bytes[20000];
    int chunked, fits;
    memset(bytes, 'b', sizeof bytes);
    for (chunked = 0; chunked < 2; chunked++)
        for (fits = 0; fits < 2; fits++) {
            size_t length = fits ? 8000 : 20000;
            peer *c, *other;
            memset(&w, 0, sizeof w);
            w.cfg.partial_bytes_max = 65536 * 2;
            w.cfg.body_bytes_max = 1 << 20;
            open_world(&w);
            on("POST", "/x", tell, "");
            c = dial(&w);
            say(c, "POST /x HTTP/1.1\r\nHost: localhost\r\n");
            if (chunked) sayf(c, "Transfer-Encoding: chunked\r\n\r\n%lx\r\n", (unsigned long)length);
            else sayf(c, "Content-Length: %lu\r\n\r\n", (unsigned long)length + 1);
            say_bytes(c, bytes, length);
            settle(&w);
            if (fits) CHECK_SILENT(c);
            else CHECK_INT(take(c)->status, 503);
            other = dial_from(&w, "10.0.0.1");
            say(other, "POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nb");
            settle(&w);
            CHECK_INT(take(other)->status, 200);
            close_world(&w);
        }
}

/* lp_on may be called on the server's thread at any time: in a handler too. */
static void add_routes(lp_request *r, void *ctx) {
    int i;
    (void)ctx;
    for (i = 0; i < 40; i++) {
        char pattern[40];
        snprintf(pattern, sizeof pattern, "/added/%d", i);
        CHECK_INT(lp_on(w.s, "GET", pattern, tell, (void *)(uintptr_t) "added"), LP_OK);
    }
    CHECK_STR(lp_param(r, "id"), "7");
    CHECK_INT(lp_reply(r, 200, NULL, lp_s("")), LP_OK);
}

TEST(a_handler_may_add_routes) {
    open_world(&w);
    on("GET", "/add/{id}", add_routes, "");
    CHECK_INT(request("GET", "/add/7", "", NULL)->status, 200);
    CHECK(has(request("GET", "/added/39", "", NULL)->body, "ctx=[added]"));
    close_world(&w);
}

TEST(the_prefix_is_where_the_api_stands) {
    w.cfg.prefix = "/a/b/";
    open_world(&w);
    on("GET", "/api/poll/{id}", tell, "mine");
    CHECK_INT(ask(&w, dial(&w), "/a/b/poll/x?timeout=0")->status, 200);
    CHECK(has(ask(&w, dial(&w), "/api/poll/x")->body, "ctx=[mine]"));
    close_world(&w);
    memset(&w, 0, sizeof w);
    w.cfg.prefix = "/";
    open_world(&w);
    CHECK_INT(ask(&w, dial(&w), "/poll/x?timeout=0")->status, 200);
    close_world(&w);
}

TEST(without_memory_a_handlers_answer_is_503_or_the_end) {
    size_t k;
    for (k = 1; k < 12; k++) {
        peer *c;
        memset(&w, 0, sizeof w);
        open_world(&w);
        on("GET", "/x/{id}", tell, "");
        c = dial(&w);
        settle(&w);
        w.m.fail_at = w.m.calls + k;
        get(c, "/x/1?q=2");
        settle(&w);
        if (w.m.failed && !c->closed) CHECK(take(c)->status);
        w.m.fail_at = 0;
        CHECK_INT(ask(&w, dial(&w), "/x/1")->status, 200);
        close_world(&w);
    }
}

/* ---- what clients send in forms, cookies and numbers, and an answer as JSON ---- */

static void tell_cookies(lp_request *r, void *ctx) {
    (void)ctx;
    heard[0] = 0;
    note("a", lp_cookie(r, "a"));
    note("b", lp_cookie(r, "b"));
    note("", lp_cookie(r, ""));
    note("NULL", lp_cookie(r, NULL));
    CHECK_INT(lp_reply(r, 200, "text/plain", lp_s(heard)), LP_OK);
}

TEST(cookies) {
    static const struct { const char *lines, *a, *b; } cases[] = {
        {"", "none", "none"},
        {"Cookie: a=1\r\n", "[1]", "none"},
        {"cookie: a=1; b=2\r\n", "[1]", "[2]"},
        {"COOKIE:a=1;b=2;\r\n", "[1]", "[2]"},
        {"Cookie: ;; b=2 ;\ta=1\t\r\n", "[1]", "[2]"},
        {"Cookie: b=2\r\nX: a=9\r\nCookie: a=1\r\nCookie: a=3; b=4\r\n", "[1]", "[2]"},
        {"Cookie: a=1; a=2\r\n", "[1]", "none"},
        {"Cookie: a=; b=\"\"\r\n", "[]", "[]"},
        {"Cookie: a=\"x y\"; b=\"\r\n", "[x y]", "[\"]"},
        {"Cookie: a=\"x; b=y\"\r\n", "[\"x]", "[y\"]"}, /* quotes do not hide a semicolon */
        {"Cookie: a=b=c==; b=%41+\r\n", "[b=c==]", "[%41+]"},
        {"Cookie: A=1; aa=2; xa=3; a =4; b\r\n", "none", "none"},
        {"Cookie: =1; =2\r\n", "none", "none"},
        {"Cookie: a\r\n", "none", "none"},
        {"Cookie:\r\n", "none", "none"},
        {"X-Cookie: a=1\r\nCookies: b=1\r\n", "none", "none"},
        {"Cookie: a=\xC3\xA9\r\n", "[\xC3\xA9]", "none"}};
    size_t i;
    open_world(&w);
    on("GET", "/c", tell_cookies, "");
    for (i = 0; i < LPI_COUNT(cases); i++) {
        char want[100];
        sprintf(want, "a=%s;b=%s;=none;NULL=none;", cases[i].a, cases[i].b);
        CHECK_STR(request("GET", "/c", cases[i].lines, NULL)->body, want);
    }
    close_world(&w);
}

static void tell_form(lp_request *r, void *ctx) {
    lp_slice first = lp_form(r, "a");
    (void)ctx;
    heard[0] = 0;
    note("c", lp_form(r, "c d"));
    note("b", lp_form(r, "b"));
    note("a", lp_form(r, "a"));
    note("a", first); /* a later call leaves it as it was */
    CHECK_INT(lp_reply(r, 200, "text/plain", lp_s(heard)), LP_OK);
}

#define FORM "Content-Type: application/x-www-form-urlencoded\r\n"

TEST(forms) {
    static const struct { const char *lines, *body, *want; } cases[] = {
        {FORM, "", "c=none;b=none;a=none;a=none;"},
        {FORM, "a=1&b=2&c+d=3", "c=[3];b=[2];a=[1];a=[1];"},
        {FORM, "c%20d=%26%3D%25&b=x+y%2B&%61=%C3%A9",
         "c=[&=%];b=[x y+];a=[\xC3\xA9];a=[\xC3\xA9];"},
        {FORM, "a&b=", "c=none;b=[];a=[];a=[];"},
        {FORM, "a=1&a=2&b=3&b", "c=none;b=[3];a=[1];a=[1];"},
        {FORM, "&&=x&a=1&&", "c=none;b=none;a=[1];a=[1];"},
        {FORM, "a=b=c&b=a=b", "c=none;b=[a=b];a=[b=c];a=[b=c];"},
        {FORM, "b=%&a=%4", "c=none;b=none;a=none;a=none;"}, /* it cannot be decoded */
        {FORM, "%zz=1&a=\n", "c=none;b=none;a=[\n];a=[\n];"},
        {"Content-Type: Application/X-WWW-Form-URLEncoded ; charset=UTF-8\r\n", "a=1",
         "c=none;b=none;a=[1];a=[1];"},
        {"", "a=1", "c=none;b=none;a=none;a=none;"},
        {"Content-Type: text/plain\r\n", "a=1", "c=none;b=none;a=none;a=none;"},
        {"Content-Type: application/x-www-form-urlencodedx\r\n", "a=1",
         "c=none;b=none;a=none;a=none;"},
        {"Content-Type: multipart/form-data; boundary=x\r\n", "a=1",
         "c=none;b=none;a=none;a=none;"}};
    size_t i;
    open_world(&w);
    on("POST", "/f", tell_form, "");
    for (i = 0; i < LPI_COUNT(cases); i++)
        CHECK_STR(request("POST", "/f?a=7&b=8", cases[i].lines, cases[i].body)->body,
                  cases[i].want); /* what the query has is another matter */
    close_world(&w);
}

static void tell_query_and_form(lp_request *r, void *ctx) {
    heard[0] = 0;
    note("query", lp_query(r, (const char *)ctx));
    note("form", lp_form(r, (const char *)ctx));
    CHECK_INT(lp_reply(r, 200, "text/plain", lp_s(heard)), LP_OK);
}

/* A name may be empty (application/x-www-form-urlencoded parsing, URL standard 5.1). */
TEST(nothing_between_two_ampersands_is_no_pair) {
    open_world(&w);
    on("POST", "/f", tell_query_and_form, "");
    CHECK_STR(request("POST", "/f?&a=1&", FORM, "&&a=1&")->body, "query=none;form=none;");
    CHECK_STR(request("POST", "/f?&=1&=2", FORM, "&&=3&=4")->body, "query=[1];form=[3];");
    CHECK_STR(request("POST", "/f?=", FORM, "=&=1")->body, "query=[];form=[];");
    close_world(&w);
}

static void count_form(lp_request *r, void *ctx) {
    (void)ctx;
    sprintf(heard, "%lu", (unsigned long)lp_form(r, "a").length);
    CHECK_INT(lp_reply(r, 200, "text/plain", lp_s(heard)), LP_OK);
}

/* A loop keeps nothing of a field that was large, the first of all or a later one. */
TEST(a_large_field_of_a_form_leaves_no_memory) {
    static char body[300000];
    size_t before;
    int round;
    memset(body, 'x', sizeof body - 1);
    memcpy(body, "a=", 2);
    w.cfg.body_bytes_max = 1 << 20;
    open_world(&w);
    on("POST", "/f", count_form, "");
    for (round = 0; round < 3; round++) {
        before = w.m.bytes;
        CHECK_STR(request("POST", "/f", FORM, body)->body, "299997");
        CHECK(w.m.bytes < before + 100000);
        if (round) CHECK_STR(request("POST", "/f", FORM, "a=1")->body, "1");
    }
    close_world(&w);
}

TEST(names_in_forms_have_64_bytes) {
    char name[66], encoded[200] = "", target[300], body[220];
    int n, i;
    open_world(&w);
    for (n = 64; n <= 65; n++) {
        char pattern[8];
        for (i = 0; i < n; i++) name[i] = 'a', memcpy(encoded + 3 * i, "%61", 4);
        name[n] = 0;
        sprintf(pattern, "/%d", n);
        on("POST", pattern, tell_query_and_form, name);
        sprintf(target, "/%d?%s=1", n, encoded);
        sprintf(body, "%s=2", encoded);
        CHECK_STR(request("POST", target, FORM, body)->body,
                  n == 64 ? "query=[1];form=[2];" : "query=none;form=none;");
    }
    close_world(&w);
}

static void tell_number(lp_request *r, void *ctx) {
    int64_t n = 12345;
    lp_result result = lp_query_int(r, "n", &n);
    (void)ctx;
    if (result) CHECK_INT(n, 12345);
    sprintf(heard, "%d %lld", result, (long long)n);
    CHECK_INT(lp_reply(r, 200, "text/plain", lp_s(heard)), LP_OK);
}

TEST(numbers_in_the_query) {
    static const struct { const char *query, *want; } cases[] = {
        {"", "-13 12345"}, {"?m=1", "-13 12345"}, {"?n=0", "0 0"}, {"?n=-0", "0 0"},
        {"?n=7&n=8", "0 7"}, {"?n=-7", "0 -7"}, {"?n", "-14 12345"}, {"?n=", "-14 12345"},
        {"?n=-", "-14 12345"}, {"?n=--1", "-14 12345"}, {"?n=+1", "-14 12345"},
        {"?n=%2B1", "-14 12345"}, {"?n=%20%31", "-14 12345"}, {"?n=1+", "-14 12345"},
        {"?n=01", "-14 12345"}, {"?n=-01", "-14 12345"}, {"?n=1.0", "-14 12345"},
        {"?n=1e2", "-14 12345"}, {"?n=0x1", "-14 12345"}, {"?n=%", "-14 12345"},
        {"?n=%zz", "-14 12345"}, {"?%6e=%2d%31", "0 -1"},
        {"?n=9223372036854775807", "0 9223372036854775807"},
        {"?n=9223372036854775808", "-14 12345"},
        {"?n=-9223372036854775808", "0 -9223372036854775808"},
        {"?n=-9223372036854775809", "-14 12345"},
        {"?n=%2D%39%32%32%33%33%37%32%30%33%36%38%35%34%37%37%35%38%30%38",
         "0 -9223372036854775808"},
        {"?n=%31%32%32%33%33%37%32%30%33%36%38%35%34%37%37%35%38%30%38%30%30", "-14 12345"},
        {"?n=18446744073709551615", "-14 12345"}, {"?n=18446744073709551616", "-14 12345"}};
    size_t i;
    open_world(&w);
    on("GET", "/n", tell_number, "");
    for (i = 0; i < LPI_COUNT(cases); i++) {
        char target[100];
        snprintf(target, sizeof target, "/n%s", cases[i].query);
        CHECK_STR(request("GET", target, "", NULL)->body, cases[i].want);
    }
    close_world(&w);
}

static void answer_json(lp_request *r, void *ctx) {
    const char *how = (const char *)ctx;
    lp_memory memory = unit_memory_of(&w.m);
    lp_json j;
    lp_json_init(&j, &memory);
    if (!strcmp(how, "empty")) {
        CHECK_INT(lp_reply_json(r, 200, &j), LP_ERR_JSON);
        CHECK_INT(lp_reply_error(r, 418, "empty"), LP_OK);
        return;
    }
    lp_json_object(&j);
    lp_json_key(&j, lp_s("a"));
    lp_json_uint(&j, 1);
    if (!strcmp(how, "open")) {
        CHECK_INT(lp_reply_json(r, 200, &j), LP_ERR_JSON);
        CHECK_INT(j.text.capacity, 0); /* freed */
        return;
    }
    lp_json_end(&j);
    if (!strcmp(how, "misused")) lp_json_end(&j);
    if (!strcmp(how, "misused")) CHECK_INT(lp_reply_json(r, 200, &j), LP_ERR_JSON);
    else if (!strcmp(how, "status")) CHECK_INT(lp_reply_json(r, 100, &j), LP_ERR_ARG);
    else CHECK_INT(lp_reply_json(r, 201, &j), LP_OK);
    CHECK(!j.text.bytes);
    lp_json_null(&j); /* it may be used again */
    CHECK_STR(lp_json_text(&j), "null");
    CHECK_INT(lp_reply_json(r, 200, &j), strcmp(how, "good") ? LP_OK : LP_ERR_ARG);
}

TEST(an_answer_as_json) {
    static const struct { const char *how; int status; const char *body; } cases[] = {
        {"good", 201, "{\"a\":1}"}, {"open", 500, NULL}, {"misused", 200, "null"},
        {"status", 200, "null"}, {"empty", 418, "{\"error\":\"empty\"}"}};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(cases); i++) {
        char target[20];
        answer *a;
        sprintf(target, "/%s", cases[i].how);
        on("GET", target, answer_json, cases[i].how);
        a = request("GET", target, "", NULL);
        CHECK_INT(a->status, cases[i].status);
        if (cases[i].body) CHECK_STR(a->body, cases[i].body);
        CHECK_STR(heading(a, "Content-Type"), "application/json");
    }
    close_world(&w); /* looks for leaks */
}

static void answer_without_memory(lp_request *r, void *ctx) {
    lp_memory memory = unit_memory_of(&w.m);
    lp_json j;
    (void)ctx;
    lp_json_init(&j, &memory);
    w.m.fail_at = w.m.calls + 1;
    lp_json_string(&j, lp_s("text"));
    w.m.fail_at = 0;
    CHECK_INT(lp_reply_json(r, 200, &j), LP_ERR_NOMEM);
    CHECK_INT(lp_reply_error(r, 503, "No memory"), LP_OK);
}

TEST(an_answer_as_json_without_memory) {
    open_world(&w);
    on("GET", "/", answer_without_memory, "");
    CHECK_INT(request("GET", "/", "", NULL)->status, 503);
    close_world(&w);
}
