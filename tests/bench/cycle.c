/* What one poll costs in user space, for callgrind to count: the library and
   its clients in one process, over real loopback connections.

     cycle WAITERS CHANNELS CYCLES bare|browser|proxy

   In each cycle all waiters poll and are parked, one message is published on
   each channel by lp_publish, and all waiters get it. The driver runs this
   twice under valgrind --toggle-collect=counted_step, with more and with fewer
   cycles, so that set-up cancels out.                                       */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

#include <poll.h>

#include "heads.h"

enum { WAITERS_MAX = 1000 };

static lp_server *server;
static struct {
    int fd;
    char cursor[64];
    request_head head;
} waiters[WAITERS_MAX];
static unsigned waiter_count, channel_count;

static void die(const char *what)
{
    fprintf(stderr, "cycle: %s\n", what);
    exit(1);
}

/* What is counted: functions that the compiler leaves whole. */
__attribute__((noinline)) static lp_result counted_step(void)
{
    return lp_step(server, 0);
}

__attribute__((noinline)) static lp_result counted_publish(lp_slice channel,
                                                           lp_slice json)
{
    return lp_publish(server, channel, json, NULL);
}

static void step(void)
{
    if (counted_step() != LP_OK) die("lp_step");
}

static unsigned parked(void)
{
    lp_stats stats;
    lp_stats_read(server, &stats);
    return stats.waiters;
}

static void dial(unsigned i, head_kind kind)
{
    struct sockaddr_in to;
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(lp_port(server));
    waiters[i].fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(waiters[i].fd, (struct sockaddr *)&to, sizeof to))
        die("connect");
    strcpy(waiters[i].cursor, "0");
    head_make(&waiters[i].head, kind, i, 0);
}

static void channel_name(char *name, unsigned i)
{
    sprintf(name, "c%05u", i % channel_count);
}

static void ask(unsigned i)
{
    static uint64_t asked;
    char name[16], text[2048];
    request_head *h = &waiters[i].head;
    int length;
    channel_name(name, i);
    head_renew(h, asked++);
    length = sprintf(text, "GET /api/poll/%s?last_id=%s&timeout=60 HTTP/1.1\r\n"
                           "%.*s\r\n",
                     name, waiters[i].cursor, (int)h->length, h->text);
    if (send(waiters[i].fd, text, (size_t)length, 0) != length) die("send");
}

static void publish(unsigned i, unsigned n)
{
    char name[16], text[80];
    channel_name(name, i);
    sprintf(text, "{\"n\":%u,\"pad\":\"%030d\"}", n, 0);
    if (counted_publish(lp_s(name), lp_s(text)) != LP_OK)
        die("lp_publish");
}

static int readable(int fd)
{
    struct pollfd look = {fd, POLLIN, 0};
    return poll(&look, 1, 0) > 0;
}

/* The reply must hold message n, and only that. */
static void take(unsigned i, unsigned n)
{
    char text[2048], want[32], *cursor;
    ssize_t length;
    while (!readable(waiters[i].fd)) step();
    length = recv(waiters[i].fd, text, sizeof text - 1, 0);
    if (length <= 0) die("recv");
    text[length] = 0;
    sprintf(want, "\"n\":%u,", n);
    cursor = strstr(text, "\"last_id\":\"");
    if (!cursor || !strstr(text, "\"count\":1,") || !strstr(text, want))
        die(text);
    sscanf(cursor + 11, "%63[^\"]", waiters[i].cursor);
}

static void run_cycle(unsigned n)
{
    unsigned i;
    for (i = 0; i < waiter_count; i++) ask(i);
    while (parked() < waiter_count) step();
    for (i = 0; i < channel_count; i++) publish(i, n);
    for (i = 0; i < waiter_count; i++) take(i, n);
}

int main(int argc, char **argv)
{
    lp_config cfg = {0};
    unsigned i, cycles;
    head_kind kind;

    if (argc != 5) die("WAITERS CHANNELS CYCLES HEADS");
    waiter_count = (unsigned)atoi(argv[1]);
    channel_count = (unsigned)atoi(argv[2]);
    cycles = (unsigned)atoi(argv[3]);
    kind = heads_named(argv[4]);
    if (waiter_count > WAITERS_MAX) die("too many");
    cfg.history_count = 10;
    cfg.waiters_per_client = cfg.waiters_per_address = LP_UNLIMITED;
    cfg.connections_per_address = LP_UNLIMITED;
    cfg.hosts = HEADS_HOST;
    if (kind == HEADS_PROXY) cfg.trusted_proxies = "127.0.0.1";
    if (lp_create(&server, &cfg) != LP_OK) die("lp_create");
    for (i = 0; i < waiter_count; i++) dial(i, kind);
    for (i = 1; i <= cycles; i++) run_cycle(i);
    lp_destroy(server);
    return 0;
}
