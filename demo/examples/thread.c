/* Publishing from a thread of your own: a clock.
   curl localhost:8080/api/poll/clock?last_id=now                            */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

#include <signal.h>

static lp_server *server;

static void stop(int signal_number)
{
    (void)signal_number;
    lp_stop(server);
}

/* lp_publish may be called on any thread; when the server has stopped it says
   so, and that ends this one. */
static void *tick(void *ctx)
{
    lp_result result = LP_OK;
    uint64_t count = 0;
    lp_json j;
    (void)ctx;
    lp_json_init(&j, NULL);
    while (result == LP_OK) {
        lp_json_free(&j);
        lp_json_object(&j);
        lp_json_key(&j, lp_s("ticks"));
        lp_json_uint(&j, ++count);
        lp_json_end(&j);
        result = lp_publish(server, lp_s("clock"), lp_json_text(&j), NULL);
        sleep(1);
    }
    lp_json_free(&j);
    return NULL;
}

int main(int argc, char **argv)
{
    lp_config cfg = {0};
    pthread_t thread;
    lp_result result;
    cfg.port = 8080;
    if (argc == 2 && lp_config_set(&cfg, "port", argv[1])) return 2;
    result = lp_create(&server, &cfg);
    if (result != LP_OK) {
        fprintf(stderr, "%s\n", lp_strerror(result));
        return 1;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    printf("listening on http://127.0.0.1:%u\n", lp_port(server));
    fflush(stdout);
    if (pthread_create(&thread, NULL, tick, NULL)) return 1;
    lp_run(server);
    pthread_join(thread, NULL); /* before lp_destroy: it uses the server */
    lp_destroy(server);
    return 0;
}
