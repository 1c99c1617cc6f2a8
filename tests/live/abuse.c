/* The load client of abuse.test.mjs: very many clients that mean no good, or,
   for "polls", that mean well and come all at once.

     abuse KIND PORT COUNT PER SIZE [TARGET]

     heads    a request's head, and then a byte of it a second, without end
     bodies   a publish's head and SIZE bytes of 60,000, then a byte a second
     readers  a GET of TARGET, whose answer is not read
     idle     nothing is said
     storm    connections that are gone as soon as they are there, in three
              ways: closed, reset, and closed behind half a request; SIZE at
              once
     bursts   SIZE times: all connect and ask for TARGET, and when all have
              their answer they are all gone; "ready" comes behind the last
     polls    a poll on TARGET, and again and again, each its own X-Client-ID;
              who is cut off is there again at once
     names    COUNT channels, the first is number SIZE, each polled or published
              to once over one connection; TARGET says how, and whether they
              are random or as alike as can be: poll-random, publish-alike

   PER of them share an address. It prints "ready" once all are connected and
   have asked; then, for each line on stdin, a line of JSON: what became of them
   so far. It ends when stdin does. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 512, KEPT = 1000, CURSOR = 48, DIALLING = 1000, TICK_MS = 20 };

typedef enum kind {
    HEADS, BODIES, READERS, IDLE, STORM, BURSTS, POLLS, NAMES
} kind;
static const char *const kinds[] = {"heads", "bodies", "readers", "idle",
                                    "storm", "bursts", "polls", "names"};

typedef enum state { NEW, CONNECTING, OPEN, REFUSED, GONE } state;

typedef struct client {
    int fd;
    unsigned number;
    state state;
    unsigned length;           /* of what has come of an answer              */
    char cursor[CURSOR];
    char bytes[KEPT + 1];
} client;

static client *clients;
static kind what;
static unsigned port, count, per, size;
static const char *target = "/";
static int poller;

static unsigned connecting, opened;      /* now                              */
static unsigned connected, closed, refused; /* how often                     */
static unsigned dialled;                 /* of the clients, so many           */
static unsigned answered, bursts;        /* of this burst; those that are over */
static unsigned messages, timeouts, resets; /* what polls were told          */
static unsigned statuses[600];
static double slowest_ms;                /* of names: 64 answers             */

static void die(const char *where)
{
    perror(where);
    exit(1);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* ---- connections -------------------------------------------------------- */

/* A socket of 127.1.0.1, .2 and so on: `per` of each. */
static int socket_of(unsigned number, int flags)
{
    struct sockaddr_in from;
    int one = 1, small = 4096;
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0);

    if (fd < 0)
        die("socket");
    memset(&from, 0, sizeof from);
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = htonl(0x7f010001u + number / per);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (what == READERS)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
        die("bind");
    return fd;
}

static int connect_to(int fd)
{
    struct sockaddr_in to;

    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)port);
    return connect(fd, (struct sockaddr *)&to, sizeof to);
}

static void put(client *c, const char *text, size_t length)
{
    (void)!send(c->fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void leave(client *c, state to)
{
    if (c->state == CONNECTING)
        connecting--;
    if (c->state == OPEN)
        opened--;
    close(c->fd);
    c->state = to;
    c->length = 0;
}

static void dial(client *c)
{
    struct epoll_event event;

    memset(&event, 0, sizeof event);
    c->fd = socket_of(c->number, SOCK_NONBLOCK);
    c->state = CONNECTING;
    connecting++;
    if (connect_to(c->fd) != 0 && errno != EINPROGRESS) {
        refused++;
        leave(c, REFUSED);
        return;
    }
    event.events = EPOLLIN | EPOLLOUT;
    event.data.u32 = c->number;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) != 0)
        die("epoll_ctl");
}

/* ---- what they say ------------------------------------------------------ */

static void ask(client *c)
{
    char text[512];
    int n = snprintf(text, sizeof text,
                     "GET /api/poll/%s?last_id=%s&timeout=60 HTTP/1.1\r\n"
                     "Host: 127.0.0.1\r\nX-Client-ID: c%u\r\n\r\n",
                     target, c->cursor, c->number);
    put(c, text, (size_t)n);
}

static void upload(client *c)
{
    static char text[61000];
    int n = snprintf(text, sizeof text,
                     "POST /api/publish/slow%u HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                     "Content-Type: application/json\r\n"
                     "Content-Length: 60000\r\n\r\n", c->number % 100);
    memset(text + n, ' ', size);
    put(c, text, (size_t)n + size);
}

static void vanish(client *c)
{
    static const char half[] = "GET /api/poll/x HTTP/1.1\r\nHost: loc";
    struct linger at_once = {1, 0};

    if (c->number % 3 == 1)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    if (c->number % 3 == 2)
        put(c, half, sizeof half - 1);
    closed++;
    leave(c, GONE);
}

static void speak(client *c)
{
    static const char head[] = "GET /api/poll/slow HTTP/1.1\r\n"
                               "Host: 127.0.0.1\r\nX-Slow: ";
    char text[512];

    switch (what) {
    case HEADS: put(c, head, sizeof head - 1); break;
    case BODIES: upload(c); break;
    case READERS: case BURSTS:
        put(c, text, (size_t)snprintf(
            text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "X-Client-ID: r%u\r\n\r\n", target, c->number));
        break;
    case STORM: vanish(c); break;
    case POLLS: ask(c); break;
    case IDLE: case NAMES: break;
    }
}

/* ---- what they hear ----------------------------------------------------- */

static unsigned status_of(const char *bytes)
{
    unsigned status = (unsigned)strtoul(bytes + 9, NULL, 10);
    return status < 600 ? status : 0;
}

/* The whole answer to a poll, if it is there: 0, or its length. */
static unsigned answer_length(client *c)
{
    char *end, *length;

    c->bytes[c->length] = 0;
    end = strstr(c->bytes, "\r\n\r\n");
    length = strcasestr(c->bytes, "\r\nContent-Length: ");
    if (end == NULL || length == NULL)
        return 0;
    return (unsigned)(end + 4 - c->bytes) +
           (unsigned)strtoul(length + 18, NULL, 10);
}

static void note(client *c)
{
    char *at = strstr(c->bytes, "\"last_id\":\""), *end;

    statuses[status_of(c->bytes)]++;
    if (strstr(c->bytes, "{\"status\":\"messages\"") != NULL)
        messages++;
    if (strstr(c->bytes, "{\"status\":\"timeout\"") != NULL)
        timeouts++;
    if (strstr(c->bytes, "\"reset\":") != NULL)
        resets++;
    end = at != NULL ? strchr(at + 11, '"') : NULL;
    if (end != NULL && end - at - 11 < CURSOR) {
        memcpy(c->cursor, at + 11, (size_t)(end - at) - 11);
        c->cursor[end - at - 11] = 0;
    }
}

/* A poll is asked again at once, unless it was refused, or is the last here. */
static void hear_poll(client *c)
{
    unsigned length = answer_length(c);
    int again;

    if (length == 0 || c->length < length)
        return;
    note(c);
    again = status_of(c->bytes) == 200 &&
            strcasestr(c->bytes, "\r\nConnection: close") == NULL;
    c->length = 0;
    if (again)
        ask(c);
}

static void hear_burst(client *c)
{
    unsigned length = answer_length(c);

    if (length == 0 || c->length < length)
        return;
    statuses[status_of(c->bytes)]++;
    c->length = 0;
    answered++;
}

static void hear(client *c)
{
    char rest[4096];
    ssize_t n;

    if (what == READERS)
        return;
    n = c->length < KEPT ? recv(c->fd, c->bytes + c->length, KEPT - c->length,
                                MSG_DONTWAIT)
                         : recv(c->fd, rest, sizeof rest, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        closed++;
        leave(c, GONE);
        if (what == POLLS)
            dial(c);
        return;
    }
    if (c->length < 12 && c->length + n >= 12 && what != POLLS &&
        what != BURSTS)
        statuses[status_of(c->bytes)]++;
    if (c->length < KEPT)
        c->length += (unsigned)n;
    if (what == POLLS)
        hear_poll(c);
    if (what == BURSTS)
        hear_burst(c);
}

static void have_connected(client *c)
{
    struct epoll_event event;
    int error = 0;
    socklen_t length = sizeof error;

    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
        refused++;
        leave(c, REFUSED);
        return;
    }
    c->state = OPEN;
    connecting--;
    connected++;
    opened++;
    memset(&event, 0, sizeof event);
    event.events = what == READERS ? 0 : EPOLLIN;
    event.data.u32 = c->number;
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    speak(c);
}

/* ---- the turns ---------------------------------------------------------- */

/* Gives 0 once stdin has ended. */
static int told(void)
{
    char text[256];
    ssize_t n = read(STDIN_FILENO, text, sizeof text);
    unsigned i;
    const char *comma = "";

    if (n <= 0)
        return 0;
    printf("{\"open\":%u,\"connected\":%u,\"closed\":%u,\"refused\":%u,"
           "\"messages\":%u,\"timeouts\":%u,\"resets\":%u,\"slowest_ms\":%.1f,"
           "\"statuses\":{", opened, connected, closed, refused, messages,
           timeouts, resets, slowest_ms);
    for (i = 0; i < 600; i++) {
        if (statuses[i] == 0)
            continue;
        printf("%s\"%u\":%u", comma, i, statuses[i]);
        comma = ",";
    }
    puts("}}");
    fflush(stdout);
    return 1;
}

/* All have their answer: they go, and the next burst comes. */
static void burst_over(void)
{
    unsigned i;

    for (i = 0; i < count; i++)
        leave(&clients[i], GONE);
    closed += count;
    answered = 0;
    if (++bursts < size)
        dialled = 0;
}

/* Dial those that are new, and, on a tick, those that were refused. */
static void dial_more(int tick)
{
    unsigned most = what == STORM ? size : DIALLING, i;

    if (what == BURSTS && answered == count)
        burst_over();
    for (; dialled < count && connecting < most; dialled++)
        dial(&clients[dialled]);
    for (i = 0; tick && i < dialled; i++)
        if (clients[i].state == REFUSED)
            dial(&clients[i]);
}

/* A byte more, of each. */
static void trickle(void)
{
    unsigned i;

    for (i = 0; i < count; i++)
        if (clients[i].state == OPEN)
            put(&clients[i], "x", 1);
}

static int turn(void)
{
    struct epoll_event events[EVENTS];
    int i, n = epoll_wait(poller, events, EVENTS, TICK_MS);

    for (i = 0; i < n; i++) {
        client *c;

        if (events[i].data.u32 == UINT32_MAX) {
            if (!told())
                return 0;
            continue;
        }
        c = &clients[events[i].data.u32];
        if (c->state == CONNECTING)
            have_connected(c);
        else if (c->state == OPEN)
            hear(c);
    }
    return 1;
}

static void run(void)
{
    double tick = 0, slow = now_ms();
    int ready = 0;

    do {
        double now = now_ms();

        dial_more(now - tick >= TICK_MS);
        if (now - tick >= TICK_MS)
            tick = now;
        if ((what == HEADS || what == BODIES) && now - slow >= 1000) {
            slow = now;
            trickle();
        }
        if (!ready && (what == BURSTS ? bursts == size : connected >= count)) {
            ready = 1;
            puts("ready");
            fflush(stdout);
        }
    } while (turn());
}

/* ---- names -------------------------------------------------------------- */

enum { WINDOW = 64 };

static uint64_t scrambled(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static int request(char *to, size_t room, unsigned n)
{
    char name[256];

    if (strstr(target, "random") != NULL)
        snprintf(name, sizeof name, "%016llx",
                 (unsigned long long)scrambled(n));
    else
        snprintf(name, sizeof name, "%0248u", n);
    if (strncmp(target, "poll", 4) == 0)
        return snprintf(to, room, "GET /api/poll/%s?timeout=0 HTTP/1.1\r\n"
                        "Host: 127.0.0.1\r\n\r\n", name);
    return snprintf(to, room, "POST /api/publish/%s HTTP/1.1\r\n"
                    "Host: 127.0.0.1\r\nContent-Type: application/json\r\n"
                    "Content-Length: 2\r\n\r\n{}", name);
}

/* Read the answers to `n` requests. */
static void read_answers(int fd, unsigned n)
{
    static char bytes[65536 + 1];
    static size_t had;

    while (n > 0) {
        char *at = bytes, *end, *length;
        ssize_t got = recv(fd, bytes + had, sizeof bytes - 1 - had, 0);

        if (got <= 0)
            die("names: no answer");
        had += (size_t)got;
        bytes[had] = 0;
        while (n > 0 && (end = strstr(at, "\r\n\r\n")) != NULL) {
            length = strcasestr(at, "\r\nContent-Length: ");
            end += 4 + (length != NULL ? strtoul(length + 18, NULL, 10) : 0);
            if (end > bytes + had)
                break;
            statuses[status_of(at)]++;
            at = end;
            n--;
        }
        had -= (size_t)(at - bytes);
        memmove(bytes, at, had);
    }
}

static void run_names(void)
{
    static char text[WINDOW * 512];
    int fd = socket_of(0, 0);
    unsigned n = 0;

    if (connect_to(fd) != 0)
        die("connect");
    while (n < count) {
        double began = now_ms(), took;
        size_t length = 0;
        unsigned sent = 0;

        for (; sent < WINDOW && n < count; sent++, n++)
            length += (size_t)request(text + length, 512, size + n);
        if (send(fd, text, length, MSG_NOSIGNAL) != (ssize_t)length)
            die("send");
        read_answers(fd, sent);
        took = now_ms() - began;
        if (took > slowest_ms)
            slowest_ms = took;
    }
    close(fd);
    puts("ready");
    fflush(stdout);
    while (told())
        ;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    struct epoll_event event;
    unsigned i;

    if (argc < 6) {
        fprintf(stderr, "abuse KIND PORT COUNT PER SIZE [TARGET]\n");
        return 2;
    }
    while (strcmp(argv[1], kinds[what]) != 0)
        if (++what > NAMES)
            return 2;
    port = (unsigned)atoi(argv[2]);
    count = (unsigned)atoi(argv[3]);
    per = (unsigned)atoi(argv[4]);
    size = (unsigned)atoi(argv[5]);
    if (argc > 6)
        target = argv[6];
    if (what == BODIES && size > 59000)
        return 2;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (what == NAMES) {
        run_names();
        return 0;
    }
    clients = (client *)calloc(count, sizeof *clients);
    poller = epoll_create1(0);
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.u32 = UINT32_MAX;
    if (clients == NULL || poller < 0 ||
        epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0)
        die("start");
    for (i = 0; i < count; i++) {
        clients[i].number = i;
        strcpy(clients[i].cursor, "now");
    }
    run();
    return 0;
}
