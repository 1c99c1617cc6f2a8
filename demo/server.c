/* A complete server: the library's API, and a page to try it with.
   Usage: server [--host H] [--port P] [--loops N] [--token T]
                 [--trust NETWORKS] [--cors ORIGINS] [--no-limits]           */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

#include "web.h" /* the page, made from demo/web by make */

#include <signal.h>
#include <sys/resource.h>

static lp_server *server;

static void stop(int signal_number)
{
    (void)signal_number;
    lp_stop(server);
    signal(SIGINT, SIG_DFL); /* a second one does not wait */
    signal(SIGTERM, SIG_DFL);
}

static void log_line(void *ctx, lp_log_level level, const char *line)
{
    (void)ctx;
    if (level == LP_LOG_ERROR) fprintf(stderr, "server: %s\n", line);
}

static void serve_page(lp_request *request, void *ctx)
{
    size_t i = *(const size_t *)ctx;
    lp_slice body = {(const char *)web_files[i].bytes, web_files[i].size};
    lp_reply(request, 200, web_files[i].type, body);
}

static void no_limits(lp_config *cfg)
{
    cfg->waiters_max = cfg->waiters_per_client = LP_UNLIMITED;
    cfg->waiters_per_channel = cfg->waiters_per_address = LP_UNLIMITED;
    cfg->channels_max = cfg->connections_max = LP_UNLIMITED;
}

/* Options by the names of the library's fields, or by a short name of ours. */
static int parse(lp_config *cfg, int argc, char **argv)
{
    static const char *const shorts[][2] = {
        {"token", "publish-token"}, {"trust", "trusted-proxies"}};
    int i;
    size_t k;
    for (i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strncmp(name, "--", 2)) return i;
        for (name += 2, k = 0; k < sizeof shorts / sizeof *shorts; k++)
            if (!strcmp(name, shorts[k][0])) name = shorts[k][1];
        if (!strcmp(name, "no-limits")) no_limits(cfg);
        else if (++i == argc || lp_config_set(cfg, name, argv[i])) return i - 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static size_t numbers[sizeof web_files / sizeof *web_files];
    lp_config cfg = {0};
    lp_result result;
    struct rlimit files;
    size_t i;
    int bad;

    cfg.port = 8080;
    cfg.log.write = log_line;
    bad = parse(&cfg, argc, argv);
    if (bad) {
        fprintf(stderr, "server: bad option: %s\n", argv[bad]);
        return 2;
    }
    if (!getrlimit(RLIMIT_NOFILE, &files)) { /* a descriptor for each poll */
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    result = lp_create(&server, &cfg);
    if (result != LP_OK) {
        fprintf(stderr, "server: %s\n", lp_strerror(result));
        return 1;
    }
    for (i = 0; i < sizeof web_files / sizeof *web_files; i++) {
        numbers[i] = i;
        lp_on(server, "GET", web_files[i].path, serve_page, &numbers[i]);
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    printf("listening on http://%s:%u\n", cfg.host ? cfg.host : "127.0.0.1",
           lp_port(server));
    fflush(stdout);
    result = lp_run(server);
    lp_destroy(server);
    return result != LP_OK;
}
