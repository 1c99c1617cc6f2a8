/* Every failure, one at a time: each scenario is run once as it stands, which counts its
   allocations and system calls, and then again for each of them and each way in which it
   can fail, once or from then on.

       faults [PART]                            all scenarios whose name has PART
       faults SCENARIO alloc K once|ever        this one, without a child process: for gdb
       faults SCENARIO recv K ECONNRESET [ever]
       faults SCENARIO clean
       faults --list

   After each run: no crash, no sanitizer's word, no lost or wrong answer (witness.h); the
   server serves again; counters equal a recount; no memory, descriptor, waiter or timer
   is left; and it took about as many steps as without the fault.

   From the environment: FAULTS_DIVIDE, to run only one fault in so many [1]. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
int unit_main(int argc, char **argv); /* unit.h has one of its own */
#define main unit_main
#include "../unit/unit.h"
#undef main
#include "../unit/kernel.h"
#include "../token.h"
#include "witness.h"
#include "scenarios.h"

/* ---- what can fail, and how ---- */

enum { /* beside errno */
    F_SHORT = 1000, F_HALF, F_MOST,            /* send takes a byte, half, all but one  */
    F_NOTHING, F_SPURIOUS, F_FEW,              /* the poller tells nothing (EINTR), too
                                                  much, or one thing at a time          */
    F_BACK, F_AHEAD                            /* the wall clock jumps by a day         */
};

enum { ONCE = 0 };

typedef struct way {
    kernel_call call;
    int error, ever; /* ever: it may also fail from then on */
    const char *name;
} way;

#define WAY(call, error, ever) {call, error, ever, #error}

static const way ways[] = {
    WAY(K_ACCEPT, EAGAIN, 0), WAY(K_ACCEPT, EINTR, 0), WAY(K_ACCEPT, ECONNABORTED, 0),
    WAY(K_ACCEPT, EPROTO, 0), WAY(K_ACCEPT, EPERM, 0), WAY(K_ACCEPT, EMFILE, 1),
    WAY(K_ACCEPT, ENFILE, 1), WAY(K_ACCEPT, ENOBUFS, 1), WAY(K_ACCEPT, ENOMEM, 1),
    WAY(K_RECV, EAGAIN, 0), WAY(K_RECV, EINTR, 0), WAY(K_RECV, ECONNRESET, 1),
    WAY(K_RECV, ETIMEDOUT, 0), WAY(K_RECV, ENOMEM, 1),
    WAY(K_SEND, EAGAIN, 0), WAY(K_SEND, EINTR, 0), WAY(K_SEND, EPIPE, 0),
    WAY(K_SEND, ECONNRESET, 1), WAY(K_SEND, ETIMEDOUT, 0), WAY(K_SEND, ENOBUFS, 1),
    WAY(K_SEND, ENOMEM, 0), {K_SEND, F_SHORT, 0, "short"}, {K_SEND, F_HALF, 1, "half"},
    {K_SEND, F_MOST, 0, "most"},
    WAY(K_SHUTDOWN, ENOTCONN, 1),
    WAY(K_POLLER_SET, ENOMEM, 1), WAY(K_POLLER_SET, ENOSPC, 0),
    {K_POLLER_WAIT, F_NOTHING, 0, "EINTR"}, {K_POLLER_WAIT, F_SPURIOUS, 1, "spurious"},
    {K_POLLER_WAIT, F_FEW, 1, "few"},
    WAY(K_RANDOM, EIO, 1), WAY(K_RANDOM, EAGAIN, 0), WAY(K_RANDOM, ENOSYS, 0),
    WAY(K_RESERVE, EMFILE, 1), WAY(K_RESERVE, ENFILE, 0), WAY(K_RESERVE, ENOMEM, 0),
    {K_WALL, F_BACK, 0, "back"}, {K_WALL, F_AHEAD, 0, "ahead"},
    WAY(K_LISTEN, EADDRINUSE, 0), WAY(K_LISTEN, EACCES, 0), WAY(K_LISTEN, EADDRNOTAVAIL, 0),
    WAY(K_LISTEN, EMFILE, 0), WAY(K_LISTEN, ENFILE, 0), WAY(K_LISTEN, ENOBUFS, 0),
    WAY(K_LISTEN, ENOMEM, 0),
    WAY(K_POLLER_OPEN, EMFILE, 0), WAY(K_POLLER_OPEN, ENFILE, 0),
    WAY(K_POLLER_OPEN, ENOMEM, 0),
    WAY(K_WAKE_OPEN, EMFILE, 0), WAY(K_WAKE_OPEN, ENFILE, 0), WAY(K_WAKE_OPEN, ENOMEM, 0)};

/* The calls that may fail, in the order of `ways`; allocations come first. */
typedef struct call_kind {
    const char *name;
    int call; /* -1: allocations */
} call_kind;

static const call_kind kinds[] = {
    {"alloc", -1}, {"accept", K_ACCEPT}, {"recv", K_RECV}, {"send", K_SEND},
    {"shutdown", K_SHUTDOWN}, {"poller_set", K_POLLER_SET}, {"poller_wait", K_POLLER_WAIT},
    {"random", K_RANDOM}, {"reserve", K_RESERVE}, {"wall", K_WALL}, {"listen", K_LISTEN},
    {"poller_open", K_POLLER_OPEN}, {"wake_open", K_WAKE_OPEN}};

typedef struct planned {
    const call_kind *kind; /* NULL: nothing fails */
    const way *way;   /* NULL: an allocation */
    uint32_t k;
    int ever;
} planned;

static planned now_failing;
static uint32_t special_calls; /* until the K-th, of those that are done here */
static int special_fired;

/* What a scenario did without faults, and how many steps that took. */
typedef struct counted {
    uint32_t allocs, calls[K_CALLS], steps;
} counted;

static counted base, found;

/* ---- failures that are not an errno ---- */

static int special_is_due(kernel_call call) {
    if (!run.armed || !now_failing.way || now_failing.way->call != call) return 0;
    if (now_failing.way->error < F_SHORT) return 0;
    special_calls++;
    if (special_calls < now_failing.k) return 0;
    if (special_calls > now_failing.k && !now_failing.ever) return 0;
    if (now_failing.way->error == F_SPURIOUS && (special_calls - now_failing.k) % 2) return 0;
    special_fired = 1;
    return now_failing.way->error;
}

static long failing_send(void *ctx, int fd, const lp_slice *parts, int count) {
    int how = special_is_due(K_SEND), i;
    peer *c = kernel_at(&w.k, fd, K_SOCKET)->stream;
    size_t all = 0, window = c->window, most;
    long n;
    for (i = 0; i < count; i++) all += parts[i].length;
    most = how == F_SHORT ? 1 : how == F_HALF ? (all + 1) / 2 : how == F_MOST ? all - 1 : all;
    if (how && most < c->window) c->window = most;
    n = kernel_send(ctx, fd, parts, count);
    if (how && window == SIZE_MAX) c->window = window;
    else if (how) c->window = window - (n > 0 ? (size_t)n : 0);
    return n;
}

/* What is watched and not ready, as if it were; LP_HANGUP is never told so. */
static int spurious_events(lp_event *events, int max) {
    int i, n = 0;
    for (i = 0; i < w.k.count && n < max; i++) {
        const description *d = &w.k.all[i];
        uint32_t what = d->watched & (LP_READ | LP_WRITE);
        if (d->kind == K_FREE || !what) continue;
        if (d->kind == K_SOCKET) what |= kernel_level(&w.k, d);
        events[n].tag = d->tag;
        events[n++].what = what;
    }
    return n;
}

static int failing_wait(void *ctx, lp_poller *poller, lp_event *events, int max,
                        uint64_t until_us) {
    switch (special_is_due(K_POLLER_WAIT)) {
    case F_NOTHING: kernel_called(&w.k, K_POLLER_WAIT); return 0;
    case F_SPURIOUS:
        kernel_poller_wait(ctx, poller, events, max, until_us);
        return spurious_events(events, max);
    case F_FEW: return kernel_poller_wait(ctx, poller, events, 1, until_us);
    default: return kernel_poller_wait(ctx, poller, events, max, until_us);
    }
}

static uint64_t failing_wall(void *ctx) {
    switch (special_is_due(K_WALL)) {
    case F_BACK: w.k.wall_us -= UINT64_C(86400000000); break;
    case F_AHEAD: w.k.wall_us += UINT64_C(86400000000); break;
    }
    return kernel_wall_us(ctx);
}

/* ---- a scenario's frame ---- */

static int opens(void) {
    lp_result result;
    prepare_world(&w);
    w.os.send = failing_send;
    w.os.poller_wait = failing_wait;
    w.os.wall_us = failing_wall;
    result = lp_create(&w.s, &w.cfg);
    if (result == LP_OK) return 1;
    CHECK(!w.s);
    if (run.clean || !run.armed) COMPLAIN("lp_create returned %d", result);
    if (!now_failing.way) CHECK_INT(result, LP_ERR_NOMEM);
    else if (now_failing.way->error == EADDRINUSE) CHECK_INT(result, LP_ERR_IN_USE);
    else if (now_failing.way->error == EACCES) CHECK_INT(result, LP_ERR_DENIED);
    else CHECK(result == LP_ERR_OS || result == LP_ERR_NOMEM);
    return 0;
}

static void arm(void) {
    const planned *p = &now_failing;
    int i;
    base.allocs = (uint32_t)w.m.calls;
    for (i = 0; i < K_CALLS; i++) base.calls[i] = w.k.calls[i];
    run.armed = 1;
    special_calls = 0;
    special_fired = 0;
    if (!p->kind) return;
    run.clean = 0;
    if (!p->way) {
        w.m.fail_at = w.m.calls + p->k;
        w.m.fail_forever = p->ever;
    } else if (p->way->error < F_SHORT) {
        fault(&w, p->way->call, p->way->error, p->k - 1, p->ever ? UINT32_MAX : 1);
    }
}

static void disarm(void) {
    const planned *p = &now_failing;
    int i, fired = special_fired || w.m.failed;
    CHECK(run.armed);
    found.allocs = (uint32_t)w.m.calls - base.allocs;
    for (i = 0; i < K_CALLS; i++) found.calls[i] = w.k.calls[i] - base.calls[i];
    if (p->way && p->way->error < F_SHORT)
        fired = w.k.faults[p->way->call].times != (p->ever ? UINT32_MAX : 1);
    if (p->kind && !fired) COMPLAIN("the fault was never met");
    memset(w.k.faults, 0, sizeof w.k.faults);
    w.m.fail_at = 0;
    run.armed = 0;
    w.k.fd_limit = 0;
}

/* The server is there: everybody is judged, it serves, and it ends with nothing left. */
static void end_serving(void) {
    peer *p;
    for (p = w.peers; p; p = p->next) widen(p, SIZE_MAX);
    pass(&w, 600 + run.patience_ms);
    judge_all();
    run.clean = 1;
    catch_up();
    everybody_leaves();
    check_serves();
    catch_up();
    everybody_leaves();
    audit();
    check_world(&w);
}

static void end_stopped(void) {
    if (w.s) judge_all();
    if (w.s) check_world(&w);
}

static void run_scenario(const scenario *s) {
    memset(&w, 0, sizeof w);
    memset(&run, 0, sizeof run);
    run.clean = 1;
    s->run();
    disarm();
    if (!w.s && !run.stopping) { /* it could not be created; and now it can */
        CHECK_INT(w.m.blocks, 0);
        CHECK_INT(kernel_open_count(&w.k, K_FREE), 0);
        run.clean = 1;
        opens();
    }
    if (run.stopping) end_stopped();
    else end_serving();
    found.steps = w.k.calls[K_POLLER_WAIT];
    lp_destroy(w.s);
    w.s = NULL;
    CHECK_INT(w.m.blocks, 0);
    CHECK_INT(w.m.bytes, 0);
    CHECK_INT(kernel_open_count(&w.k, K_FREE), 0);
    free_world(&w);
}

/* ---- the sweep ---- */

/* What the children tell. A child that dies has left what it was doing. */
typedef struct shared_state {
    int told;
    counted clean;
    planned doing;
    uint32_t kind, done; /* what is behind us: kinds, and faults of the next one */
    uint64_t runs[LPI_COUNT(kinds) + 1]; /* the last: without a fault            */
} shared_state;

static shared_state *shared;
static unit_test this_test;
static char this_name[200];

static struct {
    uint64_t scenarios, allocs, alloc_runs, calls, call_runs;
    int passed, failed;
} totals;

static void name_run(const scenario *s) {
    const planned *p = &now_failing;
    if (!p->kind) sprintf(this_name, "%s clean", s->name);
    else if (!p->way)
        sprintf(this_name, "%s alloc %u %s", s->name, p->k, p->ever ? "ever" : "once");
    else
        sprintf(this_name, "%s %s %u %s%s", s->name, p->kind->name, p->k, p->way->name,
                p->ever ? " ever" : "");
    this_test.name = this_name;
    unit_current = &this_test;
    unit_random_state = unit_seed;
}

static void run_planned(const scenario *s, planned p) {
    now_failing = p;
    name_run(s);
    shared->doing = p;
    run_scenario(s);
    shared->runs[p.kind ? (size_t)(p.kind - kinds) : LPI_COUNT(kinds)]++;
    if (!p.kind) shared->clean = found;
    else if (found.steps > 3 * shared->clean.steps + 1200)
        COMPLAIN("%u steps, and %u without a fault", found.steps, shared->clean.steps);
}

static uint32_t sites_of(const call_kind *kind) {
    return kind->call < 0 ? shared->clean.allocs : shared->clean.calls[kind->call];
}

/* Every fault of the kind that is not behind us. */
static void sweep_kind(const scenario *s, const call_kind *kind, uint32_t divide) {
    uint32_t at = 0, k, skip = shared->done;
    size_t i, count = kind->call < 0 ? 1 : LPI_COUNT(ways);
    for (k = 1; k <= sites_of(kind); k++)
        for (i = 0; i < count; i++) {
            planned p = {kind, kind->call < 0 ? NULL : &ways[i], k, ONCE};
            int twice = !p.way || p.way->ever;
            if (p.way && (int)p.way->call != kind->call) continue;
            for (; p.ever <= twice; p.ever++, at++) {
                if (at < skip || (at + (uint32_t)(s - scenarios)) % divide) continue;
                shared->done = at + 1;
                run_planned(s, p);
            }
        }
}

static const planned nothing = {NULL, NULL, 0, 0};

static void sweep(const scenario *s, uint32_t divide) {
    if (shared->kind == 0 && shared->done == 0) run_planned(s, nothing);
    for (; shared->kind < LPI_COUNT(kinds); shared->kind++, shared->done = 0)
        sweep_kind(s, &kinds[shared->kind], divide);
}

/* 0, or the child has failed; where is in shared->doing. */
static int in_child(const scenario *s, uint32_t divide) {
    int status = 0;
    pid_t child;
    fflush(stdout);
    *unit_told = 0;
    child = fork();
    if (child == 0) {
        alarm(unit_environment("UNIT_SECONDS", 300));
        sweep(s, divide);
        fflush(stdout);
        exit(0); /* here the sanitizers look for leaks */
    }
    if (child < 0 || waitpid(child, &status, 0) < 0) {
        perror("fork");
        exit(1);
    }
    if (!status) return 0;
    now_failing = shared->doing;
    name_run(s);
    if (!*unit_told && WIFSIGNALED(status))
        printf("FAIL %s: died of signal %d%s\n", this_name, WTERMSIG(status),
               WTERMSIG(status) == SIGABRT ? " (an assertion)" : "");
    else if (!*unit_told)
        printf("FAIL %s: exit code %d; what was found stands above\n", this_name,
               WEXITSTATUS(status));
    printf("     build/faults %s\n", this_name);
    return 1;
}

enum { TOLD = 3 }; /* failures of one kind and scenario */

/* A child that fails is followed by one that begins behind the fault. */
static int sweep_in_children(const scenario *s, uint32_t divide, int *failures) {
    while (in_child(s, divide)) {
        if (!shared->doing.kind) return -1;
        if (shared->kind == LPI_COUNT(kinds)) return -1; /* when it was over */
        if (++failures[shared->kind] < TOLD) continue;
        shared->kind++;
        shared->done = 0;
    }
    return 0;
}

static void test_scenario(const scenario *s, uint32_t divide) {
    int failures[LPI_COUNT(kinds)] = {0}, failed = 0;
    uint64_t runs = 0, calls = 0;
    size_t i;
    memset(shared, 0, sizeof *shared);
    totals.scenarios++;
    if (sweep_in_children(s, divide, failures)) failed = 1, totals.failed++;
    else totals.passed++;
    for (i = 0; i < LPI_COUNT(kinds); i++) {
        uint32_t sites = sites_of(&kinds[i]);
        if (!sites) continue;
        if (failures[i]) failed = 1, totals.failed++;
        else totals.passed++;
        if (i) calls += sites;
        runs += shared->runs[i];
        *(i ? &totals.call_runs : &totals.alloc_runs) += shared->runs[i];
    }
    totals.allocs += shared->clean.allocs;
    totals.calls += calls;
    printf("%s %s: %u allocations, %lu calls, %lu runs\n", failed ? "FAIL" : "ok", s->name,
           shared->clean.allocs, (unsigned long)calls, (unsigned long)runs);
}

/* ---- the command line ---- */

static const scenario *scenario_named(const char *name) {
    size_t i;
    for (i = 0; i < LPI_COUNT(scenarios); i++)
        if (!strcmp(scenarios[i].name, name)) return &scenarios[i];
    return NULL;
}

static int usage(void) {
    puts("faults [PART]\nfaults SCENARIO clean\nfaults SCENARIO alloc K once|ever\n"
         "faults SCENARIO recv K ECONNRESET [ever]\nfaults --list");
    return 2;
}

/* SCENARIO KIND K HOW [ever] */
static int planned_from(int argc, char **argv, planned *out) {
    size_t i;
    memset(out, 0, sizeof *out);
    if (argc == 1 && !strcmp(argv[0], "clean")) return 0;
    if (argc < 3) return -1;
    for (i = 0; i < LPI_COUNT(kinds); i++)
        if (!strcmp(kinds[i].name, argv[0])) out->kind = &kinds[i];
    out->k = (uint32_t)strtoul(argv[1], NULL, 10);
    out->ever = !strcmp(argv[argc - 1], "ever");
    if (!out->kind || !out->k) return -1;
    if (out->kind->call < 0) return 0;
    for (i = 0; i < LPI_COUNT(ways); i++)
        if ((int)ways[i].call == out->kind->call && !strcmp(ways[i].name, argv[2]))
            out->way = &ways[i];
    return out->way ? 0 : -1;
}

static int run_one(int argc, char **argv) {
    const scenario *s = scenario_named(argv[0]);
    planned p;
    if (!s || planned_from(argc - 1, argv + 1, &p)) return usage();
    run_planned(s, nothing);
    run_planned(s, p);
    printf("ok %s\n1 passed, 0 failed, 0 skipped\n", this_name);
    return 0;
}

int main(int argc, char **argv) {
    uint32_t divide = unit_environment("FAULTS_DIVIDE", 1);
    size_t i;
    unit_seed = unit_environment("SEED", 1);
    unit_last = &this_test.next;
    unit_prepare();
    shared = (shared_state *)mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return perror("mmap"), 1;
    if (argc > 2) return run_one(argc - 1, argv + 1);
    for (i = 0; i < LPI_COUNT(scenarios); i++) {
        if (argc == 2 && !strcmp(argv[1], "--list")) puts(scenarios[i].name);
        else if (argc < 2 || strstr(scenarios[i].name, argv[1]))
            test_scenario(&scenarios[i], divide ? divide : 1);
    }
    printf("%lu scenarios; %lu allocations, each failed once and from then on (%lu runs); "
           "%lu system calls, each with every errno (%lu runs)\n",
           (unsigned long)totals.scenarios, (unsigned long)totals.allocs,
           (unsigned long)totals.alloc_runs, (unsigned long)totals.calls,
           (unsigned long)totals.call_runs);
    printf("%d passed, %d failed, 0 skipped\n", totals.passed, totals.failed);
    return totals.failed != 0;
}
