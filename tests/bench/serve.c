/* The library as the bench measures it: longpoll.h with every limit lifted,
   options by the names of its fields, and GET /stats.

     serve [--loops N] [--timeout-ms-max N] ...                              */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

#include <signal.h>
#include <sys/resource.h>

static lp_server *server;

static void stop(int signal_number)
{
    (void)signal_number;
    lp_stop(server);
}

static void log_line(void *ctx, lp_log_level level, const char *line)
{
    (void)ctx;
    if (level == LP_LOG_ERROR) fprintf(stderr, "serve: %s\n", line);
}

static void put(lp_json *j, const char *name, uint64_t value)
{
    lp_json_key(j, lp_s(name));
    lp_json_uint(j, value);
}

/* A histogram as it is, so that the driver can take differences, with the
   upper bounds of its places. */
static void put_latencies(lp_json *j, const char *name,
                          const uint64_t *latencies)
{
    int i;
    lp_json_key(j, lp_s(name));
    lp_json_array(j);
    for (i = 0; i < LP_LATENCIES; i++) lp_json_uint(j, latencies[i]);
    lp_json_end(j);
}

static void put_bounds(lp_json *j)
{
    uint64_t one[LP_LATENCIES];
    int i;
    lp_json_key(j, lp_s("bounds_us"));
    lp_json_array(j);
    for (i = 0; i < LP_LATENCIES; i++) {
        memset(one, 0, sizeof one);
        one[i] = 1;
        lp_json_uint(j, lp_latency_percentile_us(one, 1));
    }
    lp_json_end(j);
}

static void serve_stats(lp_request *request, void *ctx)
{
    lp_stats stats;
    lp_json j;
    (void)ctx;
    lp_stats_read(server, &stats);
    lp_json_init(&j, NULL);
    lp_json_object(&j);
    put(&j, "requests", stats.requests);
    put(&j, "published", stats.published);
    put(&j, "delivered", stats.delivered);
    put(&j, "resets", stats.resets);
    put(&j, "refused", stats.refused);
    put(&j, "connections", stats.connections);
    put(&j, "waiters", stats.waiters);
    put(&j, "channels", stats.channels);
    put(&j, "messages", stats.messages);
    put(&j, "redis_up", stats.redis_up);
    put(&j, "redis_opens", stats.redis_opens);
    put_latencies(&j, "delays", stats.latencies);
    put_latencies(&j, "first_delays", stats.first_latencies);
    put_bounds(&j);
    lp_json_end(&j);
    lp_reply(request, 200, "application/json", lp_json_text(&j));
    lp_json_free(&j);
}

static void no_limits(lp_config *cfg)
{
    cfg->waiters_max = cfg->waiters_per_client = LP_UNLIMITED;
    cfg->waiters_per_channel = cfg->waiters_per_address = LP_UNLIMITED;
    cfg->channels_max = cfg->connections_max = LP_UNLIMITED;
    cfg->connections_per_address = LP_UNLIMITED;
    cfg->idle_ms = LP_OFF;
}

static int parse(lp_config *cfg, int argc, char **argv)
{
    int i;
    for (i = 1; i + 1 < argc; i += 2)
        if (strncmp(argv[i], "--", 2) ||
            lp_config_set(cfg, argv[i] + 2, argv[i + 1]))
            return i;
    return i < argc ? i : 0;
}

int main(int argc, char **argv)
{
    lp_config cfg = {0};
    struct rlimit files;
    lp_result result;
    int bad;

    cfg.log.write = log_line;
    no_limits(&cfg);
    bad = parse(&cfg, argc, argv);
    if (bad) {
        fprintf(stderr, "serve: bad option: %s\n", argv[bad]);
        return 2;
    }
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    result = lp_create(&server, &cfg);
    if (result != LP_OK) {
        fprintf(stderr, "serve: %s\n", lp_strerror(result));
        return 1;
    }
    lp_on(server, "GET", "/stats", serve_stats, NULL);
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    printf("listening on http://127.0.0.1:%u\n", lp_port(server));
    fflush(stdout);
    result = lp_run(server);
    lp_destroy(server);
    return result != LP_OK;
}
