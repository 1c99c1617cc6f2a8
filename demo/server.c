/* A complete server: the library's API, and a page to try it with. */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

#include "options.h" /* the command line */
#include "web.h"     /* the page, made from demo/web by make */

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
    const char *what = level == LP_LOG_WARN ? "warning: " : "";
    (void)ctx;
    if (level != LP_LOG_INFO) fprintf(stderr, "server: %s%s\n", what, line);
}

/* A line for each request that was answered. */
static void log_access(void *ctx, const lp_access *access)
{
    char line[LP_ACCESS_LINE];
    (void)ctx;
    if (!strcmp(log_format, "json")) lp_access_json(line, sizeof line, access);
    else lp_access_common(line, sizeof line, access);
    fputs(line, stdout);
}

static void serve_page(lp_request *request, void *ctx)
{
    const struct web_file *file = (const struct web_file *)ctx;
    lp_reply(request, 200, file->type, file->body);
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
    if (log_format) cfg.access_log.write = log_access;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* a line is told at once */
    if (!getrlimit(RLIMIT_NOFILE, &files)) { /* a descriptor for each poll */
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    result = lp_create(&server, &cfg);
    if (result != LP_OK) {
        fprintf(stderr, "server: %s\n", lp_strerror(result));
        return 1;
    }
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
