/* Inside a libuv loop, which also tells the time on a channel every second.
   cc -pthread uv.c -o uv $(pkg-config --cflags --libs libuv)                */
#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"
#include <uv.h>

static lp_server *server;
static uv_timer_t deadline, second;

static void wake(uv_timer_t *t) { (void)t; } /* turn() is called next */
static void ready(uv_poll_t *p, int s, int e) { (void)p, (void)s, (void)e; }
static void stop(uv_signal_t *s, int n) { (void)s, (void)n, lp_stop(server); }
static void turn(uv_prepare_t *p) /* before the loop sleeps */
{
    if (lp_step(server, 0) != LP_OK) uv_stop(p->loop); /* the drain is over */
    else uv_timer_start(&deadline, wake, (uint64_t)lp_wait_ms(server), 0);
}
static void tick(uv_timer_t *t) /* the message's timestamp is the time */
{ (void)t, lp_publish(server, lp_s("clock"), lp_s("{}"), NULL); }
int main(int argc, char **argv)
{
    lp_config cfg = {.port = (uint16_t)(argc > 1 ? atoi(argv[1]) : 8080)};
    uv_loop_t *loop = uv_default_loop();
    static uv_poll_t poll; static uv_prepare_t prepare; static uv_signal_t end;
    if (lp_create(&server, &cfg) || uv_poll_init(loop, &poll, lp_fd(server)) ||
        uv_poll_start(&poll, UV_READABLE, ready) ||
        uv_signal_init(loop, &end) || uv_signal_start(&end, stop, SIGTERM) ||
        uv_prepare_init(loop, &prepare) || uv_prepare_start(&prepare, turn) ||
        uv_timer_init(loop, &deadline) || uv_timer_init(loop, &second) ||
        uv_timer_start(&second, tick, 0, 1000)) return 1;
    dprintf(1, "listening on http://127.0.0.1:%u\n", lp_port(server));
    uv_run(loop, UV_RUN_DEFAULT);
    lp_destroy(server);
}
