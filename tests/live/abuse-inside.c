/* What abuse.test.mjs can only see from the inside.

     abuse-inside --NAME VALUE ...
         A server that prints every line of its log, of whatever level; with
         "--authorize on" it has such a hook, that lets all pass. It has
           POST /header   the body as the value of a field, then as its name
           POST /type     the body as the Content-Type
           POST /error    the body, up to a NUL, as an error's text
           GET  /test/stats and /test/page?n=   as tests/live/server.c has them
         The answer says what lp_reply_header and lp_reply gave.
     abuse-inside fork
         Children of one process, that share a server, each publish; it prints
         what ids are given.
     abuse-inside compare GIVEN TOKEN
         Compares as the token is compared, in a function named compare. */

#define LONGPOLL_STATIC /* it is linked with a library that it does not need */
#define LONGPOLL_IMPLEMENTATION
#include "../../longpoll.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static lp_server *server;

/* ---- serve -------------------------------------------------------------- */

static void print_line(void *ctx, lp_log_level level, const char *line)
{
    (void)ctx;
    printf("log %d %s\n", (int)level, line);
    fflush(stdout);
}

/* A NUL-ended copy, for names. */
static const char *text_of(lp_slice body, char *out, size_t size)
{
    size_t n = body.length < size - 1 ? body.length : size - 1;

    if (n > 0)
        memcpy(out, body.bytes, n);
    out[n] = 0;
    return out;
}

static void header(lp_request *request, void *ctx)
{
    char name[1024], text[64];
    lp_slice body = lp_body(request);
    lp_result value = lp_reply_header(request, "X-Value", body);
    lp_result named = lp_reply_header(
        request, text_of(body, name, sizeof name), lp_s("name"));

    (void)ctx;
    snprintf(text, sizeof text, "{\"value\":%d,\"name\":%d}", (int)value,
             (int)named);
    lp_reply(request, 200, "application/json", lp_s(text));
}

static void type(lp_request *request, void *ctx)
{
    char name[1024];

    (void)ctx;
    if (lp_reply(request, 200, text_of(lp_body(request), name, sizeof name),
                 lp_s("typed")) != LP_OK)
        lp_reply(request, 200, "text/plain", lp_s("refused"));
}

static void error(lp_request *request, void *ctx)
{
    char text[1024];

    (void)ctx;
    lp_reply_error(request, 400,
                   text_of(lp_body(request), text, sizeof text));
}

static void member(lp_json *json, const char *name, uint64_t value)
{
    lp_json_key(json, lp_s(name));
    lp_json_uint(json, value);
}

static void stats(lp_request *request, void *ctx)
{
    lp_stats now;
    lp_json json;

    (void)ctx;
    lp_stats_read(server, &now);
    lp_json_init(&json, NULL);
    lp_json_object(&json);
    member(&json, "refused", now.refused);
    member(&json, "connections", now.connections);
    member(&json, "waiters", now.waiters);
    member(&json, "channels", now.channels);
    member(&json, "messages", now.messages);
    member(&json, "history_bytes", now.history_bytes);
    member(&json, "pinned_bytes", now.pinned_bytes);
    lp_json_end(&json);
    lp_reply(request, 200, "application/json", lp_json_text(&json));
    lp_json_free(&json);
}

static void page(lp_request *request, void *ctx)
{
    char digits[16];
    size_t size = strtoul(text_of(lp_query(request, "n"), digits,
                                  sizeof digits), NULL, 10);
    char *bytes = (char *)calloc(1, size + 1);
    lp_slice body;

    (void)ctx;
    body.bytes = bytes;
    body.length = size;
    if (bytes == NULL)
        lp_reply_error(request, 503, "no memory");
    else
        lp_reply(request, 200, "application/octet-stream", body);
    free(bytes);
}

static int let_pass(void *ctx, lp_request *request, lp_action action,
                    lp_slice channel)
{
    (void)ctx, (void)request, (void)action, (void)channel;
    return 0;
}

static void stop(int signal_number)
{
    (void)signal_number;
    lp_stop(server);
}

static int serve(int argc, char **argv)
{
    lp_config config;
    lp_result result;
    int i;

    memset(&config, 0, sizeof config);
    config.log.write = print_line;
    for (i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], "--authorize") == 0)
            config.authorize.ask = let_pass;
        else if (lp_config_set(&config, argv[i] + 2, argv[i + 1]) != LP_OK)
            return 2;
    result = lp_create(&server, &config);
    if (result != LP_OK)
        return 1;
    lp_on(server, "POST", "/header", header, NULL);
    lp_on(server, "POST", "/type", type, NULL);
    lp_on(server, "POST", "/error", error, NULL);
    lp_on(server, "GET", "/test/stats", stats, NULL);
    lp_on(server, "GET", "/test/page", page, NULL);
    signal(SIGTERM, stop);
    printf("listening on http://127.0.0.1:%u\n", (unsigned)lp_port(server));
    fflush(stdout);
    result = lp_run(server);
    signal(SIGTERM, SIG_IGN);
    lp_destroy(server);
    return result != LP_OK;
}

/* ---- fork --------------------------------------------------------------- */

/* Ids of new channels: two of names that all processes use, one of its own. */
static void publish_some(int number)
{
    char name[32];
    lp_published out;
    int i;

    for (i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "room%d", i < 2 ? i : 100 + number);
        if (lp_publish(server, lp_s(name), lp_s("{}"), &out) != LP_OK)
            _Exit(1);
        printf("%s\n", out.id);
    }
    fflush(stdout);
}

static int fork_all(void)
{
    enum { CHILDREN = 16 };
    int i, status, failed = 0;

    if (lp_create(&server, NULL) != LP_OK)
        return 1;
    lp_publish(server, lp_s("before"), lp_s("{}"), NULL);
    for (i = 0; i < CHILDREN; i++) {
        pid_t child = fork();

        if (child < 0)
            return 1;
        if (child == 0) {
            publish_some(i);
            _Exit(0);
        }
    }
    publish_some(CHILDREN);
    for (i = 0; i < CHILDREN; i++)
        if (wait(&status) < 0 || status != 0)
            failed = 1;
    lp_destroy(server);
    return failed;
}

/* ---- compare ------------------------------------------------------------ */

static __attribute__((noinline)) int compare(lp_slice given, lp_slice token)
{
    return lpi_equal_constant_time(given, token);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    if (strncmp(mode, "--", 2) == 0)
        return serve(argc, argv);
    if (strcmp(mode, "fork") == 0)
        return fork_all();
    if (strcmp(mode, "compare") != 0 || argc != 4)
        return 2;
    puts(compare(lp_s(argv[2]), lp_s(argv[3])) ? "equal" : "different");
    return 0;
}
