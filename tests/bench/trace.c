/* Prints the address of each function that is called while a first poll is read
   and parked, and while a message is published and sent to it. Built with
   -finstrument-functions; tests/bench/trace turns the addresses into names. */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

#include <poll.h>

#define UNTRACED __attribute__((no_instrument_function))

static int tracing;

UNTRACED void __cyg_profile_func_enter(void *function, void *caller);
UNTRACED void __cyg_profile_func_exit(void *function, void *caller);

void __cyg_profile_func_enter(void *function, void *caller)
{
    (void)caller;
    if (tracing) printf("%lx\n", (unsigned long)function);
}

void __cyg_profile_func_exit(void *function, void *caller)
{
    (void)function, (void)caller;
}

/* The real calls, which begin and end what is traced. */
static long (*real_recv)(void *ctx, int fd, void *bytes, size_t size);
static long (*real_send)(void *ctx, int fd, const lp_slice *parts, int count);

UNTRACED static long traced_recv(void *ctx, int fd, void *bytes, size_t size)
{
    long n = real_recv(ctx, fd, bytes, size);
    if (n > 0) printf("first poll\n"), tracing = 1;
    return n;
}

UNTRACED static long traced_send(void *ctx, int fd, const lp_slice *parts,
                                 int count)
{
    tracing = 0;
    return real_send(ctx, fd, parts, count);
}

UNTRACED int main(void)
{
    static const char request[] =
        "GET /api/poll/news?last_id=now&timeout=10 HTTP/1.1\r\n"
        "Host: localhost\r\nUser-Agent: a browser\r\nAccept: */*\r\n"
        "X-Client-ID: somebody\r\nCookie: a=b\r\n\r\n";
    lp_os os = lpi_real_os;
    lp_config cfg;
    lp_server *server;
    struct sockaddr_in to;
    int fd, i;
    memset(&cfg, 0, sizeof cfg);
    memset(&to, 0, sizeof to);
    real_recv = os.recv;
    real_send = os.send;
    os.recv = traced_recv;
    os.send = traced_send;
    cfg.os = &os;
    if (lp_create(&server, &cfg) != LP_OK) return 1;
    fd = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_family = AF_INET;
    to.sin_port = htons(lp_port(server));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) ||
        send(fd, request, sizeof request - 1, 0) < 0)
        return 1;
    for (i = 0; i < 100; i++) {
        lp_stats stats;
        lp_step(server, 10);
        tracing = 0;
        lp_stats_read(server, &stats);
        if (stats.waiters) break;
    }
    printf("publish\n");
    tracing = 1;
    lp_publish(server, lp_s("news"), lp_s("{\"text\":\"hello\"}"), NULL);
    lp_step(server, 0);
    lp_destroy(server);
    close(fd);
    return 0;
}
