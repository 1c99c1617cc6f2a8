/* How many lp_publish calls a second one thread makes while another runs the
   server, with nobody waiting.

     publish CALLS BODY                                                      */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

static lp_server *server;

static void *serve(void *ctx)
{
    (void)ctx;
    lp_run(server);
    return NULL;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double publish(unsigned calls, lp_slice json)
{
    lp_published out;
    double began = now();
    unsigned i;
    for (i = 0; i < calls; i++)
        if (lp_publish(server, lp_s("news"), json, &out) != LP_OK) exit(1);
    return now() - began;
}

int main(int argc, char **argv)
{
    unsigned calls = argc > 1 ? (unsigned)atoi(argv[1]) : 1000000;
    unsigned body = argc > 2 ? (unsigned)atoi(argv[2]) : 64;
    char *text = malloc(body + 1);
    lp_stats stats;
    pthread_t thread;
    double seconds;

    if (!text || body < 16 || lp_create(&server, NULL) != LP_OK) return 1;
    memset(text, 'x', body);
    memcpy(text, "{\"pad\":\"", 8);
    memcpy(text + body - 2, "\"}", 3);
    pthread_create(&thread, NULL, serve, NULL);
    publish(2000, lp_s(text)); /* until the history is full */
    seconds = publish(calls, lp_s(text));
    lp_stats_read(server, &stats);
    lp_stop(server);
    pthread_join(thread, NULL);
    lp_destroy(server);
    printf("{\"valid\":%s,\"calls\":%u,\"seconds\":%.6f,\"per_second\":%.0f}\n",
           stats.published == calls + 2000 ? "true" : "false", calls, seconds,
           calls / seconds);
    return 0;
}
