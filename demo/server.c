/* A complete server: the library's API, and a page to try it with. */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"
#include "web.h" /* the page, made from demo/web by make */

#include <signal.h>
#include <sys/resource.h>

static const char usage[] = "usage: server [--OPTION VALUE]...\n"
    "  --host H         an IP literal, localhost, or * for all [127.0.0.1]\n"
    "  --port P         0: the kernel picks [8080]\n"
    "  --trust NETS     proxies that may say who the client is: 10.0.0.0/8\n"
    "  --token T        publishing wants Authorization: Bearer T\n"
    "  --redis URLS     many instances: redis://:password@host:6379/0\n"
    "  --log            a line on stdout for each request\n"
    "  --no-limits      none on polls, channels and connections\n"
    "or a field of lp_config by name: --loops 2, --cors URLS, --hosts ...\n";

static lp_server *server;

static void stop(int signal_number)
{
    signal(signal_number, SIG_DFL); /* a second one does not wait */
    lp_stop(server);
}

static void log_line(void *ctx, lp_log_level level, const char *line)
{
    const char *what = level == LP_LOG_WARN ? "warning: " : "";
    (void)ctx;
    if (level != LP_LOG_INFO) fprintf(stderr, "server: %s%s\n", what, line);
}

static void log_access(void *ctx, const lp_access *access)
{
    char line[LP_ACCESS_LINE];
    (void)ctx;
    fwrite(line, 1, lp_access_common(line, sizeof line, access), stdout);
}

static void serve_page(lp_request *request, void *ctx)
{
    const struct web_file *file = (const struct web_file *)ctx;
    lp_reply_asset(request, file->name, file->bytes);
}

/* Options by the names of the library's fields, or by a short name of ours. */
static void parse(lp_config *cfg, int argc, char **argv)
{
    int i;
    for (i = 1; i < argc; i++) {
        const char *name = strncmp(argv[i], "--", 2) ? "" : argv[i] + 2;
        if (!strcmp(name, "help")) exit(printf("%s", usage) < 0);
        if (!strcmp(name, "token")) name = "publish-token";
        if (!strcmp(name, "trust")) name = "trusted-proxies";
        if (!strcmp(name, "log")) {
            cfg->access_log.write = log_access;
        } else if (!strcmp(name, "no-limits")) {
            cfg->waiters_max = cfg->waiters_per_client = LP_UNLIMITED;
            cfg->waiters_per_channel = cfg->waiters_per_address = LP_UNLIMITED;
            cfg->channels_max = cfg->connections_max = LP_UNLIMITED;
            cfg->connections_per_address = LP_UNLIMITED;
        } else if (lp_config_set(cfg, name, argv[++i])) { /* NULL at the end */
            fprintf(stderr, "server: %s: Bad argument (see --help)\n",
                    argv[i - 1]);
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    lp_config cfg = {0};
    lp_result result;
    struct rlimit files;
    size_t i;
    cfg.port = 8080;
    cfg.log.write = log_line;
    parse(&cfg, argc, argv);
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* a line is told at once */
    if (!getrlimit(RLIMIT_NOFILE, &files)) { /* a descriptor for each poll */
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if ((result = lp_create(&server, &cfg)) != LP_OK)
        return fprintf(stderr, "server: %s\n", lp_strerror(result)) > 0;
    for (i = 0; i < sizeof web_files / sizeof *web_files; i++)
        lp_on(server, "GET", web_files[i].path, serve_page, &web_files[i]);
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    if (!cfg.host || !strcmp(cfg.host, "*")) cfg.host = "127.0.0.1";
    printf(strchr(cfg.host, ':') ? "listening on http://[%s]:%u\n" /* IPv6 */
                                 : "listening on http://%s:%u\n",
           cfg.host, lp_port(server));
    result = lp_run(server);
    lp_destroy(server);
    return result != LP_OK;
}
