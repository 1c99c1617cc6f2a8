/* The floor of the bench: a bare epoll loop that makes the system calls that
   no long-polling server can do without, and decides next to nothing. One recv
   per request, one send per reply, level-triggered, no epoll_ctl after the
   first. What it costs is the kernel's; what a server costs above it is the
   server's own.

     floor POLL_BYTES PUBLISH_BYTES

   Replies are exactly that many bytes long, the driver having measured those
   of the library. A reply is a head and, at the start of the body, ten digits:
   the number of the message in its channel. Requests are those of the library,
   with channels named c00000, c00001 and so on, read at fixed places; a poll
   whose client has had less than the newest message is answered at once. A
   stream is told of each message by an event of POLL_BYTES.                  */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHANNELS = 32768, FILES = 65536, EVENTS = 256, REQUEST = 65536 };
enum { DIGITS = 10, NONE = -1 };

/* Where the digits of "c00000" stand. */
enum {
    IN_POLL = sizeof "GET /api/poll/c" - 1,
    IN_STREAM = sizeof "GET /api/stream/c" - 1,
    IN_PUBLISH = sizeof "POST /api/publish/c" - 1
};

typedef struct reply {
    char *bytes;
    size_t length;
    char *number; /* the ten digits */
} reply;

typedef struct channel {
    unsigned seq;
    int waiting; /* the first descriptor, or NONE */
    int streams; /* likewise */
} channel;

static channel channels[CHANNELS];
static struct {
    unsigned had;
    int next; /* that waits for the same channel, or has a stream of it */
} files[FILES];

static int poller, listener;
static reply poll_reply, publish_reply, stream_event;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* `length` bytes, of which the first are `head`; then comes the number. */
static reply make_bytes(const char *head, size_t length)
{
    reply r;
    r.length = length;
    r.bytes = malloc(length);
    if (!r.bytes) die("memory");
    memset(r.bytes, '.', length);
    memcpy(r.bytes, head, strlen(head));
    r.number = r.bytes + strlen(head);
    return r;
}

static reply make_event(size_t length)
{
    reply r = make_bytes("data: {\"n\":", length);
    memcpy(r.bytes + length - 2, "\n\n", 2);
    return r;
}

/* A reply of `length` bytes in all. */
static reply make_reply(size_t length)
{
    static const char head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n";
    size_t body = length, at = length + 1;
    char text[128];

    if (length < sizeof text) {
        fprintf(stderr, "floor: a reply of %zu bytes is too short\n", length);
        exit(2);
    }
    while (at + body > length) /* the head's length depends on the body's */
        at = (size_t)snprintf(text, sizeof text, head, --body);
    return make_bytes(text, at + body);
}

static void put_number(reply *r, unsigned n)
{
    int i;
    for (i = DIGITS - 1; i >= 0; i--, n /= 10)
        r->number[i] = (char)('0' + n % 10);
}

static void answer(int fd, const reply *r)
{
    if (send(fd, r->bytes, r->length, MSG_NOSIGNAL) != (ssize_t)r->length)
        shutdown(fd, SHUT_RDWR);
}

static channel *channel_at(const char *digits)
{
    unsigned i, n = 0;
    for (i = 0; i < 5; i++) n = n * 10 + (unsigned)(digits[i] - '0');
    return &channels[n % CHANNELS];
}

static void poll_one(int fd, const char *request)
{
    channel *ch = channel_at(request + IN_POLL);
    if (files[fd].had == ch->seq) {
        files[fd].next = ch->waiting;
        ch->waiting = fd;
        return;
    }
    put_number(&poll_reply, ch->seq);
    files[fd].had = ch->seq;
    answer(fd, &poll_reply);
}

static void stream_one(int fd, const char *request)
{
    static char head[] = "HTTP/1.1 200 OK\r\n"
                         "Content-Type: text/event-stream\r\n\r\n";
    static const reply begin = {head, sizeof head - 1, NULL};
    channel *ch = channel_at(request + IN_STREAM);
    files[fd].next = ch->streams;
    ch->streams = fd;
    answer(fd, &begin);
}

static void publish(int fd, const char *request)
{
    channel *ch = channel_at(request + IN_PUBLISH);
    int waiter;
    ch->seq++;
    put_number(&publish_reply, ch->seq);
    answer(fd, &publish_reply);
    put_number(&poll_reply, ch->seq);
    waiter = ch->waiting;
    ch->waiting = NONE;
    for (; waiter != NONE; waiter = files[waiter].next) {
        files[waiter].had = ch->seq;
        answer(waiter, &poll_reply);
    }
    put_number(&stream_event, ch->seq);
    for (waiter = ch->streams; waiter != NONE; waiter = files[waiter].next)
        answer(waiter, &stream_event);
}

static void serve(int fd)
{
    static char request[REQUEST];
    ssize_t n = recv(fd, request, sizeof request, 0);
    if (n <= 0) close(fd); /* only when answered: load sees to it */
    else if (request[0] != 'G') publish(fd, request);
    else if (!memcmp(request, "GET /api/s", 10)) stream_one(fd, request);
    else poll_one(fd, request);
}

static void watch(int fd)
{
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static void welcome(void)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        files[fd].had = 0;
        watch(fd);
    }
}

static void begin_listening(void)
{
    struct sockaddr_in at;
    socklen_t length = sizeof at;
    int one = 1;

    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) ||
        listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&at, &length))
        die("listen");
    watch(listener);
    printf("listening on http://127.0.0.1:%u\n", ntohs(at.sin_port));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    struct rlimit limit;
    int i, n;

    if (argc != 3) {
        fprintf(stderr, "floor POLL_BYTES PUBLISH_BYTES\n");
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < FILES ? limit.rlim_max : FILES;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (i = 0; i < CHANNELS; i++)
        channels[i].waiting = channels[i].streams = NONE;
    poll_reply = make_reply((size_t)atoi(argv[1]));
    stream_event = make_event((size_t)atoi(argv[1]));
    publish_reply = make_reply((size_t)atoi(argv[2]));
    poller = epoll_create1(0);
    begin_listening();
    for (;;) {
        n = epoll_wait(poller, events, EVENTS, -1);
        for (i = 0; i < n; i++) {
            if (events[i].data.fd == listener) welcome();
            else serve(events[i].data.fd);
        }
    }
}
