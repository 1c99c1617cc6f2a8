/* Inside another event loop: here poll(), which also reads the terminal.
   What is typed is published on the channel "typed".
   curl localhost:8080/api/poll/typed?last_id=now                            */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

#include <poll.h>

static void publish_line(lp_server *server, lp_slice line)
{
    lp_json j;
    lp_json_init(&j, NULL);
    lp_json_object(&j);
    lp_json_key(&j, lp_s("text"));
    lp_json_string(&j, line);
    lp_json_end(&j);
    lp_publish(server, lp_s("typed"), lp_json_text(&j), NULL);
    lp_json_free(&j);
}

int main(int argc, char **argv)
{
    lp_config cfg = {0};
    lp_server *server;
    struct pollfd fds[2];
    char line[512];
    ssize_t n = 1;
    lp_result result;
    cfg.port = 8080;
    if (argc == 2 && lp_config_set(&cfg, "port", argv[1])) return 2;
    result = lp_create(&server, &cfg);
    if (result != LP_OK) {
        fprintf(stderr, "%s\n", lp_strerror(result));
        return 1;
    }
    printf("listening on http://127.0.0.1:%u\n", lp_port(server));
    fflush(stdout);
    fds[0].fd = 0;
    fds[1].fd = lp_fd(server);
    fds[0].events = fds[1].events = POLLIN;
    while (n > 0) {
        /* Wait for either, but no longer than the server may sleep. */
        if (poll(fds, 2, lp_wait_ms(server)) < 0) continue;
        if (fds[0].revents) {
            lp_slice text = {line, 0};
            n = read(0, line, sizeof line);
            if (n > 0) text.length = (size_t)n - (line[n - 1] == '\n');
            if (n > 0) publish_line(server, text);
            else lp_stop(server); /* the end of input ends the server */
        }
        lp_step(server, 0);
    }
    while (lp_step(server, -1) == LP_OK) {} /* the drain */
    lp_destroy(server);
    return 0;
}
