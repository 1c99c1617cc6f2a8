/* kernel.h: the world that the server runs in: what drives the kernel of tests/kernel.h.

   Time is virtual, in nanoseconds. It moves a little with each call and as far as the next
   thing that happens when all threads wait. What happens next (bytes arrive, a client
   acts, somebody publishes) stands in one heap. All that is random comes from one seed.
   Each loop has a poller and a pipe of its own; a descriptor is watched by one of them.

   A connection is two streams of bytes with latencies and a window. Of what the server
   sends only the length travels: the bytes are verified where they are sent (model.h), all
   of a reply at once, since the first send of a reply is given the whole of it.

   Now and then a child process is forked, which holds all descriptors that are open then,
   until it exits. What the server closes meanwhile lives on, unseen by it: with a peer that
   is told nothing unless it was shut down. */

#ifndef SIM_KERNEL_H
#define SIM_KERNEL_H

/* ---- failure: say what, and how to see it again ---- */

static uint64_t world_seed;
static uint64_t event_count;   /* simulated calls, of all worlds  */
static uint64_t world_events;  /* event_count when this one began */
static int worlds_passed, in_world;

static void say_replay(void)
{
    if (in_world)
        printf("FAIL: world %" PRIu64 ", at its event %" PRIu64 " (event %" PRIu64
               " of the run)\n"
               "again: build/sim --events 1 --seed %" PRIu64 " --trace\n"
               "%d passed, 1 failed, 0 skipped\n",
               world_seed, event_count - world_events, event_count, world_seed,
               worlds_passed);
    fflush(stdout);
}

#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 2, 3)))
#endif
static void fail_at(int line, const char *format, ...)
{
    va_list args;
    fflush(stdout);
    printf("FAIL: ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf(" (tests/sim, line %d)\n", line);
    say_replay();
    _exit(1);
}

#define MUST(x, ...) ((x) ? (void)0 : fail_at(__LINE__, __VA_ARGS__))
#define SAME(a, b, what)                                                               \
    MUST((uint64_t)(a) == (uint64_t)(b), "%s: %s is %" PRIu64 ", not %" PRIu64, what, #a, \
         (uint64_t)(a), (uint64_t)(b))

/* ---- randomness: splitmix64 (Steele, Lea, Flood, 2014) ---- */

static uint64_t random_state;

static uint64_t draw(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint32_t below(uint32_t n) { return (uint32_t)((draw() >> 32) * n >> 32); }

static uint32_t between(uint32_t low, uint32_t high) { return low + below(high - low + 1); }

static int one_in(uint32_t n) { return !below(n); }

#define PICK(...)                                                                      \
    (((const uint32_t[]){__VA_ARGS__})[below(sizeof((const uint32_t[]){__VA_ARGS__}) / 4)])

/* ---- what can be made to fail ---- */

typedef enum fault_kind {
    F_EAGAIN, F_EINTR, F_SHORT_READ, F_SHORT_WRITE, F_ECONNRESET, F_EPIPE, F_EMFILE,
    F_ENFILE, F_ENOMEM, F_ENOBUFS, F_ECONNABORTED, F_ALLOC, F_CLOCK, F_STALL, F_EMPTY,
    F_SPURIOUS, F_STALE, F_MISSING, F_POLLER_SET, F_POLLER_WAIT, F_RESERVE, F_RANDOM,
    F_SHUTDOWN, F_CREATE, F_THREAD, F_MUTEX, F_KINDS
} fault_kind;

static const char *const fault_names[F_KINDS] = {
    "EAGAIN", "EINTR", "short read", "short write", "ECONNRESET", "EPIPE", "EMFILE",
    "ENFILE", "ENOMEM", "ENOBUFS", "ECONNABORTED", "allocation", "clock jump", "stall",
    "empty wait", "spurious wake-up", "stale event", "missing wake-up", "poller_set",
    "poller_wait", "reserve", "random", "shutdown", "create", "thread", "mutex"};

static uint64_t fault_counts[F_KINDS];

/* ---- the state ---- */

enum {
    FDS = CONNS + 32,    /* descriptors of the server                            */
    CHILDREN = 4, GONE = 32, STREAM = 32768, REQUESTS = 64, PLACES = 4, HEAP = 65536,
    EVENTS = 64          /* of a stream, that its client has not read yet      */
};

typedef enum request_kind {
    R_POLL, R_STREAM, R_PUBLISH, R_ECHO, R_OTHER, /* R_OTHER: `expect` tells the status */
    R_DELETE, R_CHANNEL, R_LIST, R_RECEIPTS, R_KINDS
} request_kind;

/* One channel of one poll: what was claimed, how the store stood when the server had read
   the request, and what was answered. */
typedef struct place {
    uint16_t channel;
    uint8_t kind, reason;          /* an lpi_requested_kind, an lpi_reason */
    uint64_t epoch, seq;           /* claimed; or microseconds         */
    uint64_t was_epoch, was_last, was_floor;
    uint64_t got_first;   /* SEQ of the first message, if there are any            */
    uint32_t got_holes;   /* messages that are left out behind it              */
    uint32_t was_deletions, was_rechecks;
    uint32_t asked;       /* the channel's rechecks when its access was asked for last */
    uint64_t got_epoch, got_seq;
    uint32_t got_count;
} place;

/* An event of a stream: where it ends, and the cursor after it. */
typedef struct stream_event {
    uint32_t end;
    struct { uint64_t epoch, seq; } at[PLACES];
} stream_event;

typedef struct request {
    uint8_t kind, count, basic, bodiless, got, replied, done, closes, more;
    uint8_t early;        /* it may be refused before it is read whole         */
    uint8_t reset_told;   /* to a stream                                       */
    uint8_t rechecked;    /* it was answered with nothing, for that            */
    uint8_t asks_close;
    uint16_t limit, status, expect;
    uint32_t wait_ms;
    uint32_t end;         /* in the stream from the client                     */
    uint32_t reply_end;   /* in the stream to it                               */
    uint32_t payload;     /* of what is published or echoed; the first of an
                             array; the message whose receipts are asked for   */
    uint32_t name;        /* of the client that asks, or 0                     */
    uint64_t others;      /* how often other threads than the loop's had had the hub's
                             mutex when it was got                             */
    uint64_t got_ns;      /* when the step began in which it was read whole    */
    uint64_t ends_ns;     /* when its token ends; 0: not while it matters      */
    uint64_t timestamp_us, bytes;
    uint64_t appended_us;     /* of the first message in its reply; 0: none        */
    place at[PLACES];
} request;

/* What a connection has beside what the kernel knows of it. */
#define KERNEL_STREAM                                                                   \
    int client;           /* -1: gone                                          */       \
    uint32_t generation;                                                                \
    uint32_t name;        /* of the client that asks, or 0                     */       \
    uint8_t speaks;       /* the address that it asks for                      */       \
    uint32_t spoken;      /* those that it ever did, a bit each: where it may count */  \
    uint8_t used, queued, wild, faulty; /* queued: 2 on the way, 1 in the queue */      \
    uint8_t known;        /* a loop has made a record of it                    */       \
    uint8_t parked;       /* the poll that is being answered was               */       \
    uint8_t later;        /* 1 + the index of its deferral; 0: none            */       \
    uint8_t streams;      /* 1: a stream was asked for; 2: it has begun; 3: its       \
                             client does not remember all of it; 4: it was refused */  \
    uint32_t event_at, event_count;                                                     \
    stream_event events[EVENTS];                                                        \
    /* from the client: in_length <= sent */                                            \
    uint32_t sent;                                                                      \
    uint8_t fin_said, end_read;                                                         \
    uint64_t in_ns;       /* when the last of it arrives                       */       \
    /* to the client: cumulative counts */                                              \
    uint32_t out_sent, out_arrived, out_read;                                           \
    uint8_t closing;                                                                    \
    uint64_t out_ns;                                                                    \
    uint64_t active_ns, first_ns, pend_ns, reply_ns, shut_ns, accept_ns;                \
    /* of a reply that was sent in part */                                              \
    char *pend;                                                                         \
    uint32_t pend_at, pend_length, pend_size, reply_size;                               \
    uint64_t pend_born_us; /* of its first message, if its delay is measured   */       \
    /* of a reply: its messages, and for whom they are */                               \
    uint32_t *carried;                                                                  \
    uint32_t carried_count, carried_room, carried_name;                                 \
    /* requests: cumulative counts, modulo REQUESTS */                                  \
    uint32_t asked, got, replied, done;                                                 \
    uint32_t blank;       /* where the empty line ends that was said last      */       \
    request requests[REQUESTS];                                                         \
    char bytes[STREAM];

#define KERNEL_OWN
#define KERNEL_RULE(x, what) MUST(x, "%s", what)
#define KERNEL_UNUSED __attribute__((unused))
#include "../kernel.h"

typedef stream conn;

typedef enum happening_kind {
    H_IN, H_FIN, H_RST, H_OUT, H_OUT_FIN, H_OUT_RST, H_CONNECT, H_CLIENT, H_JOB, H_FORK,
    H_EXIT
} happening_kind;

/* What other threads do. */
typedef enum job_kind {
    J_ONE, J_PUBLISH, J_TIDE, J_ARRIVE, J_ADMIN, J_LATER, J_STOP, J_KINDS
} job_kind;

typedef struct happening {
    uint64_t ns;
    uint32_t order, value, generation;
    uint16_t index;
    uint8_t kind;
} happening;

static struct machine {
    uint64_t now_ns, wall_us;
    uint64_t step_most_ns, stalled_ns;
    struct {                 /* by loop                                        */
        uint64_t since_ns;   /* something has been ready                       */
        uint32_t gone[GONE], gone_count; /* tags that were taken out last      */
        uint32_t known;      /* connections                                    */
    } loops_of[LOOPS];
    uint32_t fork_us[2];     /* between two forks, and how long a child lives, at most */
    uint32_t rates[F_KINDS]; /* of 2^32                                        */
    int faults;              /* whether there are any                          */
    uint32_t alloc_burst;    /* that many allocations more fail                */
    uint32_t alloc_skip;     /* and one after so many, if it is not 0          */
    uint32_t latency_us[2], piece, joined;
    /* threads: see schedule.h */
    uint32_t loops;
    uint32_t preempts, preempt_in; /* every so many points where it could be; 0: never */
    uint32_t starve_us;            /* a thread may be so slow; 0: never           */
    uint32_t busy;                 /* loops within a step                         */
    uint32_t jobs[J_KINDS];        /* that nobody has begun yet                   */
    uint32_t tides;                /* that have risen                             */
    int to_all;                    /* the next request publishes to all channels  */
    int leaving;                   /* 1 + the slot whose poller fails, so that all end */
    int stopping;
    lp_result result;              /* of what ran the server                      */
    uint64_t epochs_drawn;
    uint64_t memory_bytes, memory_blocks;
    uint32_t heap_count, order;
    int conn_top, conn_free; /* above all connections that were ever used; and
                                not above any that could be used             */
    int unchecked;           /* a thread has run since check_sleep             */
    uint32_t looked_at;      /* by check_sleep, all in all                     */
    /* what is blank where it is not in use */
    happening heap[HEAP];
    conn conns[CONNS];
} K;

static kernel OS;

static uint64_t call_counts[K_CALLS]; /* of all worlds */

static lp_server *S;
static int tracing;

static void preempt(void);
static void thread_waits(int slot, uint64_t until_ns);
static void step_ends(void);
static void step_begins(void);
static void model_got(conn *c, request *r);
static int model_reply(conn *c, const char *text, size_t length);
static void model_sent(conn *c);
static void model_clock(uint64_t now_us);
static void model_closing(conn *c);
static void model_notes_waiters(void);
static void client_happens(int client, uint32_t generation);
static void client_hears(conn *c);
static void client_lost(conn *c, int reset);

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
static void trace(const char *format, ...)
{
    va_list args;
    if (!tracing) return;
    printf("%10" PRIu64 " %14" PRIu64 " %d ", event_count - world_events, K.now_ns,
           (int)(cur - threads));
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static uint64_t now_ms(void) { return K.now_ns / 1000000; }

/* The longest that a step, or what another thread does at once, has taken or takes. */
static uint64_t late_ns(void)
{
    uint64_t most = K.step_most_ns;
    int i;
    for (i = 1; i < THREADS; i++)
        if (threads[i].busy) most = lpi_max64(most, K.now_ns - threads[i].wake_ns);
    return most;
}

/* Whether to fail in this way now. */
static int strikes(fault_kind kind)
{
    if (!K.rates[kind] || (uint32_t)(draw() >> 32) >= K.rates[kind]) return 0;
    fault_counts[kind]++;
    cur->excuses++;
    cur->progress++;
    return 1;
}

/* The thread calls somebody who may take their time: not with a mutex held. */
static void called_out(void)
{
    MUST(!cur->held_count, "a call is made with a mutex held");
    preempt();
}

/* It stands still for a while: alone, or with the whole machine. */
static void stall(void)
{
    uint64_t ns = (uint64_t)between(1, 40) * 1000000;
    K.stalled_ns += ns;
    if (cur == threads || one_in(3)) {
        K.now_ns += ns;
        return;
    }
    cur->until_ns = K.now_ns + ns;
    thread_switch(threads);
}

static void kernel_called(kernel *k, kernel_call kind)
{
    /* A thread of the user's is cancelled at any call but of a clock, unless that is deferred.
       The library's own cannot be: nobody has their names. */
    (void)k;
    MUST(cur->slot > 0 || kind <= K_WALL || cur->cancel == PTHREAD_CANCEL_DISABLE,
         "a thread that is cancelled here leaves something behind");
    if (kind == K_WALL || kind == K_RANDOM) preempt();
    else called_out();
    if (cur->slot >= 0 && cur->busy && cur != threads) model_notes_waiters();
    event_count++;
    call_counts[kind]++;
    if (kind == K_CLOSE) cur->progress++;
    K.now_ns += 80 + (draw() & 511);
    if (K.faults && kind != K_WALL && strikes(F_STALL)) stall();
}

/* ---- memory: each block knows its size, moves when it is resized, and is spoilt ---- */

#define MAGIC UINT64_C(0x6c6f6e67706f6c6c)

static void *sim_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    uint64_t *block = NULL, *was = (uint64_t *)ptr;
    (void)ctx;
    cur->progress++;
    if (was) {
        was -= 2;
        MUST(was[0] == MAGIC, "a block is freed that is not one, or not any more");
        MUST(was[1] == old_size, "a block of %" PRIu64 " bytes is said to have %zu", was[1],
             old_size);
    } else {
        SAME(old_size, 0, "allocating");
    }
    if (new_size > old_size && K.alloc_skip && !--K.alloc_skip) {
        K.alloc_burst++;
        K.alloc_skip = K.faults ? below(200) : 0;
    }
    if (new_size > old_size && (K.alloc_burst || (K.faults && strikes(F_ALLOC)))) {
        if (K.alloc_burst) {
            K.alloc_burst--;
            cur->excuses++;
            fault_counts[F_ALLOC]++;
        } else if (one_in(4)) {
            K.alloc_burst = between(1, 12);
        }
        trace("memory %zu -> %zu fails", old_size, new_size);
        return NULL;
    }
    if (new_size) {
        block = (uint64_t *)malloc(new_size + 16);
        MUST(block, "the machine has no memory");
        block[0] = MAGIC;
        block[1] = new_size;
        block += 2;
        K.memory_bytes += new_size;
        K.memory_blocks++;
        if (was) memcpy(block, was + 2, old_size < new_size ? old_size : new_size);
        if (new_size > old_size)
            memset((char *)block + old_size, 0xa5,
                   new_size - old_size < 256 ? new_size - old_size : 256);
    }
    if (was) {
        K.memory_bytes -= old_size;
        K.memory_blocks--;
        memset(was, 0xdd, old_size + 16 < 512 ? old_size + 16 : 512);
        free(was);
    }
    return block;
}

/* ---- the heap of what happens ---- */

static int sooner(const happening *a, const happening *b)
{
    return a->ns != b->ns ? a->ns < b->ns : a->order < b->order;
}

static void happen(uint64_t ns, happening_kind kind, uint32_t index, uint32_t generation,
                   uint32_t value)
{
    happening h;
    uint32_t i = K.heap_count++;
    MUST(i < HEAP, "the simulator's heap is full");
    h.ns = ns;
    h.order = K.order++;
    h.value = value;
    h.generation = generation;
    h.index = (uint16_t)index;
    h.kind = (uint8_t)kind;
    while (i && sooner(&h, &K.heap[(i - 1) / 2])) {
        K.heap[i] = K.heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    K.heap[i] = h;
}

static happening heap_pop(void)
{
    happening top = K.heap[0], last = K.heap[--K.heap_count];
    uint32_t i = 0, child;
    while ((child = i * 2 + 1) < K.heap_count) {
        if (child + 1 < K.heap_count && sooner(&K.heap[child + 1], &K.heap[child])) child++;
        if (!sooner(&K.heap[child], &last)) break;
        K.heap[i] = K.heap[child];
        i = child;
    }
    K.heap[i] = last;
    return top;
}

/* ---- descriptors ---- */

/* A connection's descriptor, which no loop may touch but its own; likewise a pipe's. */
static void kernel_used(kernel *k, const description *d)
{
    (void)k;
    MUST(d->slot < 0 || d->slot == cur->slot || cur == threads,
         "loop %d uses descriptor %d of loop %d", cur->slot, d->fd, d->slot);
    if (d->signalled) cur->progress++; /* a pipe is cleared, for a reason */
}

static void kernel_exhausted(kernel *k)
{
    (void)k;
    fault_counts[F_EMFILE]++;
    cur->excuses++;
}

static int any_ready(int slot) { return OS.pollers[slot].count != 0; }

static void kernel_readied(kernel *k, int slot)
{
    (void)k;
    K.loops_of[slot].since_ns = K.now_ns;
}

/* ---- connections, from outside ---- */

static uint64_t latency_ns(void)
{
    return (uint64_t)between(K.latency_us[0], K.latency_us[1]) * 1000;
}

static uint32_t conn_index(const conn *c) { return (uint32_t)(c - K.conns); }

static conn *conn_open(int client, uint32_t address, uint32_t window)
{
    int i = K.conn_free;
    conn *c;
    if (OS.listening < 0) return NULL;
    while (i < CONNS && K.conns[i].used) i++;
    if (i == CONNS) return NULL;
    K.conn_free = i + 1;
    if (i >= K.conn_top) K.conn_top = i + 1;
    c = &K.conns[i];
    {
        char *pend = c->pend;
        uint32_t *carried = c->carried, room = c->carried_room;
        uint32_t size = c->pend_size, generation = c->generation + 1;
        memset(c, 0, offsetof(conn, requests));
        c->pend = pend;
        c->pend_size = size;
        c->carried = carried;
        c->carried_room = room;
        c->generation = generation;
    }
    c->used = 1;
    c->fd = c->description = -1;
    c->in = c->bytes;
    c->in_size = STREAM;
    c->client = client;
    c->window = window;
    c->speaks = (uint8_t)address;
    c->spoken = 1u << address;
    memset(c->address.bytes + 10, 0xff, 2);
    c->address.bytes[12] = 127;
    c->address.bytes[15] = (uint8_t)address;
    c->address.port = (uint16_t)(40000 + i);
    c->in_ns = K.now_ns + latency_ns();
    c->queued = 2; /* on the way */
    happen(c->in_ns, H_CONNECT, (uint32_t)i, c->generation, 0);
    return c;
}

/* Of a connection that is known to it: its loop, and the loop's record. */
static lpi_loop *loop_of(const conn *c)
{
    return &S->loops[OS.all[c->description].slot];
}

static uint32_t index_of(const conn *c) { return OS.all[c->description].tag & LPI_TAG_INDEX; }

static lpi_connection *record_of(const conn *c)
{
    return lpi_connection_at(loop_of(c), index_of(c));
}

static void conn_free_if_unused(conn *c)
{
    if (c->client >= 0 || c->description >= 0 || c->queued) return;
    c->used = 0;
    if ((int)conn_index(c) < K.conn_free) K.conn_free = (int)conn_index(c);
}

/* Tell the client, behind all that was sent: an end, or a reset. */
static void conn_tell(conn *c, happening_kind what)
{
    c->out_ns = (c->out_ns > K.now_ns ? c->out_ns : K.now_ns) + latency_ns();
    if (c->client >= 0) happen(c->out_ns, what, conn_index(c), c->generation, 0);
}

/* Say something; it arrives in pieces, `gap_us` apart at most. 0, or -1: no room. */
static int conn_say(conn *c, const char *bytes, size_t length, uint32_t gap_us)
{
    size_t at = 0;
    if (c->sent - (uint32_t)c->in_at + length > STREAM || K.heap_count + length / 8 + 64 > HEAP)
        return -1;
    while (at < length) {
        size_t n = length - at;
        uint32_t i;
        if (K.piece) {
            uint32_t most = gap_us ? 1 + (uint32_t)length / 4 : K.piece;
            uint32_t cut = between(1, most);
            if (n > cut && K.heap_count < HEAP / 2) n = cut;
        }
        for (i = 0; i < n; i++) c->bytes[(c->sent + i) % STREAM] = bytes[at + i];
        c->sent += (uint32_t)n;
        at += n;
        c->in_ns = c->in_ns > K.now_ns ? c->in_ns : K.now_ns;
        if (gap_us) c->in_ns += (uint64_t)below(gap_us) * 1000;
        else if (c->in_ns < K.now_ns + 1000) c->in_ns += latency_ns();
        else if (!K.joined) c->in_ns += below(2000);
        happen(c->in_ns, H_IN, conn_index(c), c->generation, c->sent);
    }
    return 0;
}

static uint64_t conn_after(const conn *c)
{
    uint64_t ns = K.now_ns + latency_ns();
    return ns > c->in_ns ? ns : c->in_ns + 1;
}

static void conn_finish(conn *c) /* nothing more will be said */
{
    if (c->fin_said) return;
    c->fin_said = 1;
    c->in_ns = conn_after(c);
    happen(c->in_ns, H_FIN, conn_index(c), c->generation, 0);
}

/* The client lets go, by a reset or by an orderly close. */
static void conn_drop(conn *c, int reset)
{
    c->client = -1;
    if (c->description >= 0 || c->queued) {
        if (reset) happen(K.now_ns + latency_ns(), H_RST, conn_index(c), c->generation, 0);
        else conn_finish(c);
    }
    conn_free_if_unused(c);
}

static void conn_break(conn *c) /* it broke on the way: both ends are told */
{
    c->rst = 1;
    c->faulty = 1;
    kernel_refresh_stream(&OS, c);
    happen(K.now_ns + latency_ns(), H_OUT_RST, conn_index(c), c->generation, 0);
}

/* ---- children, and what they hold ---- */

static uint64_t fork_count, held_count; /* of all worlds */

/* Of a listener that is no more: it waited in its queue. */
static void kernel_refused(kernel *k, conn *c)
{
    (void)k;
    c->queued = 0;
    conn_tell(c, H_OUT_RST);
    conn_free_if_unused(c);
}

static void kernel_closing(kernel *k, conn *c)
{
    (void)k;
    trace("close fd %d", c->fd);
    model_closing(c);
    if (c->known) K.loops_of[OS.all[c->description].slot].known--;
}

static void kernel_closed(kernel *k, conn *c)
{
    (void)k;
    if (c->cut) conn_tell(c, H_OUT_RST);
    else if (!c->ended) conn_tell(c, H_OUT_FIN);
    conn_free_if_unused(c);
}

static void child_forks(int child)
{
    kernel_fork(&OS, child);
    fork_count++;
    trace("child %d is forked", child);
    /* Most are over as soon as they run another program. */
    happen(K.now_ns + 1000 + (uint64_t)below(one_in(4) ? K.fork_us[1] : 300) * 1000, H_EXIT,
           (uint32_t)child, 0, 0);
}

static void child_exits(int child)
{
    trace("child %d exits", child);
    kernel_exit(&OS, child);
    happen(K.now_ns + (uint64_t)below(K.fork_us[0]) * 1000, H_FORK, (uint32_t)child, 0, 0);
}

static void happens(const happening *h)
{
    conn *c = &K.conns[h->index];
    if (h->kind == H_CLIENT) {
        client_happens(h->index, h->generation);
        return;
    }
    if (h->kind == H_JOB) {
        K.jobs[h->index]++;
        return;
    }
    if (h->kind == H_FORK || h->kind == H_EXIT) {
        (h->kind == H_FORK ? child_forks : child_exits)(h->index);
        return;
    }
    if (h->generation != c->generation || !c->used) return;
    switch ((happening_kind)h->kind) {
    case H_CONNECT:
        c->queued = 1;
        if (!kernel_connect(&OS, c)) return;
        c->queued = 0;
        c->closed = 1;
        if (c->client >= 0) client_lost(c, 1);
        break;
    case H_IN:
        c->in_length = h->value;
        if (c->ended & LP_READ && c->client >= 0) conn_tell(c, H_OUT_RST);
        break;
    case H_FIN: c->fin = 1; break;
    case H_RST: c->rst = 1; break;
    case H_OUT:
        c->out_arrived = h->value;
        if (c->client >= 0) client_hears(c);
        else c->rst = 1; /* sent to somebody who has closed */
        break;
    case H_OUT_FIN:
        if (c->client >= 0) client_lost(c, 0);
        break;
    case H_OUT_RST:
        if (c->client >= 0) client_lost(c, 1);
        break;
    default: break;
    }
    kernel_refresh_stream(&OS, c);
    conn_free_if_unused(c);
}

static void happen_until(uint64_t ns)
{
    while (K.heap_count && K.heap[0].ns <= ns) {
        happening h = heap_pop();
        happens(&h);
    }
}

/* ---- the calls ---- */

static uint64_t kernel_monotonic_us(void *ctx)
{
    kernel_called((kernel *)ctx, K_MONOTONIC);
    if (cur->delayed_count) model_clock(K.now_ns / 1000);
    return K.now_ns / 1000;
}

static uint64_t kernel_wall_us(void *ctx)
{
    kernel_called((kernel *)ctx, K_WALL);
    if (K.faults && strikes(F_CLOCK)) {
        uint64_t by = (uint64_t)below(1u << between(4, 31));
        if (one_in(2) && by < K.wall_us / 2) K.wall_us -= by;
        else K.wall_us += by;
    }
    cur->last_wall_us[1] = cur->last_wall_us[0];
    return cur->last_wall_us[0] = K.wall_us + K.now_ns / 1000;
}

static int kernel_random(void *ctx, void *bytes, size_t size)
{
    unsigned char *to = (unsigned char *)bytes;
    kernel_called((kernel *)ctx, K_RANDOM);
    if (size == 8) K.epochs_drawn++;
    if (K.faults && strikes(F_RANDOM)) return -EIO;
    while (size--) *to++ = (unsigned char)(draw() >> 40);
    return 0;
}

static int fault_of_accept(void)
{
    if (strikes(F_EMFILE)) return EMFILE;
    if (strikes(F_ENFILE)) return ENFILE;
    if (strikes(F_ENOMEM)) return ENOMEM;
    if (strikes(F_ENOBUFS)) return ENOBUFS;
    if (strikes(F_EINTR)) return EINTR;
    return strikes(F_EAGAIN) ? EAGAIN : 0;
}

static int fault_of_recv(conn *c)
{
    if (strikes(F_EAGAIN)) return EAGAIN;
    if (strikes(F_EINTR)) return EINTR;
    if (strikes(F_ECONNRESET)) conn_break(c);
    if (!strikes(F_ENOMEM)) return 0;
    c->faulty = 1;
    return ENOMEM;
}

static int fault_of_send(conn *c)
{
    if (strikes(F_EAGAIN)) return EAGAIN;
    if (strikes(F_EINTR)) return EINTR;
    if (strikes(F_ECONNRESET)) conn_break(c);
    if (strikes(F_EPIPE)) conn_break(c);
    if (!strikes(F_ENOBUFS) && !strikes(F_ENOMEM)) return 0;
    c->faulty = 1;
    return ENOBUFS;
}

static int kernel_fault(kernel *k, kernel_call call, conn *c, uint32_t what)
{
    (void)k;
    if (!K.faults) return 0;
    switch (call) {
    case K_LISTEN: return strikes(F_CREATE) ? EADDRINUSE : 0;
    case K_ACCEPT: return fault_of_accept();
    case K_RECV: return fault_of_recv(c);
    case K_SEND: return fault_of_send(c);
    case K_SHUTDOWN:
        if (c && strikes(F_SHUTDOWN)) conn_break(c);
        return 0;
    case K_RESERVE: return strikes(F_RESERVE) ? ENFILE : 0;
    case K_POLLER_OPEN:
    case K_WAKE_OPEN: return strikes(F_CREATE) ? EMFILE : 0;
    case K_POLLER_SET:
        if (!what || !strikes(F_POLLER_SET)) return 0;
        if (c) c->faulty = 1;
        return one_in(2) ? ENOMEM : ENOSPC;
    default: return 0;
    }
}

static size_t kernel_part(kernel *k, kernel_call call, conn *c, size_t n)
{
    (void)k, (void)c;
    if (!K.faults || n < 2 || !strikes(call == K_RECV ? F_SHORT_READ : F_SHORT_WRITE)) return n;
    return between(1, (uint32_t)n - 1);
}

static int kernel_accepts(kernel *k, conn *c)
{
    (void)k;
    cur->progress++;
    c->queued = 0;
    if (K.faults && strikes(F_ECONNABORTED)) {
        c->faulty = 1;
        happen(K.now_ns + 1, H_OUT_RST, conn_index(c), c->generation, 0);
        c->fd = c->description = -1;
        conn_free_if_unused(c);
        return one_in(2) ? ECONNABORTED : EPROTO;
    }
    c->active_ns = c->accept_ns = c->first_ns = K.now_ns;
    trace("accept: fd %d is connection %u", c->fd, conn_index(c));
    return 0;
}

static void kernel_received(kernel *k, conn *c, size_t n)
{
    (void)k;
    trace("recv fd %d: %zu bytes", c->fd, n);
    if (n || !c->end_read) cur->progress++;
    if (!n) {
        c->end_read = 1;
        return;
    }
    c->active_ns = K.now_ns;
    while (c->got != c->asked && c->requests[c->got % REQUESTS].end <= c->in_at)
        model_got(c, &c->requests[c->got++ % REQUESTS]);
}

/* Keep the part of a reply that was not taken: what follows must be that. */
static void pend_keep(conn *c, const lp_slice *parts, int count, size_t from)
{
    size_t total = 0;
    int i;
    for (i = 0; i < count; i++) total += parts[i].length;
    total -= from;
    c->pend_at = c->pend_length = 0;
    if (!total) return;
    if (total > c->pend_size) {
        c->pend = (char *)realloc(c->pend, total * 2);
        MUST(c->pend, "the machine has no memory");
        c->pend_size = (uint32_t)total * 2;
    }
    for (i = 0; i < count; i++) {
        size_t skip = from < parts[i].length ? from : parts[i].length;
        memcpy(c->pend + c->pend_length, parts[i].bytes + skip, parts[i].length - skip);
        c->pend_length += (uint32_t)(parts[i].length - skip);
        from -= skip;
    }
    c->pend_ns = K.now_ns;
}

static int sent_whole; /* what is being sent is a reply, not a 100 (Continue) */

/* All of a reply is verified at once. */
static void kernel_sends(kernel *k, conn *c, const lp_slice *parts, int count)
{
    static char joined[1 << 20];
    const char *text = parts[0].bytes;
    size_t total = 0;
    int i;
    (void)k;
    sent_whole = 1;
    for (i = 0; i < count; i++) total += parts[i].length;
    if (c->pend_length) {
        SAME(total, c->pend_length - c->pend_at, "the rest of a reply");
        MUST(count == 1 && !memcmp(text, c->pend + c->pend_at, total),
             "the rest of a reply is not its rest");
        return;
    }
    if (count > 1) {
        size_t at = 0;
        MUST(total <= sizeof joined, "a reply of %zu bytes", total);
        for (i = 0; i < count; at += parts[i++].length)
            memcpy(joined + at, parts[i].bytes, parts[i].length);
        text = joined;
    }
    sent_whole = model_reply(c, text, total);
}

static int kernel_sent(kernel *k, conn *c, const lp_slice *parts, int count, size_t n, int error)
{
    size_t total = 0;
    int i;
    (void)k;
    trace("send fd %d: %zu bytes", c->fd, n);
    if (error == EPIPE && one_in(2)) return ECONNRESET;
    if (error && error != EAGAIN && error != EINTR) return error;
    for (i = 0; i < count; i++) total += parts[i].length;
    if (n) {
        c->out_sent += (uint32_t)n;
        c->active_ns = c->reply_ns = K.now_ns;
        cur->progress++;
        c->out_ns = (c->out_ns > K.now_ns ? c->out_ns : K.now_ns) + latency_ns();
        happen(c->out_ns, H_OUT, conn_index(c), c->generation, c->out_sent);
    }
    if (!sent_whole) {
        if (n < total) c->faulty = 1; /* half a 100 (Continue) cannot be mended */
        return error;
    }
    if (c->pend_length) {
        c->pend_at += (uint32_t)n;
        if (c->pend_at == c->pend_length) c->pend_at = c->pend_length = 0;
    } else {
        pend_keep(c, parts, count, n);
    }
    if (!c->pend_length) model_sent(c);
    return error;
}

static void kernel_ended(kernel *k, conn *c, uint32_t how)
{
    (void)k, (void)how;
    c->shut_ns = K.now_ns;
    cur->progress++;
    conn_tell(c, H_OUT_FIN);
}

static void kernel_watched(kernel *k, const description *d, uint32_t want)
{
    int slot = d->slot;
    (void)k;
    MUST(slot == cur->slot || cur == threads, "another loop's poller is set");
    trace("poller_set fd %d: %u -> %u", d->fd, d->watched, want);
    cur->progress++;
    if (!d->stream) return;
    if (!d->stream->known) K.loops_of[slot].known++;
    d->stream->known = 1;
    if (!want) K.loops_of[slot].gone[K.loops_of[slot].gone_count++ % GONE] = d->tag;
}

/* An event that a kernel may tell though there is nothing. */
static int spurious(lp_event *to, int slot)
{
    const description *d = kernel_find(&OS, (int)below((uint32_t)OS.fd_open + 4));
    if (!d || d->slot != slot || !(d->watched & (LP_READ | LP_WRITE))) return 0;
    to->tag = d->tag;
    to->what = d->watched & (LP_READ | LP_WRITE);
    return 1;
}

/* An event of what was taken out of the poller a moment ago: rather of one whose place another
   has taken, who does not listen. */
static int stale(lp_event *to, int slot)
{
    const uint32_t *gone = K.loops_of[slot].gone;
    uint32_t count = K.loops_of[slot].gone_count, i;
    int fd;
    if (!count) return 0;
    if (count > GONE) count = GONE;
    to->tag = gone[below(count)];
    to->what = LP_READ | LP_HANGUP | (one_in(2) ? LP_WRITE : 0);
    for (fd = 0; fd < OS.fd_count; fd++) {
        const description *d = kernel_find(&OS, fd);
        if (!d || d->slot != slot || d->kind != K_SOCKET || d->watched & LP_READ) continue;
        for (i = 0; i < count; i++)
            if (!((gone[i] ^ d->tag) & LPI_TAG_INDEX) && gone[i] != d->tag) to->tag = gone[i];
    }
    return 1;
}

/* What is ready, in any order, or most of it; behind an untrue event, if `n` is 1. */
static int events_take(int slot, lp_event *events, int max, int n)
{
    int untrue = n, count = OS.pollers[slot].count, i;
    int end = n + kernel_take_events(&OS, slot, count ? (int)below((uint32_t)count) : 0,
                                     events + n, max - n);
    for (i = n; i < end; i++) {
        if (K.faults && strikes(F_MISSING)) continue;
        kernel_told(&OS, OS.taken[i - untrue]);
        if (untrue && events[0].tag == events[i].tag) events[0].what = events[i].what; /* true */
        else events[n++] = events[i];
    }
    return n;
}

static int kernel_poller_wait(void *ctx, lp_poller *poller, lp_event *events, int max,
                              uint64_t until_us)
{
    int n = 0, slot;
    kernel_called((kernel *)ctx, K_POLLER_WAIT);
    slot = kernel_slot(&OS, poller);
    MUST(slot == cur->slot && &S->loops[slot].poller == poller,
         "another loop's poller is waited for");
    MUST(!cur->held_count, "it waits with a mutex held");
    MUST(max > 0, "poller_wait");
    MUST(until_us <= K.now_ns / 1000 + (UINT64_C(1000) << 30), "it waits for ever, or too long");
    step_ends(); /* the one before this wait */
    if (K.faults && strikes(F_POLLER_WAIT)) n = -ENOMEM;
    else if (K.faults && until_us && strikes(F_EMPTY)) K.now_ns += below(300000);
    else thread_waits(slot, until_us * 1000);
    if (K.leaving == slot + 1) n = -EBADF;
    if (K.faults && !n && strikes(F_SPURIOUS)) n = spurious(events, slot);
    if (K.faults && !n && strikes(F_STALE)) n = stale(events, slot);
    if (n >= 0) n = events_take(slot, events, max, n);
    step_begins();
    trace("poller_wait %" PRIu64 ": %d", until_us, n);
    return n;
}

/* A new machine. The seed is set before. */
static void machine_boot(void)
{
    int i;
    for (i = 0; i < K.conn_top; i++) K.conns[i].used = 0;
    held_count += OS.outlived;
    kernel_boot(&OS);
    memset(&K, 0, offsetof(struct machine, heap));
    K.now_ns = (uint64_t)between(1, 4000000) * 1000000 + below(1000000);
    if (one_in(3)) K.now_ns += (UINT64_C(1) << 32) * 1000000 - (uint64_t)below(20000) * 1000000;
    K.wall_us = UINT64_C(1732412345123456) - K.now_ns / 1000;
    OS.fd_limit = FDS;
}

#endif /* SIM_KERNEL_H */
