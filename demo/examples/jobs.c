/* Jobs that take their time. A page starts them and follows their progress on
   the channel of its session; a result is answered when it is there.

     curl -c jar localhost:8080/
     curl -b jar -d '{"name":"tea","steps":20}' localhost:8080/jobs
     curl -b jar localhost:8080/jobs/1/result                                */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

#include <signal.h>

#define JSON "application/json"

enum { SESSIONS = 1000, DIGITS = 64, JOBS = 64, TEXT = 256 };

static const char page[] = /* %.32s: what names the session's channel        */
    "<!doctype html><meta charset=utf-8><title>Jobs</title>\n"
    "<button>Start a job</button><pre></pre>\n"
    "<script type=module>\n"
    "const jobs = {}, [button, pre] = document.body.children;\n"
    "const body = JSON.stringify({name: 'Tea', steps: 50});\n"
    "button.onclick = () => fetch('/jobs', {method: 'POST', body});\n"
    "for (let last = 0;;) try {\n"
    "  const url = `/api/poll/jobs-%.32s?last_id=${last}`;\n"
    "  const {last_id, messages} = await (await fetch(url)).json();\n"
    "  for (const m of messages) jobs[m.job] = `${m.name} ${m.done}\\n`;\n"
    "  pre.textContent = Object.values(jobs).join('');\n"
    "  last = last_id;\n"
    "} catch { await new Promise((done) => setTimeout(done, 1000)); }\n"
    "</script>\n";

typedef struct job {
    char session[DIGITS + 1], name[80]; /* the name is JSON, with its quotes */
    int number, steps, done, sum;
    pthread_t thread;
    lp_deferred asked; /* the last request for the result                    */
} job;

/* A session is a cookie of random digits, of which the first half is no secret.
   Of sessions and of jobs the oldest gives way to a new one.                */
static lp_server *server;
static char sessions[SESSIONS][DIGITS + 1];
static unsigned session_count;
static job jobs[JOBS]; /* number n is at n % JOBS                            */
static int job_count;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of jobs         */

static const char *session_find(const lp_request *request)
{
    lp_slice cookie = lp_cookie(request, "session");
    unsigned i;
    for (i = 0; i < SESSIONS && cookie.length == DIGITS; i++)
        if (!memcmp(sessions[i], cookie.bytes, DIGITS)) return sessions[i];
    return NULL;
}

static const char *session_begin(lp_request *request)
{
    char *session = sessions[session_count++ % SESSIONS], cookie[128];
    unsigned char bytes[DIGITS / 2];
    FILE *random = fopen("/dev/urandom", "rb");
    size_t i, n = random ? fread(bytes, 1, sizeof bytes, random) : 0;
    if (random) fclose(random);
    if (n < sizeof bytes) return NULL;
    for (i = 0; i < n; i++) snprintf(session + 2 * i, 3, "%02x", bytes[i]);
    snprintf(cookie, sizeof cookie,
             "session=%s; Path=/; HttpOnly; SameSite=Lax", session);
    lp_reply_header(request, "Set-Cookie", lp_s(cookie)); /* TLS: Secure too */
    return session;
}

static void serve_page(lp_request *request, void *ctx)
{
    const char *session = session_find(request);
    char html[sizeof page + DIGITS];
    (void)ctx;
    if (!session) session = session_begin(request);
    snprintf(html, sizeof html, page, session ? session : "");
    lp_reply(request, session ? 200 : 500, "text/html", lp_s(html));
}

/* Only who has the session's cookie may poll its channel. */
static int authorize(void *ctx, lp_request *request, lp_action action,
                     lp_slice channel)
{
    const char *session = session_find(request);
    (void)ctx;
    return session && action == LP_POLL && channel.length == 5 + DIGITS / 2 &&
           !memcmp(channel.bytes, "jobs-", 5) &&
           !memcmp(channel.bytes + 5, session, DIGITS / 2) ? 0 : 403;
}

static lp_slice job_text(const job *j, char *text)
{
    snprintf(text, TEXT, "{\"job\":%d,\"name\":%s,\"steps\":%d,\"done\":%d,"
             "\"sum\":%d}", j->number, j->name, j->steps, j->done, j->sum);
    return lp_s(text);
}

/* The thread of a job adds up squares, and tells of each. */
static void *job_work(void *ctx)
{
    job *j = (job *)ctx;
    char channel[64], text[TEXT];
    lp_result told = LP_OK;
    snprintf(channel, sizeof channel, "jobs-%.32s", j->session);
    while (told != LP_ERR_STOPPED && j->done < j->steps) {
        usleep(100000);
        pthread_mutex_lock(&mutex);
        j->done++;
        j->sum += j->done * j->done;
        told = lp_publish(server, lp_s(channel), job_text(j, text), NULL);
        if (j->done == j->steps) /* LP_ERR_GONE if nobody waits */
            lp_reply_later(server, j->asked, 200, JSON, lp_s(text));
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void start(lp_request *request, void *ctx)
{
    const char *session = session_find(request);
    lp_slice body = lp_body(request), name;
    int64_t steps;
    job *j = &jobs[(job_count + 1) % JOBS];
    char text[TEXT];
    (void)ctx;
    pthread_mutex_lock(&mutex);
    if (!session) {
        lp_reply_error(request, 401, "No session: get / first");
    } else if (lp_json_get(body, "name", &name) != LP_OK ||
               lp_json_kind(name) != LP_JSON_STRING ||
               name.length >= sizeof j->name) {
        lp_reply_error(request, 400, "JSON is wanted, with a short name");
    } else if (lp_json_get_int(body, "steps", &steps) != LP_OK ||
               steps < 1 || steps > 100) {
        lp_reply_error(request, 400, "steps is to be from 1 to 100");
    } else if (j->done < j->steps) {
        lp_reply_error(request, 503, "Too many jobs");
    } else {
        if (j->number) pthread_join(j->thread, NULL); /* it has ended */
        memset(j, 0, sizeof *j);
        memcpy(j->session, session, DIGITS);
        memcpy(j->name, name.bytes, name.length);
        j->number = ++job_count;
        j->steps = (int)steps;
        if (pthread_create(&j->thread, NULL, job_work, j))
            j->number = j->steps = 0;
        if (j->number) lp_reply(request, 202, JSON, job_text(j, text));
        else lp_reply_error(request, 503, "No thread");
    }
    pthread_mutex_unlock(&mutex);
}

/* A job's result: now, or when it is done. */
static void result(lp_request *request, void *ctx)
{
    const char *session = session_find(request);
    char text[TEXT];
    int64_t number = 0;
    job *j;
    (void)ctx;
    lp_json_get_int(lp_param(request, "number"), "", &number);
    j = &jobs[(uint64_t)number % JOBS];
    pthread_mutex_lock(&mutex);
    if (!session || j->number != number || strcmp(j->session, session)) {
        lp_reply_error(request, 404, "No such job");
    } else if (j->done == j->steps) {
        lp_reply(request, 200, JSON, job_text(j, text));
    } else {
        lp_reply_later(server, j->asked, 409, NULL, lp_s("Asked again"));
        if (lp_defer(request, 0, &j->asked) != LP_OK)
            lp_reply_error(request, 503, "Out of memory");
    }
    pthread_mutex_unlock(&mutex);
}

static void stop(int number) { (void)number, lp_stop(server); }

int main(int argc, char **argv)
{
    lp_config cfg = {.port = 8080, .publish = "off"}; /* but for the jobs */
    int i;
    cfg.authorize.ask = authorize;
    if (argc == 2 && lp_config_set(&cfg, "port", argv[1])) return 2;
    if (lp_create(&server, &cfg) != LP_OK) return 1;
    lp_on(server, "GET", "/", serve_page, NULL);
    lp_on(server, "POST", "/jobs", start, NULL);
    lp_on(server, "GET", "/jobs/{number}/result", result, NULL);
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    printf("listening on http://127.0.0.1:%u\n", lp_port(server));
    fflush(stdout);
    lp_run(server);
    for (i = 0; i < JOBS; i++) /* their threads use the server */
        if (jobs[i].number) pthread_join(jobs[i].thread, NULL);
    lp_destroy(server);
    return 0;
}
