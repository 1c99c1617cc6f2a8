/* The load of the bench: clients that poll, publishers, and a watch on what
   the server spends. One thread, one epoll.

     load --dialect ours|nchan|floor --port PORT --pid PID [options]

       --channels N     waiters are dealt out over c00000, c00001...       [1]
       --first N        the number of the first channel                    [0]
       --publishers N   connections that publish; divides the channels     [1]
       --publish-ports A,B,...   they are dealt out over these         [--port]
       --body BYTES     size of a message                                 [64]
       --timeout S      of a poll                                         [60]
       --transport T    how clients are told: long (polls), short (polls, by
                        rate alone), stream (server-sent events), or websocket,
                        which nchan has                                 [long]
       --every MS       between the short polls of a client             [1000]
       --network N      clients come from 127.N.0.0/16                     [1]
       --heads KIND     bare, browser or proxy: see heads.h             [bare]
       --gate 0|1       see below                                          [1]
       --alone 0|1      0: other loads keep the server from coming to rest [1]

   Commands come on stdin, a line each, and each is answered by one line of
   JSON on stdout:

     park N             open waiters until there are N, each parked
     fanout S           publish on the first channel; when all have got it they
                        ask again, and one more is published; for S seconds
     pairs S            each publisher goes round its channels
     publish S          the same with nobody waiting
     flood S            each publisher publishes again once it is answered
     rate S HZ          HZ messages a second, by the clock, over all channels:
                        delays count from when a message was due to be sent;
                        without waiters only those of the publishers' replies.
                        Short polls go on until all have all
     catchup S N        publish N messages once; then all clients read them all
                        from the start, over and over
     churn S N          N at once: connect, poll, get the one message, close
     idle S             do nothing, and look at what the server does

   Every message is checked: a client gets 1, 2, 3... of its channel, each
   once. A run in which it does not is not valid, and says so.

   The server's time is read when it sleeps, before and after, from the
   scheduler's own counters, so that it is exact however slow this client is.

   In fanout, pairs and publish the server is stopped (SIGSTOP) while this
   client sends. So each server finds the same requests in its queues each time
   and sleeps once for all of them: else a faster one would sleep more often,
   pay for that, and look dearer for being faster. With --gate 0 it is not. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "heads.h"

static const uint64_t MS = 1000000; /* in ns */

enum {
    PER_ADDRESS = 500,    /* connections from one address                    */
    EVENTS = 512,
    CURSOR = 128,
    REQUEST = 2048,       /* without a body                                  */
    RECEIVE = 1 << 18,
    CLIENTS_MAX = 20000,
    PUBLISHERS_MAX = 1024,
    PORTS_MAX = 16,
    RING = 64,            /* messages of a channel that may be on their way  */
    DRAIN_S = 30          /* after a command: what is not there then is lost */
};

typedef enum dialect { OURS, NCHAN, FLOOR } dialect;
typedef enum mode {
    IDLE, PARK, FANOUT, PAIRS, PUBLISH, FLOOD, RATE, CATCHUP, CHURN
} mode;
typedef enum transport { LONG, SHORT, STREAM, SOCKET } transport;

typedef struct client {
    int fd;
    unsigned number, channel;
    unsigned had;         /* messages received: the next has this + 1        */
    uint8_t asked;        /* and has no answer yet                           */
    uint8_t open;         /* its stream has begun: events or frames come     */
    uint8_t cursor_length;
    char cursor[CURSOR];  /* as it goes into the request                     */
    request_head fields;
    char *bytes;          /* of an answer that is not complete yet           */
    size_t length;
} client;

typedef struct publisher {
    int fd;
    int busy;             /* awaits a reply                                  */
    unsigned channel;     /* published on last                               */
    unsigned next;        /* of its own sequence, whatever the mode          */
    request_head fields;
    char bytes[1024];
    size_t length;
} publisher;

typedef struct channel {
    unsigned published, acknowledged;
    unsigned delivered;   /* counts clients and messages                     */
    uint64_t due[RING];   /* when each message was to be sent                */
} channel;

typedef struct usage {
    uint64_t cpu_ns, voluntary, involuntary;
} usage;

typedef struct tally {    /* of delays                                       */
    uint64_t *samples;    /* in ns                                           */
    size_t count, capacity;
} tally;

static struct {
    dialect dialect;
    unsigned port, channels, first, publishers, body, timeout, network, gate;
    unsigned alone, every;
    transport transport;
    head_kind heads;
    int pid;
    unsigned publish_ports[PORTS_MAX], publish_port_count;
} option = {OURS, 0, 1, 0, 1, 64, 60, 1, 1, 1, 1000, LONG,
            HEADS_BARE, 0, {0}, 0};

static client clients[CLIENTS_MAX];
static publisher publishers[PUBLISHERS_MAX];
static channel *channels;
static unsigned client_count;
static client *owing[CLIENTS_MAX];
static unsigned owing_count;
static int poller;

static mode doing;
static uint64_t began, until;      /* of the running command                 */
static uint64_t give_up;           /* when it has failed, if it still runs   */
static double rate_hz;
static unsigned held;              /* messages that a client catches up with */
static unsigned reading;           /* clients that do                        */

static tally delays;               /* of messages                            */
static tally receipts;             /* of publishers' replies                 */
static uint64_t requests, bytes_out, bytes_in, deliveries; /* of clients     */
static uint64_t short_polls;       /* that have been due                     */
static uint64_t rounds, published, replies, woken, poll_bytes, publish_bytes;
static uint64_t connections, cycles;
static uint64_t requests_made;     /* by this process                        */
static size_t request_min, request_max;
static unsigned errors;
static char first_error[200];

/* ---- ground -------------------------------------------------------------- */

static void fail(const char *format, ...)
{
    va_list args;
    if (errors++) return;
    va_start(args, format);
    vsnprintf(first_error, sizeof first_error, format, args);
    va_end(args);
    fprintf(stderr, "load: %s\n", first_error);
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static unsigned number_at(const char *p, const char *end)
{
    unsigned n = 0;
    for (; p < end && *p >= '0' && *p <= '9'; p++)
        n = n * 10 + (unsigned)(*p - '0');
    return n;
}

/* What stands behind `what`; NULL if it is not there. */
static const char *behind(const char *p, const char *end, const char *what)
{
    size_t length = strlen(what);
    p = p && p < end ? memmem(p, (size_t)(end - p), what, length) : NULL;
    return p ? p + length : NULL;
}

/* ---- what the server spends ---------------------------------------------- */

static int read_file(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    size_t n = file ? fread(text, 1, size - 1, file) : 0;
    if (file) fclose(file);
    text[n] = 0;
    return n > 0;
}

static uint64_t field_of(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* Adds what one thread has used; gives whether it sleeps. */
static int add_task(usage *to, const char *task)
{
    char path[320], text[4096];
    const char *state;

    snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", option.pid, task);
    if (!read_file(path, text, sizeof text)) return 1;
    to->cpu_ns += strtoull(text, NULL, 10);
    snprintf(path, sizeof path, "/proc/%d/task/%s/status", option.pid, task);
    if (!read_file(path, text, sizeof text)) return 1;
    to->voluntary += field_of(text, "\nvoluntary_ctxt_switches:");
    to->involuntary += field_of(text, "\nnonvoluntary_ctxt_switches:");
    state = strstr(text, "\nState:");
    return !state || state[strcspn(state + 7, "RSDTZI") + 7] == 'S';
}

static int usage_read(usage *out)
{
    char path[64];
    DIR *dir;
    struct dirent *entry;
    int asleep = 1;

    memset(out, 0, sizeof *out);
    snprintf(path, sizeof path, "/proc/%d/task", option.pid);
    dir = opendir(path);
    if (!dir) die("the server is gone");
    while ((entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.' && !add_task(out, entry->d_name))
            asleep = 0;
    closedir(dir);
    return asleep;
}

/* The counters once the server has nothing left to do. */
static usage settle(void)
{
    usage last, now;
    unsigned quiet = 0, turns = 0;

    usage_read(&last);
    while (quiet < 2 && ++turns < 2000) {
        int asleep;
        sleep_ms(4);
        asleep = usage_read(&now);
        /* Node and its kind never sleep for good: a little is let pass. */
        quiet = asleep && now.cpu_ns - last.cpu_ns < 100000 ? quiet + 1 : 0;
        last = now;
    }
    if (turns == 2000) fail("the server does not come to rest");
    return last;
}

static usage usage_now(void)
{
    usage now;
    usage_read(&now);
    return now;
}

/* User space, shared pages in proportion. */
static uint64_t pss_bytes(void)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", option.pid);
    if (!read_file(path, text, sizeof text)) die(path);
    return field_of(text, "\nPss:") * 1024;
}

/* ---- connections --------------------------------------------------------- */

/* From 127.N.0.2, .3 and so on: some hundreds of each. */
static int dial(unsigned number, unsigned port)
{
    struct sockaddr_in from, to;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0) die("socket");
    memset(&from, 0, sizeof from);
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = htonl(0x7f000002u + (option.network << 16) +
                                 number / PER_ADDRESS);
    to = from;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)port);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    return fd;
}

/* The tag's top bit tells publishers from clients. */
static const uint32_t tag_publisher = 1u << 31;

static void watch(int fd, uint32_t tag)
{
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.u32 = tag;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

/* ---- asking -------------------------------------------------------------- */

static void cursor_reset(client *c)
{
    c->had = 0;
    c->cursor_length = option.dialect == NCHAN ? 0 : 1;
    c->cursor[0] = '0';
}

static void put(char **to, const char *text, size_t length)
{
    memcpy(*to, text, length);
    *to += length;
}

static void put_text(char **to, const char *text)
{
    put(to, text, strlen(text));
}

/* "c00012": as long for each, so that requests are. */
static void put_name(char **to, unsigned number)
{
    int i;
    *(*to)++ = 'c';
    for (i = 4; i >= 0; i--, number /= 10)
        (*to)[i] = (char)('0' + number % 10);
    *to += 5;
}

/* Loads that ask the same server have numbers far from each other. */
static void put_head(char **to, request_head *h)
{
    head_renew(h, ((uint64_t)option.network << 21) + requests_made++);
    put(to, h->text, h->length);
}

static const char *path(void)
{
    static const char *const of_nchan[] = {"/sub?id=", "/short?id=",
                                           "/stream?id=", "/socket?id="};
    if (option.dialect == NCHAN) return of_nchan[option.transport];
    return option.transport == STREAM ? "/api/stream/" : "/api/poll/";
}

/* The line, the connection's fields, and what nchan has for a cursor. */
static size_t write_poll(client *c, char *text)
{
    int nchan = option.dialect == NCHAN;
    char *to = text;

    put_text(&to, "GET ");
    put_text(&to, path());
    put_name(&to, option.first + c->channel);
    if (!nchan) {
        put_text(&to, "?last_id=");
        put(&to, c->cursor, c->cursor_length);
    }
    if (!nchan && option.transport != STREAM)
        to += sprintf(to, "&timeout=%u",
                      option.transport == SHORT ? 0 : option.timeout);
    put_text(&to, " HTTP/1.1\r\n");
    put_head(&to, &c->fields);
    if (nchan) put(&to, c->cursor, c->cursor_length);
    put_text(&to, "\r\n");
    return (size_t)(to - text);
}

static void ask(client *c)
{
    char text[REQUEST];
    size_t length = write_poll(c, text);

    if (length < request_min || !request_min) request_min = length;
    if (length > request_max) request_max = length;
    c->asked = 1;
    requests++;
    bytes_out += length;
    if (send(c->fd, text, length, MSG_NOSIGNAL) != (ssize_t)length)
        fail("client %u: cannot send: %s", c->number, strerror(errno));
}

/* Most ask again once what has come for the others has been read. */
static void ask_later(client *c)
{
    owing[owing_count++] = c;
}

static void ask_owed(void)
{
    unsigned i;
    for (i = 0; i < owing_count; i++)
        if (!owing[i]->asked) ask(owing[i]);
    owing_count = 0;
}

/* A message is {"n":SEQ,"pad":"xxx"}, `body` bytes in all. */
static void publish_to(publisher *p, unsigned number, uint64_t due)
{
    static char text[1 << 17];
    channel *ch = &channels[number];
    char *to = text, *body;

    if (p->busy) fail("a publisher is asked for two at once");
    ch->due[++ch->published % RING] = due;
    put_text(&to, option.dialect == NCHAN ? "POST /pub?id="
                                            : "POST /api/publish/");
    put_name(&to, option.first + number);
    put_text(&to, " HTTP/1.1\r\n");
    put_head(&to, &p->fields);
    put_text(&to, "\r\n");
    body = to;
    to += sprintf(to, "{\"n\":%u,\"pad\":\"", ch->published);
    memset(to, 'x', option.body);
    to = body + option.body;
    memcpy(to - 2, "\"}", 2);
    p->busy = 1;
    p->channel = number;
    published++;
    if (send(p->fd, text, (size_t)(to - text), MSG_NOSIGNAL) != to - text)
        fail("cannot publish: %s", strerror(errno));
}

/* ---- what must be true of an answer -------------------------------------- */

static void sample(tally *t, uint64_t ns)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity * 2 + 4096;
        t->samples = realloc(t->samples, t->capacity * sizeof *t->samples);
        if (!t->samples) die("memory");
    }
    t->samples[t->count++] = ns;
}

/* The message that a client got must be the one that comes next. */
static void take_message(client *c, unsigned n)
{
    channel *ch = &channels[c->channel];

    if (n != c->had + 1)
        fail("client %u had %u and got %u", c->number, c->had, n);
    c->had = n;
    deliveries++;
    ch->delivered++;
    if (doing != RATE) return;
    if (ch->published >= n + RING) fail("the server is %d behind", RING);
    sample(&delays, now_ns() - ch->due[n % RING]);
}

static void take_ours(client *c, const char *body, const char *end)
{
    const char *cursor = behind(body, end, "\"last_id\":\"");
    const char *quote = cursor ? memchr(cursor, '"', (size_t)(end - cursor))
                               : NULL;
    const char *at = behind(quote, end, "\"count\":");
    unsigned count, i;

    if (!at || quote - cursor >= CURSOR) {
        fail("client %u: %.100s", c->number, body);
        return;
    }
    c->cursor_length = (uint8_t)(quote - cursor);
    memcpy(c->cursor, cursor, c->cursor_length);
    count = number_at(at, end);
    for (i = 0; i < count; i++) {
        at = behind(at, end, "\"n\":");
        if (!at) break;
        take_message(c, number_at(at, end));
    }
    if (i < count || (!count && option.transport == LONG) || end[-2] != ']')
        fail("client %u: %u messages, and got %u", c->number, count, i);
    cursor = memchr(c->cursor, '-', c->cursor_length);
    if (count && (!cursor || number_at(cursor + 1, c->cursor + c->cursor_length)
                  != c->had))
        fail("client %u: the cursor is not that of %u", c->number, c->had);
}

/* The cursor is two fields of the head, sent back under two others. */
static void take_nchan(client *c, const char *head, const char *body,
                       const char *end)
{
    const char *time = behind(head, body, "\r\nLast-Modified: ");
    const char *etag = behind(head, body, "\r\nEtag: ");
    const char *n = behind(body, end, "{\"n\":");
    size_t time_length = time ? strcspn(time, "\r") : 0;
    size_t etag_length = etag ? strcspn(etag, "\r") : 0;
    char *to = c->cursor;

    if (!time_length || !etag_length || time_length + etag_length > 80) {
        fail("client %u: no cursor: %.100s", c->number, head);
        return;
    }
    put_text(&to, "If-Modified-Since: ");
    put(&to, time, time_length);
    put_text(&to, "\r\nIf-None-Match: ");
    put(&to, etag, etag_length);
    put_text(&to, "\r\n");
    c->cursor_length = (uint8_t)(to - c->cursor);
    take_message(c, n ? number_at(n, end) : 0);
}

/* A cursor as long as ours, so that requests are. */
static void take_floor(client *c, const char *body)
{
    unsigned n = number_at(body, body + 10);
    c->cursor_length = (uint8_t)sprintf(c->cursor, "0123456789abcdef-%u", n);
    take_message(c, n);
}

static void after_reply(client *c);

/* nchan has nothing for a short poll: the cursor stays as it is. */
static int is_nothing_new(const char *head)
{
    return option.dialect == NCHAN && option.transport == SHORT &&
           !memcmp(head, "HTTP/1.1 304", 12);
}

static void take_answer(client *c, const char *head, const char *body,
                        const char *end)
{
    const char *good = option.transport == SOCKET ? "HTTP/1.1 101"
                                                  : "HTTP/1.1 200";
    c->asked = 0;
    c->open = option.transport >= STREAM;
    if (is_nothing_new(head)) return;
    if (memcmp(head, good, 12)) {
        fail("client %u: %.300s", c->number, head);
        return;
    }
    if (c->open) return;
    replies++;
    poll_bytes += (uint64_t)(end - head);
    if (option.dialect == OURS) take_ours(c, body, end);
    else if (option.dialect == NCHAN) take_nchan(c, head, body, end);
    else take_floor(c, body);
    if (!errors) after_reply(c);
}

/* Find one answer at the front; 0 if it is not complete. */
static size_t answer_length(const char *bytes, size_t length, size_t *head)
{
    const char *end = bytes + length;
    const char *body = behind(bytes, end, "\r\n\r\n");
    const char *size = behind(bytes, body, "\r\nContent-Length: ");
    size_t whole;

    if (!body) return 0;
    *head = (size_t)(body - bytes);
    whole = *head + (size ? number_at(size, body) : 0);
    return whole <= length ? whole : 0;
}

/* An event or a frame, with the message in it. */
static void take_pushed(client *c, const char *front, const char *message,
                        const char *end)
{
    const char *n = behind(message, end, "\"n\":");
    replies++;
    poll_bytes += (uint64_t)(end - front);
    take_message(c, n ? number_at(n, end) : 0);
}

/* Up to an empty line. If the stream is cut in chunks, their heads are between
   the events; what has no data says nothing. */
static size_t take_event(client *c, const char *bytes, size_t length)
{
    const char *end = behind(bytes, bytes + length, "\n\n");
    const char *data = behind(bytes, end, "data: ");
    if (data) take_pushed(c, bytes, data, end);
    return end ? (size_t)(end - bytes) : 0;
}

/* RFC 6455, 5.2: a whole text, its length in seven bits or in sixteen. */
static size_t take_frame(client *c, const char *bytes, size_t length)
{
    const unsigned char *head = (const unsigned char *)bytes;
    size_t size, at = 2;
    if (length < 4) return 0;
    size = head[1];
    if (size == 126) {
        size = (size_t)head[2] << 8 | head[3];
        at = 4;
    }
    if (length < at + size) return 0;
    if (head[0] != 0x81 || head[1] > 126)
        fail("client %u: a frame of another kind", c->number);
    take_pushed(c, bytes, bytes + at, bytes + at + size);
    return at + size;
}

/* What is in front, if it is complete. Gives its length, or 0. */
static size_t take_front(client *c, const char *bytes, size_t length)
{
    size_t head, whole;
    if (c->open && option.transport == STREAM)
        return take_event(c, bytes, length);
    if (c->open) return take_frame(c, bytes, length);
    whole = answer_length(bytes, length, &head);
    if (whole) take_answer(c, bytes, bytes + head, bytes + whole);
    return whole;
}

static char arrived[RECEIVE];

/* Gives the bytes that have come, behind those kept; NULL for none. */
static char *receive(int fd, char *kept, size_t kept_length, size_t *length)
{
    ssize_t n;
    if (kept_length) memcpy(arrived, kept, kept_length);
    n = recv(fd, arrived + kept_length, sizeof arrived - 1 - kept_length,
             MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return NULL;
    if (n <= 0) {
        fail("the server closed a connection: %s", n ? strerror(errno) : "end");
        epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL);
        return NULL;
    }
    *length = kept_length + (size_t)n;
    arrived[*length] = 0;
    return arrived;
}

static void client_readable(client *c)
{
    size_t length, whole, at = 0;
    int fd = c->fd;
    char *bytes = receive(fd, c->bytes, c->length, &length);

    if (!bytes) return;
    bytes_in += length - c->length;
    while (at < length && c->fd == fd &&
           (whole = take_front(c, bytes + at, length - at)) != 0)
        at += whole;
    c->length = c->fd == fd ? length - at : 0;
    if (!c->length) return;
    c->bytes = realloc(c->bytes, RECEIVE);
    if (!c->bytes) die("memory");
    memcpy(c->bytes, bytes + at, c->length);
}

static void after_publish(publisher *p);

static void take_receipt(publisher *p, const char *head, const char *body,
                         const char *end)
{
    channel *ch = &channels[p->channel];
    const char *id, *waiters;
    unsigned seq = ++ch->acknowledged;
    uint64_t due = ch->due[seq % RING];

    if (due) sample(&receipts, now_ns() - due);
    publish_bytes += (uint64_t)(end - head);
    if (memcmp(head, "HTTP/1.1 20", 11))
        fail("publish: %.200s", head);
    if (option.dialect == OURS) {
        id = behind(body, end, "\"message_id\":\"");
        id = behind(id, end, "-");
        waiters = behind(body, end, "\"waiters\":");
        if (!id || !waiters || number_at(id, end) != seq)
            fail("publish: %u, not %u", id ? number_at(id, end) : 0, seq);
        woken += waiters ? number_at(waiters, end) : 0;
    } else if (option.dialect == FLOOR && number_at(body, body + 10) != seq)
        fail("publish: %u, not %u", number_at(body, body + 10), seq);
    p->busy = 0;
    if (!errors) after_publish(p);
}

static void publisher_readable(publisher *p)
{
    size_t length, head, whole;
    char *bytes = receive(p->fd, p->bytes, p->length, &length);

    if (!bytes) return;
    whole = answer_length(bytes, length, &head);
    if (whole) {
        p->length = 0;
        take_receipt(p, bytes, bytes + head, bytes + whole);
        return;
    }
    if (length > sizeof p->bytes) die("a publisher's reply is too long");
    memcpy(p->bytes, bytes, length);
    p->length = length;
}

/* One turn of the loop. */
static void turn(uint64_t wait_ns)
{
    struct timespec wait = {(time_t)(wait_ns / 1000000000u),
                            (long)(wait_ns % 1000000000u)};
    struct epoll_event events[EVENTS];
    int i, n;

    if (doing == RATE && owing_count) wait.tv_nsec = wait.tv_sec = 0;
    n = epoll_pwait2(poller, events, EVENTS, &wait, NULL);

    for (i = 0; i < n; i++) {
        uint32_t tag = events[i].data.u32;
        if (tag & tag_publisher)
            publisher_readable(&publishers[tag & ~tag_publisher]);
        else client_readable(&clients[tag]);
    }
    if (!n && doing == RATE) ask_owed();
    if (now_ns() > give_up) fail("%llu replies, and no more come",
                                 (unsigned long long)replies);
}

/* ---- what each command does when a reply has come ------------------------ */

static int is_over(void)
{
    return errors || now_ns() >= until;
}

/* Each connection is another browser's. */
static void churn_connect(client *c)
{
    unsigned nth = (unsigned)connections++;
    c->fd = dial(c->number + 1000 * (nth % 100), option.port);
    head_make(&c->fields, option.heads, nth, 0);
    cursor_reset(c);
    watch(c->fd, c->number);
    ask(c);
}

static void churn_close(client *c)
{
    close(c->fd);
    c->fd = -1;
}

/* Who polls short waits for its time, unless there may be more: nchan has one
   message in a reply. */
static void after_reply(client *c)
{
    if (option.transport == SHORT) {
        if (option.dialect == NCHAN) ask_later(c);
        return;
    }
    switch (doing) {
    case CATCHUP:
        if (c->had < held) ask(c);
        else {
            cycles++;
            cursor_reset(c);
            if (is_over()) reading--;
            else ask(c);
        }
        break;
    case CHURN:
        churn_close(c);
        if (!is_over()) churn_connect(c);
        break;
    default: ask_later(c);
    }
}

static void rate_next(publisher *p);

/* Each publisher goes round its channels: every one that all have in turn. */
static void publish_next(publisher *p, uint64_t due)
{
    unsigned own = option.channels / option.publishers;
    unsigned nth = p->next++ % own;
    publish_to(p, (unsigned)(p - publishers) + nth * option.publishers, due);
}

static void after_publish(publisher *p)
{
    if (doing == RATE) rate_next(p);
    if (doing == FLOOD && !is_over()) publish_next(p, now_ns());
}

/* ---- commands ------------------------------------------------------------ */

static void counters_clear(void)
{
    requests = bytes_out = bytes_in = deliveries = 0;
    rounds = published = replies = woken = poll_bytes = publish_bytes = 0;
    connections = cycles = 0;
    delays.count = receipts.count = 0;
    request_min = request_max = 0;
}

static int publishers_busy(void)
{
    unsigned i, busy = 0;
    for (i = 0; i < option.publishers; i++) busy += publishers[i].busy != 0;
    return busy != 0;
}

/* Until each client has its answer; not for long polls. */
static void await_answers(void)
{
    unsigned i;
    if (option.transport == LONG) return;
    for (i = 0; i < client_count; i++)
        while (clients[i].asked && !errors) turn(100 * MS);
}

/* Wait until `count` deliveries have been made and all publishers answered.
   Not asleep, since to wake this client would be the server's work. */
static void await(uint64_t count)
{
    while (!errors && (deliveries < count || publishers_busy()))
        turn(option.gate ? 0 : 100 * MS);
    if (deliveries > count && doing != CATCHUP && doing != CHURN)
        fail("%llu deliveries too many",
             (unsigned long long)(deliveries - count));
}

/* Once the server sleeps of itself: else a slower one, caught awake, would be
   spared that sleep. */
static void gate_close(void)
{
    usage ignored;
    unsigned tries = 0;
    if (!option.gate) return;
    while (!usage_read(&ignored) && ++tries < 100) continue;
    kill(option.pid, SIGSTOP);
}

static void gate_open(void)
{
    if (option.gate) kill(option.pid, SIGCONT);
}

/* All who had a reply ask again; then `count` publishers publish. */
static void burst(unsigned count)
{
    unsigned i;
    gate_close();
    ask_owed();
    for (i = 0; i < count; i++) publish_next(&publishers[i], 0);
    gate_open();
}

static void run_round(void)
{
    uint64_t per_publish = doing == FANOUT ? client_count : doing == PAIRS;
    rounds++;
    burst(doing == FANOUT ? 1 : option.publishers);
    await(published * per_publish);
}

static void run_rounds(double seconds)
{
    until = now_ns() + (uint64_t)(seconds * 1e9);
    do run_round();
    while (!is_over());
    burst(0);
}

/* The publishers themselves keep it going. */
static void run_flood(double seconds)
{
    unsigned i;
    until = now_ns() + (uint64_t)(seconds * 1e9);
    for (i = 0; i < option.publishers; i++)
        publish_next(&publishers[i], now_ns());
    await(0);
}

/* The k-th message is due k / rate after the start, and belongs to a channel
   and so to a publisher; if that is still busy the message is late, and its
   delay says so. */
static uint64_t rate_due(const publisher *p)
{
    uint64_t k = (uint64_t)(p - publishers) +
                 (uint64_t)p->next * option.publishers;
    return began + (uint64_t)((double)k * 1e9 / rate_hz);
}

static void rate_next(publisher *p)
{
    uint64_t due = rate_due(p);
    unsigned number = (unsigned)(p - publishers) +
                      p->next * option.publishers;

    if (p->busy || due > now_ns() || due >= until || errors) return;
    p->next++;
    publish_to(p, number % option.channels, due);
}

static int rate_over(void)
{
    unsigned i;
    for (i = 0; i < option.publishers; i++)
        if (rate_due(&publishers[i]) < until) return 0;
    return 1;
}

/* Those whose time has come: the clients' are spread evenly. Who still waits
   for an answer leaves one out. */
static void rate_ask(void)
{
    uint64_t gap = option.every * MS / client_count;
    while (began + short_polls * gap <= now_ns()) {
        client *c = &clients[short_polls++ % client_count];
        if (!c->asked) ask(c);
    }
}

/* Until the next message is due, or for a while if it waits for a reply. */
static uint64_t rate_wait(void)
{
    uint64_t now = now_ns();
    uint64_t wait = option.transport == SHORT ? MS / 4 : 10 * MS;
    unsigned i;
    for (i = 0; i < option.publishers; i++) {
        uint64_t due = rate_due(&publishers[i]);
        if (publishers[i].busy) continue;
        if (due <= now) return 0;
        if (due - now < wait) wait = due - now;
    }
    return wait;
}

static void run_rate(double seconds)
{
    unsigned i, per_channel = client_count / option.channels;
    for (i = 0; i < option.publishers; i++) publishers[i].next = 0;
    began = now_ns() + 10 * MS;
    until = began + (uint64_t)(seconds * 1e9);
    short_polls = 0;
    while (!errors && (!rate_over() || now_ns() < until ||
                       deliveries < published * per_channel)) {
        for (i = 0; i < option.publishers; i++) rate_next(&publishers[i]);
        if (option.transport == SHORT && client_count) rate_ask();
        turn(rate_wait());
    }
    await(published * per_channel);
    turn(10 * MS); /* what comes twice comes now */
    ask_owed();
    await_answers();
}

static void run_catchup(double seconds)
{
    unsigned i;
    until = now_ns() + (uint64_t)(seconds * 1e9);
    reading = client_count;
    for (i = 0; i < client_count; i++) {
        cursor_reset(&clients[i]);
        ask(&clients[i]);
    }
    while (!errors && reading) turn(100 * MS);
}

static void run_churn(double seconds, unsigned count)
{
    unsigned i;
    until = now_ns() + (uint64_t)(seconds * 1e9);
    for (i = 0; i < count; i++) {
        clients[i].number = i;
        churn_connect(&clients[i]);
    }
    while (!is_over()) turn(100 * MS);
    await(connections);
}

/* ---- clients come -------------------------------------------------------- */

/* One more field, in place of what the head has under that name. */
static void head_set(request_head *h, const char *name, const char *value)
{
    char *line = h->text, *end = h->text + h->length, *next;
    size_t length = strlen(name);
    for (; line < end; line = next) {
        next = (char *)memchr(line, '\n', (size_t)(end - line)) + 1;
        if (strncasecmp(line, name, length) || line[length] != ':') continue;
        memmove(line, next, (size_t)(end - next));
        h->length -= (size_t)(next - line);
        break;
    }
    head_put_text(h, name);
    head_put_text(h, ": ");
    head_put_text(h, value);
    head_put_text(h, "\r\n");
}

/* What browsers send with such requests. */
static void make_fields(client *c)
{
    request_head *h = &c->fields;
    head_make(h, option.heads, option.first + c->number, 0);
    if (option.transport == STREAM) head_set(h, "Accept", "text/event-stream");
    if (option.transport != SOCKET) return;
    head_set(h, "Connection", "Upgrade");
    head_set(h, "Upgrade", "websocket");
    head_set(h, "Sec-WebSocket-Version", "13");
    head_set(h, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
}

static void open_client(void)
{
    client *c = &clients[client_count];
    c->number = client_count;
    c->channel = client_count++ % option.channels;
    c->fd = dial(c->number, option.port);
    make_fields(c);
    cursor_reset(c);
    watch(c->fd, c->number);
}

/* Never more at once than the listener's queue has room for. */
static void run_park(unsigned count)
{
    while (client_count < count) {
        open_client();
        ask(&clients[client_count - 1]);
        if (client_count % 1000) continue;
        await_answers();
        settle();
    }
    await_answers();
}

/* Clients that have not asked yet. */
static void open_clients(unsigned count)
{
    while (client_count < count) open_client();
}

static void publish_some(unsigned count)
{
    while (channels[0].published < count && !errors) {
        publish_to(&publishers[0], 0, 0);
        while (publishers[0].busy && !errors) turn(100 * MS);
    }
}

/* ---- the answer to a command --------------------------------------------- */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print_delays(const char *name, tally *t)
{
    static const double parts[] = {0,    0.25, 0.5,   0.75,  0.9, 0.95,
                                   0.99, 0.995, 0.999, 0.9999, 1};
    double sum = 0;
    size_t i;

    if (!t->count) return;
    qsort(t->samples, t->count, sizeof *t->samples, compare);
    for (i = 0; i < t->count; i++) sum += (double)t->samples[i];
    printf(",\"%s\":{\"count\":%zu,\"mean\":%.1f", name, t->count,
           sum / (double)t->count / 1e3);
    for (i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t at = (size_t)(parts[i] * (double)(t->count - 1) + 0.5);
        printf(",\"%g\":%.1f", parts[i] * 100, (double)t->samples[at] / 1e3);
    }
    printf("}");
}

static double per(uint64_t sum, uint64_t count)
{
    return count ? (double)sum / (double)count : 0;
}

static void print_count(const char *name, uint64_t count)
{
    printf(",\"%s\":%llu", name, (unsigned long long)count);
}

static void print_result(const char *command, double seconds, usage before,
                         usage after)
{
    const char *p;
    printf("{\"command\":\"%s\",\"valid\":%s,\"error\":\"", command,
           errors ? "false" : "true");
    for (p = first_error; *p; p++)
        putchar(*p < ' ' || *p == '"' || *p == '\\' ? ' ' : *p);
    printf("\",\"seconds\":%.6f", seconds);
    print_count("cpu_ns", after.cpu_ns - before.cpu_ns);
    print_count("voluntary", after.voluntary - before.voluntary);
    print_count("involuntary", after.involuntary - before.involuntary);
    print_count("pss_bytes", pss_bytes());
    print_count("waiters", client_count);
    print_count("requests", requests);
    print_count("bytes_out", bytes_out);
    print_count("bytes_in", bytes_in);
    print_count("deliveries", deliveries);
    print_count("published", published);
    print_count("replies", replies);
    print_count("woken", woken);
    print_count("rounds", rounds);
    print_count("cycles", cycles);
    print_count("connections", connections);
    print_count("request_bytes_min", request_min);
    print_count("request_bytes_max", request_max);
    printf(",\"poll_reply_bytes\":%.2f,\"publish_reply_bytes\":%.2f",
           per(poll_bytes, replies), per(publish_bytes, published));
    print_delays("delay_us", &delays);
    print_delays("publish_delay_us", &receipts);
    printf("}\n");
    fflush(stdout);
}

/* What a command needs before the clock runs. One round warms up. */
static void prepare(double b)
{
    if (doing == FANOUT || doing == PAIRS || doing == PUBLISH) run_rounds(0);
    if (doing == CATCHUP && !client_count) {
        held = (unsigned)b;
        publish_some(held);
        open_clients(16);
    }
    if (doing == CHURN) publish_some(1);
    if (doing == RATE) rate_hz = b;
}

static void perform(double a, double b)
{
    switch (doing) {
    case IDLE: sleep_ms((unsigned)(a * 1000)); break;
    case PARK: run_park((unsigned)a); break;
    case FANOUT:
    case PAIRS:
    case PUBLISH: run_rounds(a); break;
    case FLOOD: run_flood(a); break;
    case RATE: run_rate(a); break;
    case CATCHUP: run_catchup(a); break;
    case CHURN: run_churn(a, (unsigned)b); break;
    }
}

static mode mode_named(const char *name)
{
    static const char *const names[] = {"idle", "park",    "fanout",
                                        "pairs", "publish", "flood",
                                        "rate", "catchup", "churn"};
    unsigned i;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return (mode)i;
    fprintf(stderr, "load: no such command: %s\n", name);
    exit(2);
}

static void obey(const char *line)
{
    char name[32] = "";
    double a = 0, b = 0, seconds;
    usage before, after;
    uint64_t start;

    sscanf(line, "%31s %lf %lf", name, &a, &b);
    doing = mode_named(name);
    give_up = now_ns() + DRAIN_S * 1000 * MS;
    if (doing != PARK) give_up += (uint64_t)(a * 1e9);
    counters_clear();
    prepare(b);
    before = option.alone ? settle() : usage_now();
    counters_clear();
    start = now_ns();
    perform(a, b);
    seconds = (double)(now_ns() - start) / 1e9;
    after = option.alone && doing != IDLE ? settle() : usage_now();
    print_result(name, seconds, before, after);
}

/* ---- start --------------------------------------------------------------- */

static void parse_ports(const char *text)
{
    while (*text && option.publish_port_count < PORTS_MAX) {
        option.publish_ports[option.publish_port_count++] = (unsigned)atoi(text);
        text += strcspn(text, ",");
        text += *text == ',';
    }
}

static transport transport_named(const char *name)
{
    static const char *const names[] = {"long", "short", "stream",
                                        "websocket"};
    unsigned i;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return (transport)i;
    fprintf(stderr, "load: no such transport: %s\n", name);
    exit(2);
}

static void parse(int argc, char **argv)
{
    struct { const char *name; unsigned *at; } numbers[] = {
        {"--port", &option.port}, {"--channels", &option.channels},
        {"--first", &option.first},
        {"--publishers", &option.publishers}, {"--body", &option.body},
        {"--timeout", &option.timeout}, {"--network", &option.network},
        {"--gate", &option.gate}, {"--alone", &option.alone},
        {"--every", &option.every},
        {"--pid", (unsigned *)&option.pid}};
    unsigned k;
    int i;

    for (i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--dialect"))
            option.dialect = argv[i + 1][0] == 'n' ? NCHAN
                             : argv[i + 1][0] == 'f' ? FLOOR : OURS;
        if (!strcmp(argv[i], "--heads"))
            option.heads = heads_named(argv[i + 1]);
        if (!strcmp(argv[i], "--transport"))
            option.transport = transport_named(argv[i + 1]);
        if (!strcmp(argv[i], "--publish-ports")) parse_ports(argv[i + 1]);
        for (k = 0; k < sizeof numbers / sizeof *numbers; k++)
            if (!strcmp(argv[i], numbers[k].name))
                *numbers[k].at = (unsigned)atoi(argv[i + 1]);
    }
    if (!option.publish_port_count) {
        option.publish_ports[0] = option.port;
        option.publish_port_count = 1;
    }
    if (!option.port || !option.pid || !option.channels || option.body < 40 ||
        option.publishers > PUBLISHERS_MAX ||
        option.channels % option.publishers) {
        fprintf(stderr, "load --dialect D --port PORT --pid PID ...\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct rlimit files;
    char line[256];
    unsigned i;

    parse(argc, argv);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1000); /* ns: to be in time */
    channels = calloc(option.channels, sizeof *channels);
    poller = epoll_create1(0);
    if (!channels || poller < 0) die("start");
    for (i = 0; i < option.publishers; i++) {
        publishers[i].fd = dial(CLIENTS_MAX + i, option.publish_ports[
                                        i % option.publish_port_count]);
        head_make(&publishers[i].fields, option.heads,
                  option.first + CLIENTS_MAX + i, option.body);
        watch(publishers[i].fd, i | tag_publisher);
    }
    while (fgets(line, sizeof line, stdin)) obey(line);
    return errors != 0;
}
