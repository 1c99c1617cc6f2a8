/* The load client of fanout.test.mjs: very many polls on one channel, and a
   publisher, in one process.

     fanout PORT CHANNEL POLLS PUBLISHES SECONDS [free]

   Once all polls are sent it prints "ready" and waits for a line on stdin.
   Then it publishes; each time it waits until every poll has had the message
   and has asked again, or, with "free", goes on at once. Every reply is
   checked: each client gets 1, 2, 3... of one epoch, each exactly once. It
   prints one JSON object of counts, and exits 0 if there was no error. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PER_ADDRESS = 500, EVENTS = 512, CURSOR = 48 };

typedef struct client {
    int fd;
    unsigned number;
    unsigned had;              /* messages received: the next has this + 1   */
    char cursor[CURSOR];
    char *bytes;               /* of an answer that is not complete yet      */
    size_t length, capacity;
} client;

static client *clients;
static unsigned polls, publishes, port, errors;
static unsigned long deliveries, replies, timeouts, woken;
static const char *channel;
static char epoch[24];
static int poller;

static void fail(const char *format, ...)
{
    va_list args;

    if (++errors > 20)
        return;
    va_start(args, format);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A connection from 127.0.0.2, .3 and so on: 500 of each. */
static int dial(unsigned number)
{
    struct sockaddr_in from, to;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0)
        die("socket");
    memset(&from, 0, sizeof from);
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = htonl(0x7f000002u + number / PER_ADDRESS);
    to = from;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)port);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
        die("bind");
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    return fd;
}

static void ask(client *c)
{
    char request[256];
    int length = snprintf(request, sizeof request,
                          "GET /api/poll/%s?last_id=%s&timeout=60 HTTP/1.1\r\n"
                          "Host: 127.0.0.1\r\nX-Client-ID: c%u\r\n\r\n",
                          channel, c->cursor, c->number);

    if (send(c->fd, request, (size_t)length, MSG_NOSIGNAL) != length)
        fail("client %u: cannot send: %s", c->number, strerror(errno));
}

/* ---- what must be true of an answer ------------------------------------- */

/* The text between `before` and the next quote, at or after *at. */
static int quoted(char **at, const char *before, char *out, size_t size)
{
    char *start = strstr(*at, before), *end;

    if (start == NULL)
        return 0;
    start += strlen(before);
    end = strchr(start, '"');
    if (end == NULL || (size_t)(end - start) >= size)
        return 0;
    memcpy(out, start, (size_t)(end - start));
    out[end - start] = 0;
    *at = end;
    return 1;
}

/* An id EPOCH-SEQ: the one epoch, and the SEQ that comes next. */
static int follows(client *c, const char *id)
{
    const char *dash = strchr(id, '-');

    if (dash == NULL || (size_t)(dash - id) >= sizeof epoch)
        return 0;
    if (epoch[0] == 0)
        memcpy(epoch, id, (size_t)(dash - id));
    return strncmp(id, epoch, (size_t)(dash - id)) == 0 &&
           strtoul(dash + 1, NULL, 10) == c->had + 1;
}

/* The messages of a body, in order; their number must be `count`. */
static void take_messages(client *c, char *body)
{
    char *at = body, *number = strstr(body, "\"count\":");
    char id[CURSOR] = "", n[32];
    unsigned count = number ? (unsigned)strtoul(number + 8, NULL, 10) : 0;
    unsigned got = 0;

    while (quoted(&at, "{\"id\":\"", id, sizeof id)) {
        if (!follows(c, id))
            fail("client %u had %u and got %s", c->number, c->had, id);
        c->had++;
        got++;
        deliveries++;
        snprintf(n, sizeof n, ",\"n\":%u}", c->had);
        number = strchr(at, '}');
        if (number == NULL || number - at < (long)strlen(n) ||
            strncmp(number + 1 - strlen(n), n, strlen(n)) != 0)
            fail("client %u: %s is not message %u", c->number, id, c->had);
    }
    if (got == 0 || got != count || strcmp(id, c->cursor) != 0)
        fail("client %u: %u of %u messages, last %s, cursor %s", c->number,
             got, count, id, c->cursor);
}

static void take_body(client *c, char *body)
{
    char *at = body;

    replies++;
    if (!quoted(&at, "\"last_id\":\"", c->cursor, sizeof c->cursor) ||
        strstr(body, "\"reset\":") != NULL)
        fail("client %u: %.200s", c->number, body);
    else if (strncmp(body, "{\"status\":\"timeout\"", 19) == 0)
        timeouts++;
    else if (strncmp(body, "{\"status\":\"messages\"", 20) == 0)
        take_messages(c, body);
    else
        fail("client %u: %.200s", c->number, body);
}

/* Take one answer off the front, if it is complete. */
static int take_answer(client *c)
{
    char *end, *length, keep;
    size_t head, size;

    c->bytes[c->length] = 0;
    end = strstr(c->bytes, "\r\n\r\n");
    if (end == NULL)
        return 0;
    head = (size_t)(end - c->bytes) + 4;
    length = strcasestr(c->bytes, "\r\nContent-Length: ");
    size = length != NULL && length < end ? strtoul(length + 18, NULL, 10) : 0;
    if (c->length < head + size)
        return 0;
    if (strncmp(c->bytes, "HTTP/1.1 200 ", 13) != 0)
        fail("client %u: %.300s", c->number, c->bytes);
    keep = c->bytes[head + size];
    c->bytes[head + size] = 0;
    take_body(c, c->bytes + head);
    c->bytes[head + size] = keep;
    c->length -= head + size;
    memmove(c->bytes, c->bytes + head + size, c->length);
    return 1;
}

static void receive(client *c)
{
    ssize_t got;

    if (c->capacity - c->length < 2048) {
        c->capacity = c->capacity * 2 + 4096;
        c->bytes = (char *)realloc(c->bytes, c->capacity + 1);
        if (c->bytes == NULL)
            die("memory");
    }
    got = recv(c->fd, c->bytes + c->length, c->capacity - c->length,
               MSG_DONTWAIT);
    if (got <= 0) {
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        fail("client %u: %s", c->number, got ? strerror(errno) : "closed");
        epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
        return;
    }
    c->length += (size_t)got;
    while (take_answer(c))
        ask(c);
}

/* One turn; gives whether anything was there. */
static int turn(int wait_ms)
{
    struct epoll_event events[EVENTS];
    int i, n = epoll_wait(poller, events, EVENTS, wait_ms);

    for (i = 0; i < n; i++)
        receive(&clients[events[i].data.u32]);
    return n > 0;
}

/* ---- the publisher ------------------------------------------------------ */

static void publish(int fd, unsigned n)
{
    char text[512], body[32], *count;
    int size = snprintf(body, sizeof body, "{\"n\":%u}", n);
    int length = snprintf(text, sizeof text,
                          "POST /api/publish/%s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                          "Content-Type: application/json\r\n"
                          "Content-Length: %d\r\n\r\n%s", channel, size, body);
    size_t got = 0;

    if (send(fd, text, (size_t)length, MSG_NOSIGNAL) != length)
        die("publish");
    do {
        ssize_t more = recv(fd, text + got, sizeof text - 1 - got, 0);
        if (more <= 0)
            die("publish: no answer");
        got += (size_t)more;
        text[got] = 0;
    } while (text[got - 1] != '}');
    count = strstr(text, "\"waiters\":");
    if (strncmp(text, "HTTP/1.1 200 ", 13) != 0 || count == NULL)
        fail("publish %u: %s", n, text);
    else
        woken += strtoul(count + 10, NULL, 10);
}

static int all_had(unsigned n)
{
    return deliveries >= (unsigned long)n * polls;
}

static void open_all(void)
{
    struct epoll_event event;
    unsigned i;

    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    for (i = 0; i < polls; i++) {
        client *c = &clients[i];

        c->number = i;
        strcpy(c->cursor, "0");
        c->fd = dial(i);
        event.data.u32 = i;
        if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) != 0)
            die("epoll_ctl");
        ask(c);
    }
}

static void check_all(void)
{
    unsigned i;

    for (i = 0; i < polls; i++)
        if (clients[i].had != publishes)
            fail("client %u had %u of %u", i, clients[i].had, publishes);
}

int main(int argc, char **argv)
{
    struct rlimit files;
    double began, until;
    unsigned n;
    int fd, at_once;

    if (argc < 6) {
        fprintf(stderr, "fanout PORT CHANNEL POLLS PUBLISHES SECONDS [free]\n");
        return 2;
    }
    port = (unsigned)atoi(argv[1]);
    channel = argv[2];
    polls = (unsigned)atoi(argv[3]);
    publishes = (unsigned)atoi(argv[4]);
    at_once = argc > 6;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    clients = (client *)calloc(polls, sizeof *clients);
    poller = epoll_create1(0);
    if (clients == NULL || poller < 0)
        die("start");
    fd = dial(polls);
    open_all();

    puts("ready");
    fflush(stdout);
    if (getchar() == EOF)
        return 1;
    began = now();
    until = began + atoi(argv[5]);
    for (n = 1; n <= publishes && now() < until; n++) {
        publish(fd, n);
        if (at_once)
            turn(0);
        else
            while (!all_had(n) && now() < until && errors == 0)
                turn(100);
    }
    while (!all_had(publishes) && now() < until && errors == 0)
        turn(100);
    while (turn(200) && now() < until)   /* nothing may come after the last */
        ;
    check_all();
    printf("{\"polls\":%u,\"publishes\":%u,\"deliveries\":%lu,\"replies\":%lu,"
           "\"timeouts\":%lu,\"woken\":%lu,\"errors\":%u,\"ms\":%.0f}\n",
           polls, publishes, deliveries, replies, timeouts, woken, errors,
           (now() - began) * 1000);
    return errors != 0;
}
