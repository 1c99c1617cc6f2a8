/* threads.h: the threads of the simulated world, of which one runs at a time.

   What longpoll.h takes for pthread and for atomics is replaced here, before it is included. A
   thread is a stack of its own. It runs until it waits (for the poller, a mutex, another
   thread), or until the seed has another one go on: at any system call, hook, mutex or atomic.
   So the seed decides in which order everything happens, and the same seed does so again.

   Who goes on, and how time moves, is decided in schedule.h, by the first of the threads: the
   world itself, which also acts for the network and the clients. */

#ifndef THREADS_H
#define THREADS_H

#include <pthread.h>
#include <setjmp.h>
#include <ucontext.h>

typedef struct sim_mutex {
    struct thread *owner;
    int made;
} sim_mutex;

typedef int sim_thread; /* an index of threads[] */

static int sim_mutex_init(sim_mutex *m);
static void sim_mutex_destroy(sim_mutex *m);
static void sim_mutex_lock(sim_mutex *m);
static void sim_mutex_unlock(sim_mutex *m);
static int sim_thread_create(sim_thread *out, void *(*run)(void *), void *ctx);
static void sim_thread_join(sim_thread t);
static sim_thread sim_thread_self(void);
static int sim_setcancelstate(int state, int *was);
static void sim_touch(const uint32_t *value);

#define pthread_mutex_t sim_mutex
#define pthread_mutex_init(m, attributes) sim_mutex_init(m)
#define pthread_mutex_destroy(m) sim_mutex_destroy(m)
#define pthread_mutex_lock(m) sim_mutex_lock(m)
#define pthread_mutex_unlock(m) sim_mutex_unlock(m)
#define pthread_t sim_thread
#define pthread_create(t, attributes, run, ctx) sim_thread_create(t, run, ctx)
#define pthread_join(t, out) sim_thread_join(t)
#define pthread_self() sim_thread_self()
#define pthread_detach(t) ((void)(t)) /* nobody looks a name up here */
#define pthread_setcancelstate(state, was) sim_setcancelstate(state, was)
#define __atomic_add_fetch(value, n, order) (sim_touch(value), *(value) += (n))
#define __atomic_sub_fetch(value, n, order) (sim_touch(value), *(value) -= (n))
#define __atomic_load_n(value, order) (sim_touch(value), *(value))
#define __atomic_store_n(value, to, order) (sim_touch(value), (void)(*(value) = (to)))

enum { THREADS = 7, LOOPS = 4, FIRST_LOOP = 1, FIRST_OTHER = FIRST_LOOP + LOOPS };

enum { PLAIN = 12, CHANNELS = 800, CONNS = 992 }; /* PLAIN: channels with names of their own */

/* Addresses, by their last byte: six, a proxy's, and that of those who send garbage. */
enum { A_LAST = 6, A_PROXY, A_GARBAGE, ADDRESSES };

typedef enum thread_state {
    IDLES, /* it has nothing to do, or is over                */
    RUNS,  /* it could go on                                  */
    WAITS, /* in poller_wait, until `deadline_ns` at most     */
    LOCKS, /* for a mutex                                     */
    JOINS  /* for another thread's end                        */
} thread_state;

/* The store, as it stood when a loop decided what to answer. */
typedef struct stored {
    uint32_t count; /* of messages that were ever published    */
    struct { uint64_t epoch, last, floor; uint32_t rechecks; } at[CHANNELS];
} stored;

/* Who was parked when a poll was refused. */
typedef struct refusal {
    uint32_t waiters, on_channel[CHANNELS];
    struct { uint32_t name; uint8_t address; } parked[CONNS];
} refusal;

/* A reply to a poll that was parked, whose delay is not measured yet. */
typedef struct delayed {
    uint32_t conn;
    uint64_t appended_us; /* of its first message */
} delayed;

typedef struct thread {
    /* for as long as the process lives */
    jmp_buf here;
    ucontext_t start;
    int started;
    char *stack;
    size_t stack_size;
    void *fake; /* ASan's */
    /* of this world */
    thread_state state;
    int slot;             /* of its loop, or -1                                */
    int taken;            /* created, not joined yet                           */
    int low;              /* it goes on only if nobody else can                */
    int cancel;           /* its pthread_setcancelstate                        */
    void *(*run)(void *);
    void *ctx;
    sim_mutex *mutex, *held[3];
    uint32_t held_count;
    int joins;
    uint64_t until_ns;    /* not before then: it is slow                       */
    uint64_t deadline_ns; /* of its wait                                       */
    /* of this step, or of what another thread does at once */
    int busy, napped, blocked;
    uint64_t step_ns;     /* when it began                                     */
    uint64_t wake_ns;     /* when it should have                               */
    uint32_t excuses;     /* faults                                            */
    uint32_t channels_most, connections_most;
    uint64_t pinned_most, pinned_most_of[ADDRESSES], partial_most_of[ADDRESSES];
    uint32_t partial_over;     /* the budget was spent: bit 0; an address's share: its bit */
    uint32_t connections_full; /* an address had all the connections it may: its bit       */
    uint64_t noted;            /* M.spendings when these five were brought up to date      */
    /* progress */
    uint64_t progress, idle_progress;
    uint32_t idle_steps, nap_steps;
    /* what it has seen under the hub's mutex */
    uint64_t last_wall_us[2];
    uint32_t excuses_taken; /* these when it took the mutex                    */
    uint64_t refused;
    uint32_t recipients;
    uint64_t waiters, partial, pinned;
    stored reply;
    refusal refusal;
    delayed delayed[32];
    uint32_t delayed_count;
    /* administration */
    uint64_t releases;    /* of the hub's mutex by this thread                 */
    uint64_t others;      /* and by all others, at its last one                */
    int rechecks;         /* 1 + the channel that it rechecks                           */
    int deletes, deleted; /* 1 + the channel that it is to delete; that it did */
    const void *handed;   /* the connection whose client was handed messages just now */
} thread;

static thread threads[THREADS];
static thread *cur = threads;

/* ---- stacks ---- */

#if defined(__SANITIZE_ADDRESS__)
void __sanitizer_start_switch_fiber(void **fake, const void *stack, size_t size);
void __sanitizer_finish_switch_fiber(void *fake, const void **stack, size_t *size);
enum { STACK = 1 << 20 };
#else
#define __sanitizer_start_switch_fiber(fake, stack, size) ((void)0)
#define __sanitizer_finish_switch_fiber(fake, stack, size) ((void)0)
enum { STACK = 1 << 18 };
#endif

static void thread_switch(thread *to)
{
    thread *from = cur;
    cur = to;
    __sanitizer_start_switch_fiber(&from->fake, to->stack, to->stack_size);
    if (!_setjmp(from->here)) {
        if (to->started) _longjmp(to->here, 1);
        to->started = 1;
        setcontext(&to->start);
    }
    __sanitizer_finish_switch_fiber(from->fake, NULL, NULL);
}

static void thread_over(thread *t);

static void thread_main(void)
{
    const void *stack = NULL;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(NULL, &stack, &size);
    if (!threads->stack) { /* the world's own */
        threads->stack = (char *)(uintptr_t)stack;
        threads->stack_size = size;
    }
    for (;;) {
        thread *t = cur;
        t->run(t->ctx);
        thread_over(t);
        thread_switch(threads);
    }
}

static void thread_make(thread *t, char *stack)
{
    t->stack = stack;
    t->stack_size = STACK;
    if (getcontext(&t->start)) abort();
    t->start.uc_stack.ss_sp = t->stack;
    t->start.uc_stack.ss_size = STACK;
    makecontext(&t->start, thread_main, 0);
}

static void threads_boot(void)
{
    static char stacks[THREADS - 1][STACK];
    int i;
    threads->started = 1;
    for (i = 0; i < THREADS; i++) {
        thread *t = &threads[i];
        memset(&t->state, 0, sizeof *t - offsetof(thread, state));
        t->state = IDLES;
        t->slot = -1;
        if (i && !t->stack) thread_make(t, stacks[i - 1]);
    }
    cur = threads;
}

#endif /* THREADS_H */
