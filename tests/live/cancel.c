/* Threads that publish are cancelled at random moments, while polls are parked
   and told over real sockets.

     cancel room|new|async|run LOOPS ROUNDS SEED PATIENCE_MS

     room    lp_publish on the channel that is polled
     new     lp_publish on a channel more each time
     async   lp_publish_async on the channel that is polled
     run     the thread in lp_run is cancelled first; then as room

   In each round a thread publishes, and is cancelled after some publishes.
   Then all polls must have what was published, and publishing from here must
   reach them, each time within PATIENCE_MS. Each poller checks that every
   message comes once and in order. Prints what was done, or on stderr what is
   wrong; every wait has an end. */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { POLLERS = 8, PUBLISHES = 200, REPLY = 65536 };

static lp_server *server;
static int new_channels, async;
static unsigned patience_ms;

/* These are shared by threads, and used by the two functions below. */
static unsigned long made;           /* publishes of the round's thread      */
static unsigned long seen[POLLERS];  /* SEQ of the last message              */
static unsigned long outcomes;       /* of lp_publish_async                  */
static unsigned long over, returned;

static unsigned long get(const unsigned long *of)
{
    return __atomic_load_n(of, __ATOMIC_SEQ_CST);
}

static void set(unsigned long *of, unsigned long value)
{
    __atomic_store_n(of, value, __ATOMIC_SEQ_CST);
}

static void fail(const char *what, unsigned long a, unsigned long b)
{
    fprintf(stderr, "%s: %lu, %lu\n", what, a, b);
    _exit(1);
}

static void too_late(int signal_number)
{
    static const char text[] = "a call does not return\n";

    (void)signal_number;
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(1);
}

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void nap(void)
{
    struct timespec t = {0, 200000};

    nanosleep(&t, NULL);
}

/* ---- pollers ------------------------------------------------------------ */

typedef struct poller {
    pthread_t thread;
    unsigned number;
    int fd;
    char cursor[64];
    char reply[REPLY + 1];
} poller;

static poller pollers[POLLERS];

static void dial(poller *p)
{
    struct sockaddr_in to;
    struct timeval limit = {60, 0};

    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(lp_port(server));
    p->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(p->fd, (struct sockaddr *)&to, sizeof to) != 0)
        fail("connect", p->number, 0);
}

static void ask(poller *p)
{
    char text[256];
    int n = snprintf(text, sizeof text,
                     "GET /api/poll/room?last_id=%s&timeout=60 HTTP/1.1\r\n"
                     "Host: 127.0.0.1\r\nX-Client-ID: p%u\r\n\r\n",
                     p->cursor, p->number);

    if (send(p->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        fail("send", p->number, 0);
}

/* A whole reply. 0 if the connection has ended instead. */
static int receive(poller *p)
{
    size_t had = 0, whole = 0;
    char *end, *length;

    while (whole == 0 || had < whole) {
        ssize_t n = recv(p->fd, p->reply + had, REPLY - had, 0);

        if (n <= 0)
            return 0;
        had += (size_t)n;
        p->reply[had] = 0;
        end = strstr(p->reply, "\r\n\r\n");
        length = strstr(p->reply, "\r\nContent-Length: ");
        if (end != NULL && length != NULL)
            whole = (size_t)(end + 4 - p->reply) +
                    strtoul(length + 18, NULL, 10);
        if (whole > REPLY)
            fail("a reply of so many bytes", whole, REPLY);
    }
    return 1;
}

/* Every message is the next one. */
static void take(poller *p)
{
    const char *at = p->reply, *last = strstr(at, "\"last_id\":\"");
    unsigned long seq = get(&seen[p->number]);

    if (strncmp(at, "HTTP/1.1 200 ", 13) != 0 || last == NULL ||
        strstr(at, "\"reset\"") != NULL)
        fail("another reply", p->number, strtoul(at + 9, NULL, 10));
    while ((at = strstr(at, "{\"id\":\"")) != NULL) {
        unsigned long came = strtoul(at + 7 + 17, NULL, 10);

        if (came != seq + 1)
            fail("another message than the next", came, seq + 1);
        seq = came;
        at++;
    }
    sscanf(last + 11, "%63[^\"]", p->cursor);
    if (strtoul(p->cursor + 17, NULL, 10) != seq)
        fail("another cursor", strtoul(p->cursor + 17, NULL, 10), seq);
    set(&seen[p->number], seq);
}

static void *poll_on(void *of)
{
    poller *p = (poller *)of;

    for (;;) {
        ask(p);
        if (!receive(p) || strstr(p->reply, "\r\nConnection: close") != NULL)
            break;
        take(p);
    }
    if (!get(&over))
        fail("the end of a poller", p->number, get(&seen[p->number]));
    close(p->fd);
    return NULL;
}

/* ---- publishers --------------------------------------------------------- */

static void told(void *ctx, lp_result result, const lp_published *published)
{
    (void)ctx;
    if (result != LP_OK || published == NULL)
        fail("lp_publish_async", (unsigned long)-result, 0);
    __atomic_add_fetch(&outcomes, 1, __ATOMIC_SEQ_CST);
}

static void publish(void)
{
    static unsigned number;
    char name[32] = "room";
    lp_result result;

    if (new_channels)
        snprintf(name, sizeof name, "new-%u", ++number);
    if (async)
        result = lp_publish_async(server, lp_s(name), lp_s("{}"), told, NULL);
    else
        result = lp_publish(server, lp_s(name), lp_s("{}"), NULL);
    if (result != LP_OK)
        fail("publish", (unsigned long)-result, number);
}

/* Give the loops time to have told all, and to sleep, so that the next publish
   has to wake them. What is cancelled meanwhile ends within that publish. */
static void let_them_sleep(void)
{
    uint64_t end = now_us() + 200;

    while (now_us() < end) {}
}

static void *publish_on(void *unused)
{
    int i;

    for (i = 0; i < PUBLISHES; i++) {
        if (i % 8 == 0)
            let_them_sleep();
        publish();
        __atomic_add_fetch(&made, 1, __ATOMIC_SEQ_CST);
        pthread_testcancel();
    }
    for (;;)
        pause();
    return unused;
}

/* ---- rounds ------------------------------------------------------------- */

static void cancel(pthread_t thread)
{
    void *result;

    if (pthread_cancel(thread) != 0 || pthread_join(thread, &result) != 0 ||
        result != PTHREAD_CANCELED)
        fail("a thread that was not cancelled", 0, 0);
}

static void reach(const char *what, const unsigned long *of,
                  unsigned long value)
{
    uint64_t end = now_us() + patience_ms * UINT64_C(1000);

    while (get(of) < value) {
        if (now_us() > end)
            fail(what, get(of), value);
        nap();
    }
}

static void reach_all(const char *what, unsigned long seq)
{
    int i;

    for (i = 0; i < POLLERS; i++)
        reach(what, &seen[i], seq);
}

static unsigned long published(void)
{
    lp_stats stats;

    lp_stats_read(server, &stats);
    return (unsigned long)stats.published;
}

/* Publish from here, and wait until all have it. */
static void say(void)
{
    lp_published out;

    if (lp_publish(server, lp_s("room"), lp_s("{}"), &out) != LP_OK)
        fail("lp_publish", 0, 0);
    reach_all("a poll was not told, had and should have",
              strtoul(out.id + 17, NULL, 10));
}

static void round_of(unsigned number, unsigned long after)
{
    pthread_t thread;

    alarm(patience_ms / 1000 + 5);
    set(&made, 0);
    if (pthread_create(&thread, NULL, publish_on, NULL) != 0)
        fail("pthread_create", 0, 0);
    while (get(&made) < after)
        sched_yield();
    cancel(thread);
    if (!new_channels)
        reach_all("a poll was not woken, had and should have", published());
    if (async)
        reach("outcomes, told and due", &outcomes, published() - number);
    say();
    alarm(0);
}

/* ---- start and end ------------------------------------------------------ */

static void *run(void *unused)
{
    if (lp_run(server) != LP_OK)
        fail("lp_run", 0, 0);
    set(&returned, 1);
    pthread_testcancel();
    return unused;
}

static void start(pthread_t *runs, unsigned loops)
{
    lp_config config;
    unsigned i;

    memset(&config, 0, sizeof config);
    config.loops = loops;
    config.waiters_per_client = LP_UNLIMITED;
    config.drain_ms = 100;
    signal(SIGALRM, too_late);
    if (lp_create(&server, &config) != LP_OK ||
        pthread_create(runs, NULL, run, NULL) != 0)
        fail("start", 0, 0);
    for (i = 0; i < POLLERS; i++) {
        pollers[i].number = i;
        strcpy(pollers[i].cursor, "0");
        dial(&pollers[i]);
        if (pthread_create(&pollers[i].thread, NULL, poll_on, &pollers[i]))
            fail("pthread_create", 0, 0);
    }
    say();
}

static void end(pthread_t runs)
{
    unsigned i;

    alarm(60);
    set(&over, 1);
    lp_stop(server);
    reach("lp_run has returned", &returned, 1);
    pthread_join(runs, NULL);
    for (i = 0; i < POLLERS; i++)
        pthread_join(pollers[i].thread, NULL);
    lp_destroy(server);
}

int main(int argc, char **argv)
{
    unsigned rounds, i;
    pthread_t runs;

    if (argc != 6)
        return 2;
    new_channels = strcmp(argv[1], "new") == 0;
    async = strcmp(argv[1], "async") == 0;
    rounds = (unsigned)atoi(argv[3]);
    srand((unsigned)atoi(argv[4]));
    patience_ms = (unsigned)atoi(argv[5]);
    start(&runs, (unsigned)atoi(argv[2]));
    if (strcmp(argv[1], "run") == 0 && pthread_cancel(runs) != 0)
        return 2;
    for (i = 1; i <= rounds; i++)
        round_of(i, (unsigned long)rand() % PUBLISHES);
    printf("%u rounds, %lu published\n", rounds, published());
    end(runs);
    return 0;
}
