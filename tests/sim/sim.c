/* sim.c: the server in a simulated world, against a model of its promise.

       build/sim --events N --seed S [--trace]     at least N simulated calls
       build/sim --seconds N --seed S              for that long
       build/sim --million [N]                     a million polls, parked and delivered once

   Worlds follow one another, each from its own seed (S, S + 1, ...) with its own limits,
   deadlines, loops, clients and rates of failure; a world is a test. What fails prints the
   command that replays its world to the byte. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FORTIFY_SOURCE /* its longjmp would not leave a stack for another */
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_STATIC
#define LONGPOLL_DEBUG

#if defined(__GNUC__)
__attribute__((noreturn))
#endif
static void assert_failed(int line, const char *what);
#define LP_ASSERT(x) ((x) ? (void)0 : assert_failed(__LINE__, #x))

#include "threads.h"

#include "longpoll.h"
#include "../store.h"
#include "../token.h"

#include "kernel.h"
#include "model.h"
#include "check.h"
#include "clients.h"
#include "schedule.h"
#include "million.h"

static void assert_failed(int line, const char *what)
{
    fail_at(line, "LP_ASSERT(%s), longpoll.h:%d", what, line);
}

static void on_signal(int number)
{
    printf("FAIL: signal %d\n", number);
    say_replay();
    _exit(1);
}

#if defined(__SANITIZE_ADDRESS__)
void __sanitizer_set_death_callback(void (*callback)(void));
#endif

/* ---- hooks ---- */

static uint64_t watch_counts[2], log_lines, refusals_told;

static int ask(void *ctx, lp_request *r, lp_action action, lp_slice name)
{
    (void)ctx;
    called_out();
    if (action == LP_ADMIN) return 0; /* not about a channel, it may be */
    if (action == LP_POLL) model_asked(r, channel_of(name.bytes));
    return channel_of(name.bytes) == DENIED ? 403 : 0;
}

static uint64_t policy_counts[2]; /* refused, made */

/* What the model says, which is the configuration's or less; or what stands for that. */
static int policy_told(void *ctx, lp_slice name, lp_policy *policy)
{
    static int depth;
    int i = channel_of(name.bytes);
    lp_policy most = lpi_policy_of(&S->config);
    (void)ctx;
    called_out();
    MUST(!memcmp(policy, &most, sizeof most), "the policy hook is not given the configuration's values");
    policy_counts[i != REFUSED]++;
    if (!depth && one_in(16)) {
        depth = 1;
        publish_somewhere();
        depth = 0;
    }
    if (M.policy[i].history_count < most.history_count || one_in(2))
        policy->history_count = M.policy[i].history_count == 1 && one_in(2) ? LP_OFF
                                                                          : M.policy[i].history_count;
    else policy->history_count = PICK(0, most.history_count + 1, LP_UNLIMITED);
    policy->history_age_ms = M.policy[i].history_age_ms;
    policy->waiters_max = M.policy[i].waiters_max;
    return i != REFUSED;
}

/* Once the server has resolved its configuration. */
static void choose_policies(void)
{
    lp_policy most = lpi_policy_of(&S->config);
    int i;
    for (i = 0; i < CHANNELS; i++) {
        lp_policy *p = &M.policy[i];
        p->history_count = lpi_policy_cut(PICK(0, 1, 2, 3, 7), most.history_count);
        p->history_age_ms = lpi_policy_cut(PICK(0, 100, 300, 2000), most.history_age_ms);
        p->waiters_max = lpi_policy_cut(PICK(0, 0, 1, 4), most.waiters_max);
    }
}

static void watch(void *ctx, lp_channel_event event, lp_slice name)
{
    channel *ch = &M.channel[channel_of(name.bytes)];
    (void)ctx;
    MUST(cur->slot == 0, "the news of channels are told on another thread than lp_run's");
    called_out();
    cur->progress++;
    watch_counts[event]++;
    ch->waited_ms = now_ms();
    MUST((event == LP_CHANNEL_OCCUPIED) == !ch->watched, "a channel's event comes twice");
    ch->watched = !ch->watched;
    if (one_in(4)) publish_somewhere();
}

/* Each request is told once; the world counts those of which something was read. */
static uint64_t requests_told, accesses_told;

static void access_write(void *ctx, const lp_access *a)
{
    (void)ctx;
    called_out();
    accesses_told++;
    if (a->method.length) requests_told++;
    MUST(a->status >= 200 && a->status < 600, "a request is told with status %d", a->status);
    MUST(!a->stream || a->status == 200, "a stream is told with status %d", a->status);
    MUST(!memchr(a->path.bytes, '?', a->path.length), "a query is told");
    MUST(a->client.length > 3 && a->wall_us, "a request of nobody is told");
    if (one_in(16)) publish_somewhere();
}

/* What is refused is told, at most once a second for each kind. */
static void log_write(void *ctx, lp_log_level level, const char *line)
{
    const char *times = strstr(line, " time");
    int status = atoi(line);
    uint64_t now = now_ms(), *told = &M.refusal_told_ms[status < 600 ? status : 0];
    (void)ctx;
    called_out();
    log_lines++;
    if (level != LP_LOG_WARN || !times || !strstr(times, ", the last from 127.0.0.")) return;
    refusals_told++;
    MUST(!*told || now + 2 + 2 * late_ns() / 1000000 >= *told + 1000, "told too often: %s", line);
    *told = now;
}

static void echo(lp_request *r, void *ctx)
{
    char body[64];
    lp_slice n = lp_param(r, "n");
    int length;
    (void)ctx;
    called_out();
    if (!n.bytes) {
        lp_reply_error(r, 503, "Out of memory");
        return;
    }
    if (one_in(16)) publish_somewhere();
    if (K.to_all) {
        K.to_all = 0;
        publish_to_all();
    }
    if (one_in(4) && deferral_begin(r, (uint32_t)strtoul(n.bytes, NULL, 10))) return;
    length = sprintf(body, "{\"echo\":%.*s}", (int)n.length, n.bytes);
    MUST(lp_reply(r, 200, "application/json", lpi_slice(body, (size_t)length)) == LP_OK,
         "lp_reply");
}

/* ---- what a world is like ---- */

static enum { RUNNING, STEPPING, EMBEDDED } mode; /* how the server is run */

static void choose_limits(lp_config *cfg)
{
    const uint32_t U = LP_UNLIMITED;
    cfg->history_count = PICK(0, 0, 1, 2, 3, 5, 8, 20);
    cfg->history_age_ms = PICK(0, U, 100, 300, 1000, 3000, 8000);
    cfg->history_bytes = PICK(0, 0, U, 1500, 4000, 16000, 100000);
    cfg->message_bytes_max = PICK(0, 0, 300, 2000);
    cfg->reply_messages_max = PICK(0, 0, 3, 10);
    cfg->reply_messages = cfg->reply_messages_max ? between(1, cfg->reply_messages_max)
                                                  : PICK(0, 1, 2, 5);
    cfg->reply_bytes_max = PICK(0, 0, 1, 300, 2000);
    if (one_in(3)) {
        cfg->waiters_max = PICK(0, U, 1, 3, 10);
        cfg->waiters_per_client = PICK(0, U, 1, 2);
        cfg->waiters_per_channel = PICK(0, U, 1, 3);
        cfg->waiters_per_address = PICK(0, U, 2, 5);
    } else {
        cfg->waiters_per_client = U;
    }
    cfg->channels_max = one_in(4) ? between(1, 6) : 0;
    cfg->connections_max = one_in(5) ? between(2, 20) : 0;
    cfg->connections_per_address = one_in(5) ? between(1, 8) : 0;
    cfg->partial_bytes_max = one_in(4) ? PICK(65536, 65536, 200000) : 0;
    proxies = one_in(3);
    if (proxies) cfg->trusted_proxies = "127.0.0.7";
    cfg->head_bytes_max = PICK(0, 0, 1200, 2048);
    cfg->admin_token = "secret";
    cfg->track_receipts = PICK(0, 0, 1, 2, 5, 20, 100, 5000);
    deletions = one_in(2);
    admin_us = PICK(0, 0, 1000, 20000, 300000);
}

static void choose_deadlines(lp_config *cfg)
{
    cfg->timeout_ms_max = PICK(0, 0, 200, 1000);
    cfg->stream_beat_ms = PICK(0, 20, 300, 3000);
    cfg->timeout_ms = cfg->timeout_ms_max ? cfg->timeout_ms_max : 0;
    cfg->head_ms = PICK(0, 100, 500, 2000);
    cfg->body_ms = PICK(0, 100, 500, 2000);
    cfg->idle_ms = PICK(0, 50, 500, 3000, LP_OFF);
    cfg->write_ms = PICK(0, 50, 300, 2000, LP_OFF);
    cfg->linger_ms = PICK(0, LP_OFF, 5, 100);
    cfg->later_ms = PICK(0, LP_OFF, 50, 2000);
    cfg->drain_ms = PICK(0, LP_OFF, 50, 500);
    cfg->channel_linger_ms = PICK(0, LP_OFF, 20, 500);
}

static void choose_faults(void)
{
    int i;
    uint32_t rate = PICK(100, 1000, 1000, 4000, 20000);
    K.faults = !one_in(4);
    if (!K.faults) return;
    for (i = 0; i < F_KINDS; i++)
        if (!one_in(4)) K.rates[i] = UINT32_MAX / (rate * PICK(1, 2, 5));
    K.rates[F_STALL] /= 20;
    K.rates[F_MISSING] *= 8;
    K.rates[F_SPURIOUS] *= 8;
    K.rates[F_STALE] *= 32;
    K.rates[F_SHORT_READ] *= 4;
    K.rates[F_SHORT_WRITE] *= 4;
    K.rates[F_CLOCK] *= 8;
    K.rates[F_RANDOM] *= 16;
    K.rates[F_RESERVE] *= 8;
    K.rates[F_SHUTDOWN] *= 4;
    K.rates[F_POLLER_SET] *= 4;
    K.rates[F_CREATE] = UINT32_MAX / 40;
    K.rates[F_THREAD] = UINT32_MAX / 20;
    K.rates[F_MUTEX] = UINT32_MAX / 200;
    K.rates[F_ECONNRESET] /= 2;
    if (one_in(4)) OS.fd_limit = (int)(between(9, 25) + 4 * (K.loops - 1));
}

static void choose_threads(lp_config *cfg)
{
    K.loops = one_in(2) ? 1 : between(2, LOOPS);
    cfg->loops = K.loops;
    worlds_of[K.loops]++;
    mode = K.loops > 1 || one_in(4) ? RUNNING : one_in(3) ? EMBEDDED : STEPPING;
    K.preempts = PICK(0, 4, 12, 40, 200);
    if (K.preempts) K.preempt_in = between(1, 2 * K.preempts);
    if (K.preempts && mode != EMBEDDED) K.starve_us = PICK(0, 0, 100, 3000, 30000);
}

static void choose_net(void)
{
    K.latency_us[0] = PICK(5, 50, 500);
    K.latency_us[1] = K.latency_us[0] + PICK(1, 100, 3000, 40000);
    K.piece = PICK(0, 0, 40, 300);
    think_us = PICK(10, 1000, 20000, 300000);
    wait_most_ms = PICK(20, 300, 3000);
    publish_us = PICK(200, 3000, 30000, 400000);
    burst = PICK(2, 10, 40);
    world_channels = PICK(1, 2, 4, PLAIN);
    tide_us = 0;
    addresses = A_LAST;
    same_temper = one_in(5) ? (int)below(T_KINDS) : T_KINDS;
    client_count = one_in(6) || same_temper == T_MULTI ? between(40, 160) : between(1, 24);
    if (one_in(6)) { /* a crowd that waits for what seldom comes */
        publish_us = 6000000;
        wait_most_ms = 20000;
        think_us = 1000;
        client_count = between(100, 160);
        same_temper = (int)PICK(T_CORRECT, T_CORRECT, T_MULTI, T_MULTI, T_KINDS);
        if (same_temper == T_MULTI) world_channels = PICK(PLACES, PLAIN);
    }
}

/* Many who hardly read wait for the same, so that a few bytes more would be too many: of all, or
   of an address. */
static void choose_slow_readers(lp_config *cfg)
{
    const uint32_t U = LP_UNLIMITED;
    client_count = between(20, 120);
    same_temper = T_SLOW;
    world_channels = PICK(1, 1, 2, 4);
    publish_us = PICK(3000, 30000);
    addresses = PICK(2, A_LAST);
    cfg->history_bytes = PICK(30000, 60000, 200000);
    cfg->message_bytes_max = 0;
    cfg->reply_bytes_max = 0;
    cfg->waiters_max = cfg->waiters_per_channel = U;
    cfg->waiters_per_client = cfg->waiters_per_address = U;
    cfg->connections_max = cfg->connections_per_address = 0;
    cfg->write_ms = PICK(0, 2000, LP_OFF);
}

/* Many who are slow to send have more under way than there is room for: for all, or for one
   address. */
static void choose_slow_senders(lp_config *cfg)
{
    client_count = between(40, 160);
    same_temper = T_DRIP;
    cfg->partial_bytes_max = PICK(65536, 200000);
    cfg->head_ms = cfg->body_ms = PICK(0, 2000);
    cfg->connections_max = cfg->connections_per_address = 0;
    addresses = PICK(2, A_LAST);
    proxies = one_in(2);
    if (proxies) cfg->trusted_proxies = "127.0.0.7";
}

/* Hundreds of clients come and go together, so that slabs grow and shrink. */
static void choose_tide(lp_config *cfg)
{
    const uint32_t U = LP_UNLIMITED;
    client_count = between(300, CLIENTS);
    same_temper = (int)PICK(T_CORRECT, T_CORRECT, T_RESET, T_KINDS);
    tide_us = PICK(30000, 300000, 1500000);
    think_us = PICK(1000, 10000);
    wait_most_ms = PICK(300, 20000);
    publish_us = PICK(30000, 400000, 2000000);
    OS.fd_limit = FDS;
    cfg->waiters_max = cfg->waiters_per_channel = U;
    cfg->waiters_per_client = cfg->waiters_per_address = U;
    cfg->connections_max = cfg->connections_per_address = 0;
}

/* On nearly as many channels: hundreds are deserted at a time, forgotten before that is told,
   and waited on again. */
static void choose_many_channels(lp_config *cfg)
{
    client_count = CLIENTS;
    same_temper = T_CORRECT;
    K.faults &= (int)one_in(2);
    world_channels = between(500, CHANNELS);
    hooks = 1;
    tide_us = 300000;
    think_us = 400000;
    wait_most_ms = 20000;
    cfg->timeout_ms = cfg->timeout_ms_max = cfg->idle_ms = cfg->head_ms = 0;
    publish_us = 2000000;
    cfg->history_age_ms = PICK(280, 285, 290); /* most are past it when the tide rises */
    K.latency_us[1] = 500;
    cfg->channel_linger_ms = PICK(0, 0, 0, 500);
    cfg->channels_max = PICK(0, 0, 0, 450);
}

/* Children that other parts of the program fork: shells that run a command, and workers that
   stay. */
static void choose_children(void)
{
    uint32_t i, count = one_in(3) ? between(1, CHILDREN) : 0;
    K.fork_us[0] = PICK(2000, 30000, 500000);
    K.fork_us[1] = PICK(1000, 50000, 10000000);
    for (i = 0; i < count; i++)
        happen(K.now_ns + (uint64_t)below(K.fork_us[0]) * 1000, H_FORK, i, 0, 0);
}

static void create(const lp_config *cfg)
{
    int tries = 0;
    for (;;) {
        lp_server *server = NULL;
        lp_result result;
        cur->excuses = 0;
        if (tries++ == 20) K.faults = 0, K.alloc_burst = 0;
        result = lp_create(&server, cfg);
        if (result == LP_OK && lp_on(server, "GET", "/echo/{n}", echo, NULL) == LP_OK) {
            S = server;
            return;
        }
        MUST(cur->excuses && tries < 100, "lp_create returns %d", result);
        if (result == LP_OK) lp_destroy(server);
        SAME(K.memory_bytes, 0, "memory after lp_create failed");
        SAME(OS.fd_open, 0, "descriptors after lp_create failed");
    }
}

/* ---- the threads that run the server ---- */

static uint64_t runs_again;

/* As a program does. A loop whose poller fails has all of them return. */
static void serve_running(void)
{
    for (;;) {
        K.result = lp_run(S);
        if (K.result == LP_OK) return;
        MUST(K.result == LP_ERR_OS && (K.faults || K.leaving), "lp_run returns %d", K.result);
        if (K.leaving) return;
        runs_again++;
    }
}

/* A step at a time; or in somebody else's loop, which waits for lp_fd(). */
static void serve_stepping(void)
{
    for (;;) {
        if (mode == EMBEDDED) {
            uint64_t wait_ns = (uint64_t)lp_wait_ms(S) * 1000000;
            step_ends();
            thread_waits(0, wait_ns ? K.now_ns + wait_ns : 0);
        }
        K.result = lp_step(S, mode == EMBEDDED ? 0 : one_in(50) ? (int)between(1, 20) : -1);
        if (cur->blocked && one_in(50)) cur->progress++;
        if (K.result == LP_ERR_STOPPED) return;
        MUST(K.result == LP_OK || (K.result == LP_ERR_OS && (K.faults || K.leaving)),
             "lp_step returns %d", K.result);
        if (K.leaving) return;
    }
}

static void *serve(void *ctx)
{
    (void)ctx;
    if (mode == RUNNING) serve_running();
    else serve_stepping();
    return NULL;
}

static void serve_begins(void)
{
    thread *t = &threads[FIRST_LOOP];
    t->run = serve;
    t->slot = 0;
    t->taken = 1;
    t->state = RUNS;
}

static int others_idle(void)
{
    int i;
    for (i = FIRST_OTHER; i < THREADS; i++)
        if (threads[i].state != IDLES) return 0;
    return 1;
}

/* Until the server's own thread is over, and nobody is in a call. */
static void serve_ends(uint64_t most_ms)
{
    uint64_t begin = K.now_ns;
    while (threads[FIRST_LOOP].state != IDLES) {
        world_turn();
        MUST(K.now_ns < begin + most_ms * 1000000 + K.stalled_ns + 4 * late_ns(),
             "the drain does not end");
    }
    while (!others_idle()) world_turn();
    memset(K.jobs, 0, sizeof K.jobs);
}

/* ---- a world ---- */

static void drain(void)
{
    uint32_t i;
    if (one_in(2)) lp_stop(S); /* as in a signal handler, amid anything */
    else happen(K.now_ns + below(50000000), H_JOB, J_STOP, 0, 0);
    serve_ends(S->config.drain_ms + (S->config.write_ms < 30000 ? S->config.write_ms : 30000) + 3000);
    MUST(S->hub.stopped, "all loops have ended, and the server has not stopped");
    SAME(S->hub.stats.waiters, 0, "waiters after the drain");
    SAME((uint32_t)OS.open_of[K_SOCKET], 0, "connections after the drain");
    SAME(S->hub.stats.connections, 0, "connections after the drain");
    for (i = 0; i < S->loop_count; i++) {
        lpi_loop *loop = &S->loops[i];
        SAME(loop->connections.used, 0, "records after the drain");
        MUST(!loop->inbox.first || loop->inbox.first->kind != LPI_TASK_OPEN,
             "a connection in the inbox after the drain");
        MUST(lpi_loop_step(loop, 0) == LP_ERR_STOPPED, "a step after the end");
    }
    publish_somewhere();
}

/* The slot of a loop that has been given a connection and has not seen it yet, or -1. */
static int arriving(void)
{
    uint32_t i;
    for (i = 1; i < S->loop_count; i++)
        if (S->loops[i].inbox.first) return (int)i;
    return -1;
}

static void end_world(void)
{
    uint64_t requests = 0;
    int i, told, told_messages = S->config.after_publish.tell != NULL;
    if (!one_in(4)) {
        drain();
    } else {
        for (i = 0; i < 100 && arriving() < 0; i++) world_turn();
        K.leaving = 1 + (arriving() < 0 ? (int)below(K.loops) : arriving());
        serve_ends(60000);
        if (one_in(2)) publish_happens(); /* with waiter lists that are ready */
    }
    if (one_in(4)) child_forks(0); /* just now */
    for (i = 0; i < (int)S->loop_count; i++) requests += S->loops[i].counts.requests;
    told = S->config.access_log.write && !(K.faults && K.rates[F_ALLOC]);
    lp_destroy(S);
    if (told) SAME(requests_told, requests, "requests told");
    SAME(M.asyncs, 0, "lp_publish_async told");
    if (told_messages) verify_all_told();
    SAME(K.memory_bytes, 0, "memory after lp_destroy");
    SAME(K.memory_blocks, 0, "memory after lp_destroy");
    SAME(OS.fd_open, 0, "descriptors after lp_destroy");
    S = NULL;
    check_left();
    for (i = 0; i < OS.count; i++)
        MUST(!OS.all[i].kind || !OS.all[i].watched, "what a child holds was left in the poller");
}

static uint64_t delivered, timeouts, resets, published, replies, ended;

static void run_world(uint64_t seed)
{
    static lp_config cfg;
    static lp_os os;
    uint64_t budget;
    uint32_t i;
    memset(&cfg, 0, sizeof cfg);
    world_seed = random_state = seed;
    world_events = event_count;
    steps = 0;
    in_world = 1;
    machine_boot();
    threads_boot();
    model_boot();
    choose_threads(&cfg);
    choose_limits(&cfg);
    choose_deadlines(&cfg);
    choose_faults();
    choose_net();
    hooks = !one_in(3);
    if (one_in(12)) choose_slow_readers(&cfg);
    if (one_in(16)) choose_slow_senders(&cfg);
    if (one_in(12)) choose_tide(&cfg);
    if (tide_us && one_in(2)) choose_many_channels(&cfg);
    tokens = seed % 6 == 5; /* without a draw, so that the other worlds stay as they are */
    if (tokens) {
        cfg.token_secret = token_secret;
        cfg.head_bytes_max = 0;
        K.rates[F_CLOCK] = 0;
    }
    cfg.memory.resize = sim_resize;
    os = kernel_os(&OS);
    cfg.os = &os;
    if (hooks) cfg.authorize.ask = ask;
    if (hooks) cfg.watch.channel = watch;
    if (hooks) cfg.log.write = log_write;
    policies = seed % 5 == 3; /* likewise */
    transients = seed % 4 == 1;
    if (transients) {
        cfg.transient_ms = PICK(0, 1, 20, 300);
        cfg.track_receipts = 0;
    }
    if (policies) cfg.policy.ask = policy_told;
    requests_told = 0;
    memset(deferrals, 0, sizeof deferrals);
    if (one_in(3)) cfg.access_log.write = access_write;
    if (seed % 3 == 1) { /* likewise without a draw */
        cfg.before_publish.ask = ask_before;
        cfg.after_publish.tell = tell_after;
    }
    budget = tide_us ? between(15000, 60000) : between(500, 12000);
    create(&cfg);
    model_begins();
    if (policies) choose_policies();
    if (one_in(6) && !transients) {
        store_open(&S->hub);
        deletions = 0; /* that is the store's work */
        S->config.history_bytes = LP_UNLIMITED; /* the ring is all that the store has */
        happen(K.now_ns, H_JOB, J_ARRIVE, 0, 0);
    }
    choose_children();
    K.alloc_skip = K.faults && K.rates[F_ALLOC] ? below(60) : 0;
    for (i = 0; i < client_count; i++) client_new(&clients[i]);
    happen(K.now_ns + below(1000000), H_JOB, J_PUBLISH, 0, 0);
    if (tide_us) happen(K.now_ns, H_JOB, J_TIDE, 0, 0);
    if (admin_us) happen(K.now_ns + below(1000000), H_JOB, J_ADMIN, 0, 0);
    serve_begins();
    while (event_count - world_events < budget) world_turn();
    end_world();
    delivered += M.delivered;
    timeouts += M.timeouts;
    resets += M.resets;
    ended += M.ended;
    published += M.published;
    replies += M.replies;
    in_world = 0;
    worlds_passed++;
}

/* ---- the end ---- */

static int unseen;

static void line(const char *kind, const char *name, uint64_t count)
{
    printf("  %-10s %-18s %12" PRIu64 "%s\n", kind, name, count, count ? "" : "   never");
    if (!count) unseen++;
}

static void report(void)
{
    int i;
    char name[32];
    for (i = 0; i < K_CONNECT; i++) line("call", kernel_call_names[i], call_counts[i]); /* the rest is many.c's */
    for (i = 0; i < F_KINDS; i++) line("fault", fault_names[i], fault_counts[i]);
    for (i = 0; i < T_KINDS; i++) line("asked", temper_names[i], temper_requests[i]);
    for (i = 0; i < T_KINDS; i++)
        if (i != T_GARBAGE) line("answered", temper_names[i], temper_replies[i]);
    for (i = 1; i < 4; i++) line("reset", reason_of[i], reason_counts[i]);
    for (i = 0; i < 600; i++) {
        if (!status_counts[i]) continue;
        sprintf(name, "%d", i);
        line("status", name, status_counts[i]);
    }
    line("fetched", "channels", handovers);
    line("watch", "waited on", watch_counts[0]);
    line("watch", "deserted", watch_counts[1]);
    line("policy", "refuses", policy_counts[0]);
    line("policy", "lets be made", policy_counts[1]);
    line("log", "lines", log_lines);
    line("log", "of refusals", refusals_told);
    line("log", "of requests", accesses_told);
    line("replies", "in all", replies);
    line("replies", "timeouts", timeouts);
    for (i = 0; i < SHOWN_KINDS; i++) line("token", shown_names[i], shown_counts[i]);
    line("token", "ended meanwhile", ended);
    line("messages", "published", published);
    line("messages", "delivered", delivered);
    line("messages", "asked about", asked_before);
    line("messages", "told afterwards", told_after);
    line("arrays", "of messages", array_count);
    line("channels", "deleted", admin_counts[R_DELETE]);
    line("channels", "described", admin_counts[R_CHANNEL]);
    line("channels", "listed", admin_counts[R_LIST]);
    line("deferred", "requests", deferral_counts[0]);
    line("deferred", "answered", deferral_counts[1]);
    line("deferred", "gone", deferral_counts[2]);
    line("deferred", "504", deferral_counts[3]);
    line("messages", "told exactly", messages_told);
    line("channels", "rechecked", rechecked_polls);
    line("messages", "transient", transient_count);
    line("texts gone", "told", marks_flagged);
    line("texts gone", "passed", marks_passed);
    line("receipts", "read", admin_counts[R_RECEIPTS]);
    line("receipts", "noted", handed_count);
    line("receipts", "dropped as oldest", lost_count);
    line("checks", "told exactly", exact_count);
    for (i = 1; i <= LOOPS; i++) {
        sprintf(name, "of %d loop%s", i, i > 1 ? "s" : "");
        line("worlds", name, worlds_of[i]);
        line("steps", name, steps_of[i]);
        if (i > 1) line("steps", "amid another's", nested_of[i]);
    }
    for (i = 0; i < J_KINDS; i++) line("others", job_names[i], job_counts[i]);
    line("tides", "of clients", tides);
    line("children", "forked", fork_count);
    line("children", "hold what is closed", held_count + OS.outlived);
    line("threads", "preempted", preemptions);
    line("threads", "slow", slow_threads);
    line("threads", "wait for a mutex", contentions);
    line("lp_run", "again", runs_again);
    line("checks", "whole server", full_checks);
    line("checks", "hub amid steps", hub_checks / 256);
}

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    uint64_t events = 1000000, seed = 1, begin;
    double seconds, seconds_max = 1e9, began;
    int i;
    for (i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--events")) events = strtoull(value, NULL, 10), i++;
        else if (!strcmp(argv[i], "--seconds"))
            events = UINT64_MAX, seconds_max = strtod(value, NULL), i++;
        else if (!strcmp(argv[i], "--seed")) seed = strtoull(value, NULL, 10), i++;
        else if (!strcmp(argv[i], "--trace")) tracing = 1;
        else if (!strcmp(argv[i], "--million"))
            return run_million(*value ? (uint32_t)strtoul(value, NULL, 10) : 1000000);
        else {
            fprintf(stderr, "usage: sim [--events N | --seconds N] [--seed S] [--trace] | --million [N]\n");
            return 2;
        }
    }
    signal(SIGSEGV, on_signal);
    signal(SIGBUS, on_signal);
    signal(SIGFPE, on_signal);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_set_death_callback(say_replay);
#endif
    began = now_seconds();
    for (begin = seed; event_count < events; seed++) {
        if (now_seconds() - began >= seconds_max) break;
        run_world(seed);
    }
    check_free();
    seconds = now_seconds() - began;
    report();
    printf("%" PRIu64 " events in %d worlds, seeds %" PRIu64 " to %" PRIu64, event_count,
           worlds_passed, begin, seed - 1);
    if (!tracing) printf(", %.1f s, %.2f million a second", seconds, (double)event_count / seconds / 1e6);
    putchar('\n');
    if (event_count >= 10000000 && unseen) {
        printf("FAIL: %d things never happened\n%d passed, 1 failed, 0 skipped\n", unseen,
               worlds_passed);
        return 1;
    }
    printf("%d passed, 0 failed, 0 skipped\n", worlds_passed);
    return 0;
}
