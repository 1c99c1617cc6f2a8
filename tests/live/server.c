/* The live tests' server: every field of lp_config from the command line, as
   --NAME VALUE, and routes under /test/ that do what only the inside can do.

     POST /test/publish-burst/{channel}?n=&text=   n messages in one handler
     POST /test/publish-thread/{channel}?n=&text=  n messages by a thread
     POST /test/publish-async/{channel}            the body, lp_publish_async
     GET  /test/outcomes      what became of those, once each
     GET  /test/stats         lp_stats
     GET  /test/address       the client, past the proxies
     GET  /test/asked         what the authorize hook was asked, once each
     GET  /test/watched       what the watch hook was told, once each
     GET  /test/published     what the after_publish hook was told, once each
     POST /test/ban/{channel}?client=   the authorize hook refuses that
                              X-Client-ID from now on, and lp_recheck is called
     GET  /test/newest/{channel}?n=   as lp_messages_read tells of them
     POST /test/echo          the body
     GET  /test/page?n=       n bytes
     GET  /test/params/{a}/of/{b}
     GET  /test/files/{path...}                    of the folder --files

   The authorize hook refuses channels that begin with "secret" (403) and with
   "login" (401).

   With --hooks on, the before_publish hook refuses JSON that has "forbidden" in
   it (422, and says why), or "unwanted" (403); of what has "secret" it leaves
   {"redacted":true}, and of what has "spoil" what is no JSON. The after_publish
   hook answers what is published on "question" on "answer".

   With --policy on the policy hook refuses channels that begin with "unknown"; of
   those that begin with "small" two messages are held, for half a second, and
   one poll waits. */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lp_server *server;

/* With --loops, handlers and hooks run at the same time. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* ---- notes: JSON values that pile up until somebody asks for them ------- */

typedef struct notes {
    lp_json json;
    int open;
} notes;

static notes asked, watched, messages, outcomes;

static lp_json *note(notes *to)
{
    pthread_mutex_lock(&mutex);
    if (!to->open) {
        lp_json_init(&to->json, NULL);
        lp_json_array(&to->json);
        to->open = 1;
    }
    return &to->json;
}

static void noted(void)
{
    pthread_mutex_unlock(&mutex);
}

static void reply_notes(lp_request *request, void *ctx)
{
    notes *of = (notes *)ctx;
    lp_json *json = note(of);

    lp_json_end(json);
    lp_reply(request, 200, "application/json", lp_json_text(json));
    lp_json_free(json);
    of->open = 0;
    noted();
}

/* ---- hooks -------------------------------------------------------------- */

static int begins(lp_slice text, const char *with)
{
    size_t length = strlen(with);
    return text.length >= length && memcmp(text.bytes, with, length) == 0;
}

static char banned[64];

static int is_banned(lp_slice client)
{
    int is;

    pthread_mutex_lock(&mutex);
    is = client.length != 0 && client.length == strlen(banned) &&
         memcmp(client.bytes, banned, client.length) == 0;
    pthread_mutex_unlock(&mutex);
    return is;
}

static int authorize(void *ctx, lp_request *request, lp_action action,
                     lp_slice channel)
{
    lp_json *json = note(&asked);

    (void)ctx;
    lp_json_object(json);
    lp_json_key(json, lp_s("action"));
    lp_json_string(json, lp_s(action == LP_POLL ? "poll" : "publish"));
    lp_json_key(json, lp_s("channel"));
    lp_json_string(json, channel);
    lp_json_key(json, lp_s("method"));
    lp_json_string(json, lp_method(request));
    lp_json_end(json);
    noted();

    if (is_banned(lp_header(request, "X-Client-ID")))
        return 403;
    if (begins(channel, "secret"))
        return 403;
    if (begins(channel, "login"))
        return 401;
    return 0;
}

static int contains(lp_slice text, const char *part)
{
    for (; text.length > 0; text.bytes++, text.length--)
        if (begins(text, part))
            return 1;
    return 0;
}

static int before_publish(void *ctx, lp_request *request, lp_slice channel,
                          lp_slice *json, const char **text)
{
    (void)ctx;
    (void)request;
    (void)channel;
    if (contains(*json, "forbidden")) {
        *text = "That word is forbidden";
        return 422;
    }
    if (contains(*json, "unwanted"))
        return 403;
    if (contains(*json, "secret"))
        *json = lp_s("{\"redacted\":true}");
    if (contains(*json, "spoil"))
        *json = lp_s("{\"redacted\"");
    return 0;
}

static void after_publish(void *ctx, const lp_message *message)
{
    lp_json *json = note(&messages);

    (void)ctx;
    lp_json_object(json);
    lp_json_key(json, lp_s("channel"));
    lp_json_string(json, message->channel);
    lp_json_key(json, lp_s("id"));
    lp_json_string(json, message->id);
    lp_json_key(json, lp_s("timestamp_us"));
    lp_json_uint(json, message->timestamp_us);
    lp_json_key(json, lp_s("message"));
    lp_json_raw(json, message->json);
    lp_json_end(json);
    noted();
    if (begins(message->channel, "question"))
        lp_publish(server, lp_s("answer"), lp_s("{\"text\":\"yes\"}"), NULL);
}

static void watch(void *ctx, lp_channel_event event, lp_slice channel)
{
    lp_json *json = note(&watched);

    (void)ctx;
    lp_json_array(json);
    lp_json_string(json, lp_s(event == LP_CHANNEL_OCCUPIED ? "waited on"
                                                            : "deserted"));
    lp_json_string(json, channel);
    lp_json_end(json);
    noted();
}

static int policy(void *ctx, lp_slice channel, lp_policy *limits)
{
    (void)ctx;
    if (begins(channel, "small")) {
        limits->history_count = 2;
        limits->history_age_ms = 500;
        limits->waiters_max = 1;
    }
    return !begins(channel, "unknown");
}

/* What does not work is on stderr, where the harness takes offence. */
static void complain(void *ctx, lp_log_level level, const char *line)
{
    (void)ctx;
    if (level == LP_LOG_ERROR)
        fprintf(stderr, "error: %s\n", line);
}

/* ---- publishing from the inside ----------------------------------------- */

static unsigned number(lp_request *request, const char *name)
{
    lp_slice value = lp_query(request, name);
    char digits[16] = "0";

    if (value.bytes != NULL && value.length < sizeof digits) {
        memcpy(digits, value.bytes, value.length);
        digits[value.length] = 0;
    }
    return (unsigned)strtoul(digits, NULL, 10);
}

typedef struct work {
    pthread_t thread;
    struct work *next;
    char channel[256], text[256];
    unsigned n;
    lp_result result;
    lp_published last;
} work;

static work *threads;

static void publish_all(work *job)
{
    char json[320];
    unsigned i;

    for (i = 0; i < job->n && job->result == LP_OK; i++) {
        snprintf(json, sizeof json, "{\"n\":%u,\"text\":\"%s\"}", i + 1,
                 job->text);
        job->result = lp_publish(server, lp_s(job->channel), lp_s(json),
                                 &job->last);
    }
}

static void *publish_in_thread(void *job)
{
    publish_all((work *)job);
    return NULL;
}

static void describe(work *job, lp_request *request)
{
    lp_slice channel = lp_param(request, "channel");
    lp_slice text = lp_query(request, "text");

    memset(job, 0, sizeof *job);
    job->n = number(request, "n");
    if (channel.length < sizeof job->channel)
        memcpy(job->channel, channel.bytes, channel.length);
    if (text.bytes != NULL && text.length < sizeof job->text)
        memcpy(job->text, text.bytes, text.length);
}

static void reply_published(lp_request *request, lp_result result,
                            const lp_published *last)
{
    lp_json json;

    if (result != LP_OK) {
        lp_reply_error(request, 500, lp_strerror(result));
        return;
    }
    lp_json_init(&json, NULL);
    lp_json_object(&json);
    lp_json_key(&json, lp_s("id"));
    lp_json_string(&json, lp_s(last->id));
    lp_json_key(&json, lp_s("waiters"));
    lp_json_uint(&json, last->waiters);
    lp_json_end(&json);
    lp_reply(request, 200, "application/json", lp_json_text(&json));
    lp_json_free(&json);
}

static void publish_burst(lp_request *request, void *ctx)
{
    work job;

    (void)ctx;
    describe(&job, request);
    publish_all(&job);
    reply_published(request, job.result, &job.last);
}

static void publish_thread(lp_request *request, void *ctx)
{
    work *job = (work *)malloc(sizeof *job);

    (void)ctx;
    if (job == NULL) {
        lp_reply_error(request, 503, "no memory");
        return;
    }
    describe(job, request);
    if (pthread_create(&job->thread, NULL, publish_in_thread, job) != 0) {
        free(job);
        lp_reply_error(request, 503, "no thread");
        return;
    }
    pthread_mutex_lock(&mutex);
    job->next = threads;
    threads = job;
    pthread_mutex_unlock(&mutex);
    lp_reply(request, 200, "application/json", lp_s("{\"started\":true}"));
}

static void join_threads(void)
{
    while (threads != NULL) {
        work *job = threads;

        threads = job->next;
        pthread_join(job->thread, NULL);
        free(job);
    }
}

static void outcome(void *ctx, lp_result result, const lp_published *published)
{
    lp_json *json = note(&outcomes);

    (void)ctx;
    lp_json_object(json);
    lp_json_key(json, lp_s("result"));
    lp_json_string(json, lp_s(lp_strerror(result)));
    lp_json_key(json, lp_s("id"));
    if (published != NULL)
        lp_json_string(json, lp_s(published->id));
    else
        lp_json_null(json);
    lp_json_end(json);
    noted();
}

static void publish_async(lp_request *request, void *ctx)
{
    lp_result result = lp_publish_async(server, lp_param(request, "channel"),
                                        lp_body(request), outcome, NULL);

    (void)ctx;
    if (result != LP_OK)
        lp_reply_error(request, 500, lp_strerror(result));
    else
        lp_reply(request, 200, "application/json", lp_s("{\"asked\":true}"));
}

/* ---- looking inside ----------------------------------------------------- */

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
    member(&json, "requests", now.requests);
    member(&json, "published", now.published);
    member(&json, "delivered", now.delivered);
    member(&json, "resets", now.resets);
    member(&json, "evicted", now.evicted);
    member(&json, "refused", now.refused);
    member(&json, "connections", now.connections);
    member(&json, "waiters", now.waiters);
    member(&json, "channels", now.channels);
    member(&json, "messages", now.messages);
    member(&json, "history_bytes", now.history_bytes);
    member(&json, "pinned_bytes", now.pinned_bytes);
    member(&json, "delay_us", lp_latency_percentile_us(now.latencies, 0.99));
    member(&json, "first_delay_us", lp_latency_percentile_us(now.first_latencies, 0.99));
    lp_json_end(&json);
    lp_reply(request, 200, "application/json", lp_json_text(&json));
    lp_json_free(&json);
}

static void address(lp_request *request, void *ctx)
{
    (void)ctx;
    lp_reply(request, 200, "text/plain", lp_client(request));
}

static void ban(lp_request *request, void *ctx)
{
    lp_slice client = lp_query(request, "client");

    (void)ctx;
    pthread_mutex_lock(&mutex);
    memset(banned, 0, sizeof banned);
    if (client.length < sizeof banned)
        memcpy(banned, client.bytes, client.length);
    pthread_mutex_unlock(&mutex);
    if (lp_recheck(server, lp_param(request, "channel")) != LP_OK)
        lp_reply_error(request, 500, "lp_recheck");
    else
        lp_reply(request, 200, "application/json", lp_s("{}"));
}

static void add_message(void *ctx, const lp_message *message)
{
    lp_json_raw((lp_json *)ctx, message->json);
}

static void newest(lp_request *request, void *ctx)
{
    lp_json json;
    lp_result result;

    (void)ctx;
    lp_json_init(&json, NULL);
    lp_json_array(&json);
    result = lp_messages_read(server, lp_param(request, "channel"),
                              number(request, "n"), add_message, &json);
    lp_json_end(&json);
    if (result != LP_OK)
        lp_reply_error(request, 500, lp_strerror(result));
    else
        lp_reply(request, 200, "application/json", lp_json_text(&json));
    lp_json_free(&json);
}

static void echo(lp_request *request, void *ctx)
{
    (void)ctx;
    lp_reply(request, 200, "application/octet-stream", lp_body(request));
}

static void page(lp_request *request, void *ctx)
{
    size_t size = number(request, "n");
    char *bytes = (char *)malloc(size + 1);
    lp_slice body;

    (void)ctx;
    if (bytes == NULL) {
        lp_reply_error(request, 503, "no memory");
        return;
    }
    memset(bytes, 'x', size);
    body.bytes = bytes;
    body.length = size;
    lp_reply(request, 200, "text/plain", body);
    free(bytes);
}

static void params(lp_request *request, void *ctx)
{
    lp_json json;

    (void)ctx;
    lp_json_init(&json, NULL);
    lp_json_array(&json);
    lp_json_string(&json, lp_param(request, "a"));
    lp_json_string(&json, lp_param(request, "b"));
    lp_json_string(&json, lp_query(request, "q"));
    lp_json_end(&json);
    lp_reply(request, 200, "application/json", lp_json_text(&json));
    lp_json_free(&json);
}

static const char *folder;

static void serve_file(lp_request *request, void *ctx)
{
    (void)ctx;
    lp_reply_file(request, folder, lp_param(request, "path"));
}

/* ---- what clients send -------------------------------------------------- */

static void member_int(lp_json *json, const char *name, lp_result result,
                       int64_t value)
{
    char text[24];

    lp_json_key(json, lp_s(name));
    if (result != LP_OK)
        lp_json_int(json, result);
    else { /* as a text: JavaScript's numbers would round it */
        snprintf(text, sizeof text, "%lld", (long long)value);
        lp_json_string(json, lp_s(text));
    }
}

static void member_text(lp_json *json, const char *name, lp_slice text)
{
    lp_json_key(json, lp_s(name));
    if (text.bytes != NULL)
        lp_json_string(json, text);
    else
        lp_json_null(json);
}

static void members_of(lp_json *json, lp_slice value)
{
    char key[256];
    lp_slice name;
    lp_json_iter it;

    lp_json_key(json, lp_s("each"));
    lp_json_array(json);
    lp_json_each(&it, value);
    while (lp_json_next(&it)) {
        lp_json_array(json);
        if (lp_json_key_text(&it, key, sizeof key, &name) == LP_OK)
            lp_json_string(json, name);
        lp_json_raw(json, it.value);
        lp_json_end(json);
    }
    lp_json_end(json);
}

static void read_typed(lp_json *json, lp_slice text, const char *path)
{
    char buffer[4096];
    int64_t n = 0;
    double number;
    lp_slice string;
    lp_result result = lp_json_get_int(text, path, &n);

    member_int(json, "int", result, n);
    if (lp_json_get_double(text, path, &number) == LP_OK) {
        lp_json_key(json, lp_s("double"));
        lp_json_double(json, number);
    }
    if (lp_json_get_string(text, path, buffer, sizeof buffer, &string) == LP_OK)
        member_text(json, "string", string);
}

/* The value at ?path= of the body, in all the ways to read it. */
static void read_json(lp_request *request, void *ctx)
{
    static const char none[] = "";
    lp_slice path = lp_query(request, "path"), body = lp_body(request), value;
    char name[1024];
    lp_json json;
    lp_result result;

    (void)ctx;
    if (path.length >= sizeof name) {
        lp_reply_error(request, 400, "long path");
        return;
    }
    memcpy(name, path.bytes != NULL ? path.bytes : none, path.length);
    name[path.length] = 0;
    lp_json_init(&json, NULL);
    lp_json_object(&json);
    result = lp_json_get(body, name, &value);
    lp_json_key(&json, lp_s("result"));
    lp_json_int(&json, result);
    if (result == LP_OK) {
        lp_json_key(&json, lp_s("value"));
        lp_json_raw(&json, value);
        members_of(&json, value);
        read_typed(&json, body, name);
    }
    lp_json_end(&json);
    lp_reply_json(request, 200, &json);
}

/* The cookie, the number in the query and the field of a form of that name. */
static void read_form(lp_request *request, void *ctx)
{
    lp_slice name = lp_param(request, "name");
    char text[65];
    int64_t n = 0;
    lp_result result;
    lp_json json;

    (void)ctx;
    if (name.length >= sizeof text) {
        lp_reply_error(request, 400, "long name");
        return;
    }
    memcpy(text, name.bytes, name.length);
    text[name.length] = 0;
    result = lp_query_int(request, text, &n);
    lp_json_init(&json, NULL);
    lp_json_object(&json);
    member_text(&json, "cookie", lp_cookie(request, text));
    member_text(&json, "form", lp_form(request, text));
    member_int(&json, "query", result, n);
    lp_json_end(&json);
    lp_reply_header(request, "Set-Cookie",
                    lp_s("seen=\"by the server\"; Path=/"));
    lp_reply_json(request, 200, &json);
}

static void log_access(void *ctx, const lp_access *access)
{
    char line[LP_ACCESS_LINE];

    if (strcmp((const char *)ctx, "json") == 0)
        lp_access_json(line, sizeof line, access);
    else
        lp_access_common(line, sizeof line, access);
    fputs(line, stdout);
    fflush(stdout);
}

/* ---- start and end ------------------------------------------------------ */

static void stop(int signal_number)
{
    (void)signal_number;
    lp_stop(server);
}

static int configure(lp_config *config, int argc, char **argv)
{
    int i;

    for (i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--log") == 0 && i + 1 < argc) {
            config->access_log.write = log_access;
            config->access_log.ctx = argv[i + 1];
            continue;
        }
        if (strcmp(argv[i], "--files") == 0 && i + 1 < argc) {
            folder = argv[i + 1];
            continue;
        }
        if (strcmp(argv[i], "--policy") == 0 && i + 1 < argc) {
            config->policy.ask = policy;
            continue;
        }
        if (strcmp(argv[i], "--hooks") == 0) {
            config->before_publish.ask = before_publish;
            config->after_publish.tell = after_publish;
            continue;
        }
        if (strncmp(argv[i], "--", 2) != 0 || i + 1 == argc ||
            lp_config_set(config, argv[i] + 2, argv[i + 1]) != LP_OK) {
            fprintf(stderr, "bad option: %s %s\n", argv[i],
                    i + 1 < argc ? argv[i + 1] : "");
            return 0;
        }
    }
    return 1;
}

static int serve_routes(void)
{
    static const struct {
        const char *method, *pattern;
        lp_handler handler;
        void *ctx;
    } routes[] = {
        {"POST", "/test/publish-burst/{channel}", publish_burst, NULL},
        {"POST", "/test/publish-thread/{channel}", publish_thread, NULL},
        {"POST", "/test/publish-async/{channel}", publish_async, NULL},
        {"GET", "/test/outcomes", reply_notes, &outcomes},
        {"GET", "/test/stats", stats, NULL},
        {"GET", "/test/address", address, NULL},
        {"GET", "/test/asked", reply_notes, &asked},
        {"GET", "/test/watched", reply_notes, &watched},
        {"GET", "/test/published", reply_notes, &messages},
        {"POST", "/test/ban/{channel}", ban, NULL},
        {"GET", "/test/newest/{channel}", newest, NULL},
        {"POST", "/test/echo", echo, NULL},
        {"GET", "/test/page", page, NULL},
        {"GET", "/test/params/{a}/of/{b}", params, NULL},
        {"GET", "/test/files/{path...}", serve_file, NULL},
        {"POST", "/test/read-json", read_json, NULL},
        {"POST", "/test/read-form/{name}", read_form, NULL},
    };
    size_t i;

    for (i = 0; i < sizeof routes / sizeof *routes; i++)
        if (lp_on(server, routes[i].method, routes[i].pattern,
                  routes[i].handler, routes[i].ctx) != LP_OK)
            return 0;
    return 1;
}

static void free_notes(notes *of)
{
    if (of->open)
        lp_json_free(&of->json);
}

int main(int argc, char **argv)
{
    lp_config config;
    lp_result result;

    memset(&config, 0, sizeof config);
    config.authorize.ask = authorize;
    config.watch.channel = watch;
    config.log.write = complain;
    if (!configure(&config, argc, argv))
        return 2;
    result = lp_create(&server, &config);
    if (result != LP_OK || !serve_routes()) {
        fprintf(stderr, "cannot start: %s\n", lp_strerror(result));
        return 1;
    }
    signal(SIGTERM, stop);
    signal(SIGINT, stop);

    {
        const char *host = config.host != NULL ? config.host : "127.0.0.1";
        int six = strchr(host, ':') != NULL;

        printf("listening on http://%s%s%s:%u\n", six ? "[" : "", host,
               six ? "]" : "", (unsigned)lp_port(server));
        fflush(stdout);
    }
    result = lp_run(server);
    signal(SIGTERM, SIG_IGN);          /* lp_stop may not come after destroy */
    signal(SIGINT, SIG_IGN);
    join_threads();
    lp_destroy(server);
    free_notes(&asked);
    free_notes(&watched);
    free_notes(&messages);
    free_notes(&outcomes);
    if (result != LP_OK)
        fprintf(stderr, "ended: %s\n", lp_strerror(result));
    return result != LP_OK;
}
