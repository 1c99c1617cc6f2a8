/* The server of fork.test.mjs, whose children have copies of its descriptors.

     fork --NAME VALUE ...
         Prints each line of its log, and "ended" once lp_run has returned and
         all is freed. With "--programs on" a thread starts another program
         again and again, by system() and by fork() and exec in turn.
           POST /hold        a child with copies of all descriptors, for two
                             minutes at most; the answer is its process id
           GET  /test/stats  connections and waiters
           GET  /test/page?n=  n bytes                                       */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static lp_server *server;
static int over; /* atomic */

static void print_line(void *ctx, lp_log_level level, const char *line)
{
    (void)ctx;
    printf("log %d %s\n", (int)level, line);
    fflush(stdout);
}

/* ---- routes ------------------------------------------------------------- */

/* What the test reads from us it must not wait for a child to close. */
static void hold_on(void)
{
    int fd;

    signal(SIGTERM, SIG_DFL);
    for (fd = 0; fd <= 2; fd++)
        close(fd);
    alarm(120);
    for (;;)
        pause();
}

static void hold(lp_request *request, void *ctx)
{
    char text[32];
    pid_t child = fork();

    (void)ctx;
    if (child == 0)
        hold_on();
    snprintf(text, sizeof text, "%ld", (long)child);
    if (child > 0)
        lp_reply(request, 200, "application/json", lp_s(text));
    else
        lp_reply_error(request, 500, "fork");
}

static void stats(lp_request *request, void *ctx)
{
    char text[96];
    lp_stats now;

    (void)ctx;
    lp_stats_read(server, &now);
    snprintf(text, sizeof text, "{\"connections\":%lu,\"waiters\":%lu}",
             (unsigned long)now.connections, (unsigned long)now.waiters);
    lp_reply(request, 200, "application/json", lp_s(text));
}

static void page(lp_request *request, void *ctx)
{
    char digits[16] = "0";
    lp_slice n = lp_query(request, "n"), body;
    char *bytes;

    (void)ctx;
    if (n.length < sizeof digits && n.bytes != NULL)
        memcpy(digits, n.bytes, n.length);
    body.length = strtoul(digits, NULL, 10);
    body.bytes = bytes = (char *)calloc(1, body.length + 1);
    if (bytes == NULL)
        lp_reply_error(request, 503, "no memory");
    else
        lp_reply(request, 200, "application/octet-stream", body);
    free(bytes);
}

/* ---- programs that are started beside ----------------------------------- */

static void start_a_program(void)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        execl("/bin/sh", "sh", "-c", "true", (char *)NULL);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        fprintf(stderr, "fork and exec: %d\n", (int)child);
}

static void *start_programs(void *unused)
{
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        if (system("true") != 0)
            fprintf(stderr, "system\n");
        start_a_program();
    }
    return unused;
}

/* ---- start and end ------------------------------------------------------ */

static void stop(int signal_number)
{
    (void)signal_number;
    lp_stop(server);
}

static int configure(lp_config *config, int argc, char **argv, int *programs)
{
    int i;

    memset(config, 0, sizeof *config);
    config->log.write = print_line;
    for (i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], "--programs") == 0)
            *programs = 1;
        else if (lp_config_set(config, argv[i] + 2, argv[i + 1]) != LP_OK)
            return 0;
    return 1;
}

int main(int argc, char **argv)
{
    int programs = 0;
    pthread_t thread;
    lp_config config;
    lp_result result;

    if (!configure(&config, argc, argv, &programs) ||
        lp_create(&server, &config) != LP_OK ||
        lp_on(server, "POST", "/hold", hold, NULL) != LP_OK ||
        lp_on(server, "GET", "/test/stats", stats, NULL) != LP_OK ||
        lp_on(server, "GET", "/test/page", page, NULL) != LP_OK)
        return 2;
    signal(SIGTERM, stop);
    printf("listening on http://127.0.0.1:%u\n", (unsigned)lp_port(server));
    fflush(stdout);
    if (programs && pthread_create(&thread, NULL, start_programs, NULL) != 0)
        return 2;
    result = lp_run(server);
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    signal(SIGTERM, SIG_IGN);
    if (programs)
        pthread_join(thread, NULL);
    lp_destroy(server);
    puts("ended");
    return result != LP_OK;
}
