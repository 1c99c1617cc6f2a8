/* schedule.h: which thread goes on, and when time moves.

   The world takes its turn whenever a thread stops: it lets happen what is due, and picks one of
   the threads that could go on, by the seed. Only when none could, time moves to the next thing
   that happens or to the next deadline. A thread that could go on may be left standing all the
   same for some time, within bounds: it is slow. */

#ifndef SCHEDULE_H
#define SCHEDULE_H

static uint64_t steps_of[LOOPS + 1], nested_of[LOOPS + 1], worlds_of[LOOPS + 1];
static uint64_t preemptions, contentions, slow_threads, job_counts[J_KINDS];

static const char *const job_names[J_KINDS] = {"publish amid", "publish", "publish to all", "arrive",
                                               "administer", "answer later", "stop"};

/* A point where another thread may go on. */
static void preempt(void)
{
    if (cur == threads || !K.preempts || --K.preempt_in) return;
    K.preempt_in = between(1, 2 * K.preempts - 1);
    preemptions++;
    if (one_in(3 + 60 / K.preempts)) K.jobs[J_ONE]++;
    cur->low = one_in(4);
    if (K.starve_us && one_in(16)) {
        cur->until_ns = K.now_ns + (uint64_t)below(K.starve_us) * 1000;
        slow_threads++;
    }
    thread_switch(threads);
}

/* ---- mutexes, atomics, threads ---- */

static int sim_mutex_init(sim_mutex *m)
{
    m->owner = NULL;
    m->made = 0;
    if (K.faults && strikes(F_MUTEX)) return ENOMEM;
    m->made = 1;
    return 0;
}

static int sim_setcancelstate(int state, int *was)
{
    *was = cur->cancel;
    cur->cancel = state;
    return 0;
}

static void sim_mutex_destroy(sim_mutex *m)
{
    MUST(m->made && !m->owner, "a mutex is freed that is held, or is none");
    m->made = 0;
}

/* Never more than one at a time. */
static void sim_mutex_lock(sim_mutex *m)
{
    MUST(m->made, "no mutex is locked");
    MUST(m->owner != cur, "a mutex is locked twice");
    MUST(!cur->held_count, "a mutex is locked with another held");
    preempt();
    if (m->owner) contentions++;
    while (m->owner) {
        MUST(cur != threads, "a mutex is held that nobody will release");
        cur->state = LOCKS;
        cur->mutex = m;
        thread_switch(threads);
    }
    m->owner = cur;
    cur->held[cur->held_count++] = m;
    if (S && m == &S->hub.mutex) hub_taken();
}

static void sim_mutex_unlock(sim_mutex *m)
{
    MUST(m->owner == cur && cur->held_count && cur->held[cur->held_count - 1] == m,
         "a mutex is unlocked by another thread than its own");
    if (S && m == &S->hub.mutex) {
        hub_released();
        if (K.preempts && ++hub_checks % 256 == 0) check_hub(&S->hub, 0);
    }
    preempt();
    cur->held_count--;
    m->owner = NULL;
}

static void sim_touch(const uint32_t *value)
{
    preempt();
    (void)value;
}

static sim_thread sim_thread_self(void) { return (sim_thread)(cur - threads); }

static int sim_thread_create(sim_thread *out, void *(*run)(void *), void *ctx)
{
    int i = FIRST_LOOP + 1;
    called_out();
    if (K.faults && strikes(F_THREAD)) return EAGAIN;
    while (threads[i].taken) i++;
    MUST(i < FIRST_OTHER, "too many threads are started");
    threads[i].taken = 1;
    threads[i].run = run;
    threads[i].ctx = ctx;
    threads[i].slot = (int)((lpi_loop *)ctx)->index;
    threads[i].state = RUNS;
    threads[i].until_ns = 0;
    *out = i;
    return 0;
}

/* The thread steps no more, or has done its job. */
static void step_over(thread *t)
{
    if (t->busy) K.step_most_ns = lpi_max64(K.step_most_ns, K.now_ns - t->wake_ns);
    if (t->busy && t->slot >= 0) K.busy--;
    t->busy = 0;
}

static void sim_thread_join(sim_thread t)
{
    called_out();
    step_over(cur);
    MUST(threads[t].taken, "a thread is joined that is none");
    cur->state = JOINS;
    cur->joins = t;
    thread_switch(threads);
    threads[t].taken = 0;
}

static void thread_over(thread *t)
{
    MUST(!t->held_count, "a thread ends with a mutex held");
    MUST(t->slot > 0 || t->cancel == PTHREAD_CANCEL_ENABLE, "a thread can't be cancelled any more");
    step_over(t);
    t->state = IDLES;
}

/* ---- steps ---- */

/* Until something is ready, or the time is up; 0: not at all. */
static void thread_waits(int slot, uint64_t until_ns)
{
    cur->deadline_ns = lpi_max64(until_ns, K.now_ns);
    cur->blocked |= until_ns && !any_ready(slot);
    cur->wake_ns = K.now_ns;
    cur->state = WAITS;
    thread_switch(threads);
}

static void step_ends(void)
{
    if (cur->busy) {
        step_over(cur);
        model_step_ends();
        check_step();
        cur->blocked = cur->napped = 0;
    }
    cur->wake_ns = K.now_ns;
}

static void step_begins(void)
{
    cur->busy = 1;
    steps_of[K.loops]++;
    if (K.busy++) nested_of[K.loops]++;
    cur->step_ns = K.now_ns;
    cur->excuses = 0;
    cur->channels_most = cur->connections_most = 0;
    cur->pinned_most = cur->partial_over = cur->connections_full = 0;
    memset(cur->pinned_most_of, 0, sizeof cur->pinned_most_of);
    memset(cur->partial_most_of, 0, sizeof cur->partial_most_of);
    cur->noted = UINT64_MAX;
}

/* ---- what other threads do ---- */

static void *job(void *kind)
{
    job_counts[(size_t)kind]++;
    switch ((job_kind)(size_t)kind) {
    case J_PUBLISH: publish_happens(); break;
    case J_TIDE: tide_happens(); break;
    case J_ARRIVE: arrive_happens(); break;
    case J_ADMIN: admin_happens(); break;
    case J_LATER: later_happens(); break;
    case J_STOP:
        K.stopping = 1;
        lp_stop(S);
        break;
    default: publish_somewhere(); break;
    }
    return NULL;
}

static void jobs_begin(void)
{
    int i, kind = 0;
    for (i = FIRST_OTHER; i < THREADS && kind < J_KINDS;) {
        thread *t = &threads[i];
        if (!K.jobs[kind]) {
            kind++;
        } else if (t->state != IDLES) {
            i++;
        } else {
            K.jobs[kind]--;
            t->run = job;
            t->ctx = (void *)(size_t)kind;
            t->state = RUNS;
            t->until_ns = 0;
            t->busy = 1;
            t->step_ns = t->wake_ns = K.now_ns;
            t->excuses = t->channels_most = 0;
        }
    }
}

/* ---- turns ---- */

/* When the thread could go on: any time that is past means now. */
static uint64_t could_at(const thread *t)
{
    switch (t->state) {
    case RUNS: return t->until_ns;
    case WAITS:
        if (any_ready(t->slot) || K.leaving == t->slot + 1) return t->until_ns;
        return lpi_max64(t->until_ns, t->deadline_ns);
    case LOCKS: return t->mutex->owner ? UINT64_MAX : t->until_ns;
    case JOINS: return threads[t->joins].state == IDLES ? t->until_ns : UINT64_MAX;
    default: return UINT64_MAX;
    }
}

static void go_on(thread *t)
{
    if (t->state == WAITS) {
        int ready = any_ready(t->slot);
        if (K.starve_us && one_in(128)) {
            t->until_ns = K.now_ns + (uint64_t)below(K.starve_us) * 1000;
            slow_threads++;
            return;
        }
        t->napped |= !ready && t->blocked;
        if (ready) t->wake_ns = lpi_max64(t->wake_ns, K.loops_of[t->slot].since_ns);
        if (!ready || t->deadline_ns < t->wake_ns) t->wake_ns = t->deadline_ns;
        if (t->wake_ns > K.now_ns) t->wake_ns = K.now_ns;
    }
    t->low = 0;
    t->state = RUNS;
    K.unchecked = 1;
    thread_switch(t);
}

/* Nobody can go on before `next_ns`. */
static void time_moves(uint64_t next_ns)
{
    uint64_t happens_ns = K.heap_count ? K.heap[0].ns : UINT64_MAX;
    int i;
    if (K.unchecked && others_rest()) {
        K.unchecked = 0;
        check_sleep();
    }
    if (next_ns == UINT64_MAX && happens_ns == UINT64_MAX) {
        for (i = 1; i < THREADS; i++)
            MUST(threads[i].state != LOCKS, "threads wait for each other for ever");
        MUST(0, "the server would sleep for ever");
    }
    if (happens_ns <= next_ns) {
        if (K.now_ns < happens_ns) K.now_ns = happens_ns;
    } else {
        K.now_ns = next_ns + below(100000);
    }
}

/* Let one thread go on, or time move. */
static void world_turn(void)
{
    thread *able[THREADS];
    uint64_t next_ns = UINT64_MAX;
    uint32_t n = 0, low = 0;
    int i;
    happen_until(K.now_ns);
    jobs_begin();
    for (i = 1; i < THREADS; i++) {
        thread *t = &threads[i];
        uint64_t at = could_at(t);
        if (at < next_ns) next_ns = at;
        if (at > K.now_ns) continue;
        if (t->low && n > low) continue; /* somebody else can */
        if (!t->low && low) n = low = 0;
        able[n++] = t;
        low += (uint32_t)t->low;
    }
    if (n) go_on(able[n == 1 ? 0 : below(n)]);
    else time_moves(next_ns);
}

#endif /* SCHEDULE_H */
