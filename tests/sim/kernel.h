/* kernel.h: the world that the server runs in: a kernel in memory behind lp_os.

   Time is virtual, in nanoseconds. It moves a little with each call and as far as the next
   thing that happens when all threads wait. What happens next (bytes arrive, a client
   acts, somebody publishes) stands in one heap. All that is random comes from one seed.
   Each loop has a poller and a pipe of its own; a descriptor is watched by one of them.

   A connection is two streams of bytes with latencies and a window. Of what the server
   sends only the length travels: the bytes are verified where they are sent (model.h), all
   of a reply at once, since the first send of a reply is given the whole of it.

   A descriptor of the server's is a name for an open description. Now and then a child
   process is forked, which holds all that are open then, until it exits. What the server
   closes meanwhile lives on, unseen by it: in its poller if it was not taken out, and with
   a peer that is told nothing unless it was shut down.

   Nothing here allocates but the memory hook, and what a short write leaves behind. */

#ifndef KERNEL_H
#define KERNEL_H

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

typedef enum call_kind {
    C_MONOTONIC, C_WALL, C_RANDOM, C_LISTEN, C_ACCEPT, C_RECV, C_SEND, C_SHUTDOWN, C_CLOSE,
    C_RESERVE, C_OPEN, C_SET, C_WAIT, C_END, C_WAKE_OPEN, C_SIGNAL, C_CLEAR, C_KINDS
} call_kind;

static const char *const call_names[C_KINDS] = {
    "monotonic", "wall", "random", "listen", "accept", "recv", "send", "shutdown", "close",
    "reserve", "poller_open", "poller_set", "poller_wait", "poller_close", "wake_open",
    "wake_signal", "wake_clear"};

static uint64_t call_counts[C_KINDS];

/* ---- the state ---- */

enum {
    FDS = CONNS + 32,    /* descriptors of the server                            */
    HELD = CONNS + 32,   /* descriptions that only children hold, behind those   */
    WORDS = (FDS + HELD + 63) / 64,
    CHILDREN = 4, GONE = 32, STREAM = 32768, REQUESTS = 64, PLACES = 4, HEAP = 65536
};

typedef enum fd_kind {
    D_FREE, D_LISTENER, D_SOCKET, D_SPARE, D_POLLER, D_WAKE_IN, D_WAKE_OUT
} fd_kind;

typedef struct descriptor {
    uint8_t kind, watched, signalled;
    uint8_t children; /* that have a copy of it: a bit each                      */
    int8_t slot;  /* of the poller that it is, or that watches it; -1: none yet  */
    int16_t conn; /* of a pipe: its other end                                    */
    uint32_t tag;
} descriptor;

typedef enum request_kind {
    R_POLL, R_PUBLISH, R_ECHO, R_OTHER, R_KINDS /* R_OTHER: `expect` tells the status */
} request_kind;

/* One channel of one poll: what was claimed, how the store stood when the server had read
   the request, and what was answered. */
typedef struct place {
    uint16_t channel;
    uint8_t kind, reason;          /* an lpi_requested_kind, an lpi_reason */
    uint64_t epoch, seq;           /* claimed; or microseconds         */
    uint64_t was_epoch, was_last, was_floor;
    uint64_t got_epoch, got_seq;
    uint32_t got_count;
} place;

typedef struct request {
    uint8_t kind, count, basic, bodiless, got, replied, done, closes, more;
    uint8_t early;        /* it may be refused before it is read whole         */
    uint8_t asks_close;
    uint16_t limit, status, expect;
    uint32_t wait_ms;
    uint32_t end;         /* in the stream from the client                     */
    uint32_t reply_end;   /* in the stream to it                               */
    uint32_t payload;     /* of what is published or echoed                    */
    uint64_t got_ns;      /* when the step began in which it was read whole    */
    uint64_t timestamp_us, bytes;
    uint64_t appended_us;     /* of the first message in its reply; 0: none        */
    place at[PLACES];
} request;

typedef struct conn {
    int fd;               /* the server's end; -1 before and after             */
    int held;             /* by children alone: its description, or -1         */
    int client;           /* -1: gone                                          */
    uint32_t generation;
    uint32_t name;             /* of the client that asks, or 0                   */
    uint8_t speaks;            /* the address that it asks for                    */
    uint32_t spoken;           /* those that it ever did, a bit each: where it may count */
    uint8_t used, queued, wild, faulty;
    uint8_t known;        /* a loop has made a record of it                   */
    uint8_t parked;       /* the poll that is being answered was              */
    lp_address address;
    /* from the client: cumulative counts; `said` <= sent */
    uint32_t taken, arrived, sent;
    uint8_t fin, fin_arrived, rst, ended;
    uint64_t in_ns;       /* when the last of it arrives                       */
    /* to the client */
    uint32_t out_sent, out_arrived, out_read, window;
    uint8_t shut, closed, cut, closing;
    uint8_t deaf;         /* it was shut down for reading too                  */
    uint64_t out_ns;
    uint64_t active_ns, first_ns, pend_ns, reply_ns, shut_ns, accept_ns;
    /* of a reply that was sent in part */
    char *pend;
    uint32_t pend_at, pend_length, pend_size, reply_size;
    uint64_t pend_born_us; /* of its first message, if its delay is measured  */
    /* requests: cumulative counts, modulo REQUESTS */
    uint32_t asked, got, replied, done;
    uint32_t blank;       /* where the empty line ends that was said last         */
    request requests[REQUESTS];
    char in[STREAM];
} conn;

typedef enum happening_kind {
    H_IN, H_FIN, H_RST, H_OUT, H_OUT_FIN, H_OUT_RST, H_CONNECT, H_CLIENT, H_JOB, H_FORK,
    H_EXIT
} happening_kind;

/* What other threads do. */
typedef enum job_kind { J_ONE, J_PUBLISH, J_TIDE, J_ARRIVE, J_STOP, J_KINDS } job_kind;

typedef struct happening {
    uint64_t ns;
    uint32_t order, value, generation;
    uint16_t index;
    uint8_t kind;
} happening;

static struct kernel {
    uint64_t now_ns, wall_us;
    uint64_t step_most_ns, stalled_ns;
    descriptor fds[FDS + HELD];
    uint64_t open[WORDS];    /* which of them are in use                       */
    struct {                 /* by poller                                      */
        uint64_t bits[WORDS], since_ns;
        uint32_t count;
        uint32_t gone[GONE], gone_count; /* tags that were taken out last      */
    } ready[LOOPS];
    uint32_t pollers, known[LOOPS];
    int fd_limit, fd_open, held, sockets;
    int listener;            /* the server's, or -1                            */
    int listening;           /* the description that takes connections, or -1  */
    uint32_t fork_us[2];     /* between two forks, and how long a child lives, at most */
    uint16_t queue[CONNS];
    uint32_t queue_head, queue_tail;
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

static void called(call_kind kind)
{
    /* A thread of the user's is cancelled at any call but of a clock, unless that is deferred.
       The library's own cannot be: nobody has their names. */
    MUST(cur->slot > 0 || kind <= C_WALL || cur->cancel == PTHREAD_CANCEL_DISABLE,
         "a thread that is cancelled here leaves something behind");
    if (kind == C_WALL || kind == C_RANDOM) preempt();
    else called_out();
    event_count++;
    call_counts[kind]++;
    K.now_ns += 80 + (draw() & 511);
    if (K.faults && kind != C_WALL && strikes(F_STALL)) stall();
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

/* The first of them from `from` on that is not in use. */
static int fd_free_from(int from)
{
    int word = from / 64;
    uint64_t bits = ~K.open[word] & ~UINT64_C(0) << from % 64;
    while (!bits) bits = ~K.open[++word];
    return word * 64 + __builtin_ctzll(bits);
}

/* The first of them from `from` on that is; what is beyond all if there is none. */
static int fd_next(int from)
{
    int word = from / 64;
    uint64_t bits = word < WORDS ? K.open[word] & ~UINT64_C(0) << from % 64 : 0;
    while (!bits && ++word < WORDS) bits = K.open[word];
    return bits ? word * 64 + __builtin_ctzll(bits) : WORDS * 64;
}

static int fd_take(fd_kind kind)
{
    int fd;
    if (K.fd_open >= K.fd_limit) {
        fault_counts[F_EMFILE]++;
        cur->excuses++;
        return -EMFILE;
    }
    fd = fd_free_from(0);
    MUST(fd < FDS, "the simulator's descriptors are used up");
    K.open[fd / 64] |= UINT64_C(1) << fd % 64;
    memset(&K.fds[fd], 0, sizeof K.fds[fd]);
    K.fds[fd].kind = (uint8_t)kind;
    K.fds[fd].conn = K.fds[fd].slot = -1;
    K.fd_open++;
    return fd;
}

static void fd_give(int fd)
{
    K.fds[fd].kind = D_FREE;
    K.open[fd / 64] &= ~(UINT64_C(1) << fd % 64);
    if (fd < FDS) K.fd_open--;
    else K.held--;
}

static descriptor *fd_at(int fd, fd_kind kind)
{
    MUST(fd >= 0 && fd < FDS && K.fds[fd].kind == kind,
         "descriptor %d is not open, or of another kind", fd);
    return &K.fds[fd];
}

/* A connection's descriptor, which no loop may touch but its own. */
static descriptor *fd_mine(int fd)
{
    descriptor *d = fd_at(fd, D_SOCKET);
    MUST(d->slot < 0 || d->slot == cur->slot || cur == threads,
         "loop %d uses descriptor %d of loop %d", cur->slot, fd, d->slot);
    return d;
}

/* What epoll would tell: a reset, or an end on both sides, even unasked. */
static uint32_t fd_what(const descriptor *d)
{
    const conn *c;
    uint32_t what = 0;
    if (!d->watched) return 0;
    if (d->kind == D_LISTENER) {
        if (K.listening < 0) return LP_READ | LP_HANGUP;
        return K.queue_head != K.queue_tail ? LP_READ : 0;
    }
    if (d->kind == D_WAKE_IN) return d->signalled ? LP_READ : 0;
    if (d->kind != D_SOCKET) return 0;
    c = &K.conns[d->conn];
    if (c->rst || (c->shut && (c->deaf || c->fin_arrived)))
        return LP_READ | LP_WRITE | LP_HANGUP;
    if (c->fin_arrived || c->deaf) what |= LP_READ | LP_HANGUP;
    if (c->arrived != c->taken) what |= LP_READ;
    if (c->out_sent - c->out_read < c->window) what |= LP_WRITE;
    return what & d->watched;
}

static int any_ready(int slot) { return K.ready[slot].count != 0; }

static void fd_refresh(int fd)
{
    uint64_t bit;
    int slot = fd < 0 ? -1 : K.fds[fd].slot;
    if (slot < 0) return;
    bit = UINT64_C(1) << fd % 64;
    if (!fd_what(&K.fds[fd]) == !(K.ready[slot].bits[fd / 64] & bit)) return;
    K.ready[slot].bits[fd / 64] ^= bit;
    if (!(K.ready[slot].bits[fd / 64] & bit)) K.ready[slot].count--;
    else if (!K.ready[slot].count++) K.ready[slot].since_ns = K.now_ns;
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
    if (K.listening < 0) return NULL;
    while (i < CONNS && K.conns[i].used) i++;
    if (i == CONNS) return NULL;
    K.conn_free = i + 1;
    if (i >= K.conn_top) K.conn_top = i + 1;
    c = &K.conns[i];
    {
        char *pend = c->pend;
        uint32_t size = c->pend_size, generation = c->generation + 1;
        memset(c, 0, offsetof(conn, requests));
        c->pend = pend;
        c->pend_size = size;
        c->generation = generation;
    }
    c->used = 1;
    c->fd = c->held = -1;
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
static lpi_loop *loop_of(const conn *c) { return &S->loops[K.fds[c->fd].slot]; }

static uint32_t index_of(const conn *c) { return K.fds[c->fd].tag & LPI_TAG_INDEX; }

static lpi_connection *record_of(const conn *c)
{
    return lpi_connection_at(loop_of(c), index_of(c));
}

static void conn_free_if_unused(conn *c)
{
    if (c->client >= 0 || c->fd >= 0 || c->held >= 0 || c->queued) return;
    c->used = 0;
    if ((int)conn_index(c) < K.conn_free) K.conn_free = (int)conn_index(c);
}

/* Something happened to it that its poller may want to know. */
static void conn_refresh(const conn *c) { fd_refresh(c->fd >= 0 ? c->fd : c->held); }

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
    if (c->sent - c->taken + length > STREAM || K.heap_count + length / 8 + 64 > HEAP)
        return -1;
    while (at < length) {
        size_t n = length - at;
        uint32_t i;
        if (K.piece) {
            uint32_t most = gap_us ? 1 + (uint32_t)length / 4 : K.piece;
            uint32_t cut = between(1, most);
            if (n > cut && K.heap_count < HEAP / 2) n = cut;
        }
        for (i = 0; i < n; i++) c->in[(c->sent + i) % STREAM] = bytes[at + i];
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
    if (c->fin) return;
    c->fin = 1;
    c->in_ns = conn_after(c);
    happen(c->in_ns, H_FIN, conn_index(c), c->generation, 0);
}

/* The client lets go, by a reset or by an orderly close. */
static void conn_drop(conn *c, int reset)
{
    c->client = -1;
    if (c->fd >= 0 || c->held >= 0 || c->queued) {
        if (reset) happen(K.now_ns + latency_ns(), H_RST, conn_index(c), c->generation, 0);
        else conn_finish(c);
    }
    conn_free_if_unused(c);
}

static void conn_break(conn *c) /* it broke on the way: both ends are told */
{
    c->rst = 1;
    c->faulty = 1;
    conn_refresh(c);
    happen(K.now_ns + latency_ns(), H_OUT_RST, conn_index(c), c->generation, 0);
}

/* ---- children, and what they hold ---- */

static uint64_t fork_count, held_count; /* of all worlds */

/* Nobody will take what waits in its queue. */
static void listener_ends(void)
{
    while (K.queue_head != K.queue_tail) {
        conn *c = &K.conns[K.queue[K.queue_head++ % CONNS]];
        c->queued = 0;
        c->closed = 1;
        conn_tell(c, H_OUT_RST);
        conn_free_if_unused(c);
    }
    K.listening = -1;
}

/* Nobody holds it any more. */
static void description_ends(descriptor *d)
{
    conn *c = d->conn < 0 ? NULL : &K.conns[d->conn];
    if (d->kind == D_LISTENER && K.listening == (int)(d - K.fds)) listener_ends();
    if (d->kind != D_SOCKET || !c) return; /* none that was accepted */
    c->held = -1;
    c->closed = 1;
    c->cut = c->arrived != c->taken;
    if (c->cut) conn_tell(c, H_OUT_RST);
    else if (!c->shut) conn_tell(c, H_OUT_FIN);
    conn_free_if_unused(c);
}

static int outlives(const descriptor *d)
{
    return d->children &&
           (d->kind == D_SOCKET || d->kind == D_LISTENER || d->kind == D_WAKE_IN);
}

/* The server has closed it: children have it still, if any does. Its poller has no more to
   do with the descriptor, but with what that stood for. */
static void description_left(int fd)
{
    descriptor *d = &K.fds[fd], *to;
    int held = outlives(d) ? fd_free_from(FDS) : -1;
    if (held >= 0) {
        MUST(held < FDS + HELD, "the simulator's held descriptions are used up");
        K.open[held / 64] |= UINT64_C(1) << held % 64;
        K.held++;
        held_count++;
        to = &K.fds[held];
        *to = *d;
        if (d->kind == D_SOCKET) K.conns[d->conn].held = held;
        if (K.listening == fd) K.listening = held;
    } else {
        description_ends(d);
    }
    d->watched = 0;
    fd_refresh(fd);
    fd_give(fd);
    if (held >= 0) fd_refresh(held);
}

static void child_forks(int child)
{
    int fd = fd_next(0);
    for (; fd < FDS; fd = fd_next(fd + 1)) K.fds[fd].children |= (uint8_t)(1u << child);
    fork_count++;
    trace("child %d is forked", child);
    /* Most are over as soon as they run another program. */
    happen(K.now_ns + 1000 + (uint64_t)below(one_in(4) ? K.fork_us[1] : 300) * 1000, H_EXIT,
           (uint32_t)child, 0, 0);
}

static void child_exits(int child)
{
    uint8_t bit = (uint8_t)(1u << child);
    int fd = fd_next(0);
    trace("child %d exits", child);
    for (; fd < FDS + HELD; fd = fd_next(fd + 1)) {
        descriptor *d = &K.fds[fd];
        if (!(d->children & bit)) continue;
        d->children &= (uint8_t)~bit;
        if (fd < FDS || d->children) continue;
        description_ends(d);
        d->watched = 0;
        fd_refresh(fd);
        fd_give(fd);
    }
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
        if (K.listening < 0) {
            c->queued = 0;
            c->closed = 1;
            if (c->client >= 0) client_lost(c, 1);
            break;
        }
        c->queued = 1;
        K.queue[K.queue_tail++ % CONNS] = h->index;
        fd_refresh(K.listening);
        return;
    case H_IN:
        c->arrived = h->value;
        if (c->deaf && c->client >= 0) conn_tell(c, H_OUT_RST);
        break;
    case H_FIN: c->fin_arrived = 1; break;
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
    conn_refresh(c);
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

static uint64_t sim_monotonic_us(void *ctx)
{
    (void)ctx;
    called(C_MONOTONIC);
    if (cur->delayed_count) model_clock(K.now_ns / 1000);
    return K.now_ns / 1000;
}

static uint64_t sim_wall_us(void *ctx)
{
    (void)ctx;
    called(C_WALL);
    if (K.faults && strikes(F_CLOCK)) {
        uint64_t by = (uint64_t)below(1u << between(4, 31));
        if (one_in(2) && by < K.wall_us / 2) K.wall_us -= by;
        else K.wall_us += by;
    }
    cur->last_wall_us[1] = cur->last_wall_us[0];
    return cur->last_wall_us[0] = K.wall_us + K.now_ns / 1000;
}

static int sim_random(void *ctx, void *bytes, size_t size)
{
    unsigned char *to = (unsigned char *)bytes;
    (void)ctx;
    called(C_RANDOM);
    if (size == 8) K.epochs_drawn++;
    if (K.faults && strikes(F_RANDOM)) return -EIO;
    while (size--) *to++ = (unsigned char)(draw() >> 40);
    return 0;
}

static int sim_listen(void *ctx, const lp_address *at, int backlog, lp_address *bound)
{
    (void)ctx;
    called(C_LISTEN);
    MUST(backlog > 0, "a backlog of nothing");
    if (K.faults && strikes(F_CREATE)) return -EADDRINUSE;
    *bound = *at;
    K.listener = K.listening = fd_take(D_LISTENER);
    return K.listener;
}

/* Like Linux: the descriptor is looked for before the queue is looked at. */
static int sim_accept(void *ctx, int listener, lp_address *peer)
{
    int fd;
    conn *c;
    (void)ctx;
    called(C_ACCEPT);
    fd_at(listener, D_LISTENER);
    if (K.faults) {
        if (strikes(F_EMFILE)) return -EMFILE;
        if (strikes(F_ENFILE)) return -ENFILE;
        if (strikes(F_ENOMEM)) return -ENOMEM;
        if (strikes(F_ENOBUFS)) return -ENOBUFS;
        if (strikes(F_EINTR)) return -EINTR;
        if (strikes(F_EAGAIN)) return -EAGAIN;
    }
    fd = fd_take(D_SOCKET);
    if (fd < 0) return fd;
    if (K.queue_head == K.queue_tail) {
        fd_give(fd);
        trace("accept: nobody");
        return -EAGAIN;
    }
    c = &K.conns[K.queue[K.queue_head++ % CONNS]];
    cur->progress++;
    c->queued = 0;
    fd_refresh(listener);
    c->fd = fd;
    K.fds[fd].conn = (int16_t)conn_index(c);
    K.sockets++;
    if (K.faults && strikes(F_ECONNABORTED)) {
        fd_give(fd);
        K.sockets--;
        c->fd = -1;
        c->faulty = 1;
        happen(K.now_ns + 1, H_OUT_RST, conn_index(c), c->generation, 0);
        conn_free_if_unused(c);
        return one_in(2) ? -ECONNABORTED : -EPROTO;
    }
    c->active_ns = c->accept_ns = c->first_ns = K.now_ns;
    *peer = c->address;
    trace("accept: fd %d is connection %u", fd, conn_index(c));
    return fd;
}

static long sim_recv(void *ctx, int fd, void *bytes, size_t size)
{
    conn *c;
    uint32_t n, first;
    (void)ctx;
    called(C_RECV);
    c = &K.conns[fd_mine(fd)->conn];
    MUST(size > 0, "recv into nothing");
    MUST(!c->closed, "recv from what is closed");
    if (K.faults) {
        if (strikes(F_EAGAIN)) return -EAGAIN;
        if (strikes(F_EINTR)) return -EINTR;
        if (strikes(F_ECONNRESET)) conn_break(c);
        if (strikes(F_ENOMEM)) {
            c->faulty = 1;
            return -ENOMEM;
        }
    }
    if (c->rst) return -ECONNRESET;
    n = c->arrived - c->taken;
    if (!n) {
        if (!c->fin_arrived && !c->deaf) return -EAGAIN;
        if (!c->ended) cur->progress++;
        c->ended = 1;
        trace("recv fd %d: end", fd);
        return 0;
    }
    if (n > size) n = (uint32_t)size;
    if (K.faults && n > 1 && strikes(F_SHORT_READ)) n = between(1, n - 1);
    first = STREAM - c->taken % STREAM;
    if (first > n) first = n;
    memcpy(bytes, c->in + c->taken % STREAM, first);
    if (n > first) memcpy((char *)bytes + first, c->in, n - first);
    c->taken += n;
    c->active_ns = K.now_ns;
    cur->progress++;
    trace("recv fd %d: %u bytes of %zu", fd, n, size);
    while (c->got != c->asked && c->requests[c->got % REQUESTS].end <= c->taken)
        model_got(c, &c->requests[c->got++ % REQUESTS]);
    fd_refresh(fd);
    return (long)n;
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

static long sim_send(void *ctx, int fd, const lp_slice *parts, int count)
{
    static char joined[1 << 20];
    conn *c;
    size_t total = 0;
    uint32_t room, n;
    int i, whole = 1;
    (void)ctx;
    called(C_SEND);
    c = &K.conns[fd_mine(fd)->conn];
    MUST(count >= 1 && count <= 4, "%d parts", count);
    MUST(!c->shut, "sent after shutdown");
    for (i = 0; i < count; i++) {
        MUST(parts[i].length > 0, "an empty part");
        total += parts[i].length;
    }
    if (c->pend_length) {
        SAME(total, c->pend_length - c->pend_at, "the rest of a reply");
        MUST(count == 1 && !memcmp(parts[0].bytes, c->pend + c->pend_at, total),
             "the rest of a reply is not its rest");
    } else {
        const char *text = parts[0].bytes;
        if (count > 1) {
            size_t at = 0;
            MUST(total <= sizeof joined, "a reply of %zu bytes", total);
            for (i = 0; i < count; i++) {
                memcpy(joined + at, parts[i].bytes, parts[i].length);
                at += parts[i].length;
            }
            text = joined;
        }
        whole = model_reply(c, text, total);
    }
    n = 0;
    if (K.faults && strikes(F_EAGAIN)) goto kept_again;
    if (K.faults && strikes(F_EINTR)) goto kept_again;
    if (K.faults && strikes(F_ECONNRESET)) conn_break(c);
    if (K.faults && strikes(F_EPIPE)) conn_break(c);
    if (K.faults && (strikes(F_ENOBUFS) || strikes(F_ENOMEM))) {
        c->faulty = 1;
        return -ENOBUFS;
    }
    if (c->rst) {
        return one_in(2) ? -EPIPE : -ECONNRESET;
    }
    room = c->window - (c->out_sent - c->out_read);
    n = total < room ? (uint32_t)total : room;
    if (K.faults && n > 1 && strikes(F_SHORT_WRITE)) n = between(1, n - 1);
    if (n) {
        c->out_sent += n;
        c->active_ns = c->reply_ns = K.now_ns;
        cur->progress++;
        c->out_ns = (c->out_ns > K.now_ns ? c->out_ns : K.now_ns) + latency_ns();
        happen(c->out_ns, H_OUT, conn_index(c), c->generation, c->out_sent);
    }
    if (!whole && n < total) c->faulty = 1; /* half a 100 (Continue) cannot be mended */
    trace("send fd %d: %u of %zu bytes", fd, n, total);
    if (c->pend_length) {
        c->pend_at += n;
        if (c->pend_at == c->pend_length) c->pend_at = c->pend_length = 0;
    } else if (whole) {
        pend_keep(c, parts, count, n);
    }
    if (whole && !c->pend_length) model_sent(c);
    fd_refresh(fd);
    return n ? (long)n : -EAGAIN;
kept_again:
    if (!c->pend_length && whole) pend_keep(c, parts, count, 0);
    return one_in(2) ? -EAGAIN : -EINTR;
}

/* A listener is closed by it, for whoever holds it. */
static int listener_shut(int fd, uint32_t how)
{
    MUST(how & LP_READ && K.listening == fd, "what is shut down listens no more");
    listener_ends();
    cur->progress++;
    fd_refresh(fd);
    return 0;
}

static int sim_shutdown(void *ctx, int fd, uint32_t how)
{
    conn *c;
    (void)ctx;
    called(C_SHUTDOWN);
    if (fd >= 0 && fd < FDS && K.fds[fd].kind == D_LISTENER) return listener_shut(fd, how);
    c = &K.conns[fd_mine(fd)->conn];
    MUST(how & LP_WRITE && !c->shut, "shut down twice");
    if (K.faults && strikes(F_SHUTDOWN)) conn_break(c);
    if (c->rst) return -ENOTCONN;
    c->shut = 1;
    c->deaf = (how & LP_READ) != 0;
    c->shut_ns = K.now_ns;
    cur->progress++;
    conn_tell(c, H_OUT_FIN);
    fd_refresh(fd);
    return 0;
}

static void sim_close(void *ctx, int fd)
{
    descriptor *d;
    (void)ctx;
    called(C_CLOSE);
    MUST(fd >= 0 && fd < FDS && K.fds[fd].kind, "descriptor %d closed, and it is not open", fd);
    d = &K.fds[fd];
    MUST(d->kind != D_POLLER, "a poller is closed as if it were none");
    trace("close fd %d%s", fd, d->children ? ", which a child holds" : "");
    cur->progress++;
    if (d->kind == D_SOCKET) {
        conn *c = &K.conns[d->conn];
        fd_mine(fd);
        model_closing(c);
        K.sockets--;
        if (c->known) K.known[d->slot]--;
        c->fd = -1;
    }
    if (d->kind == D_LISTENER) K.listener = -1;
    description_left(fd);
}

static int sim_reserve(void *ctx)
{
    (void)ctx;
    called(C_RESERVE);
    if (K.faults && strikes(F_RESERVE)) return -ENFILE;
    return fd_take(D_SPARE);
}

static int sim_poller_open(void *ctx, lp_poller *out)
{
    int fd, slot = 0;
    (void)ctx;
    called(C_OPEN);
    if (K.faults && strikes(F_CREATE)) return -EMFILE;
    fd = fd_take(D_POLLER);
    if (fd < 0) return fd;
    while (K.pollers & 1u << slot) slot++;
    MUST(slot < LOOPS, "too many pollers");
    K.pollers |= 1u << slot;
    K.fds[fd].slot = (int8_t)slot;
    memset(&K.ready[slot], 0, sizeof K.ready[slot]);
    K.known[slot] = 0;
    out->fd = fd;
    return 0;
}

/* The slot of a poller, which is its loop's index. */
static int slot_of(const lp_poller *poller)
{
    int slot = fd_at(poller->fd, D_POLLER)->slot;
    MUST(!S || &S->loops[slot].poller == poller, "another loop's poller");
    return slot;
}

static int sim_poller_set(void *ctx, lp_poller *poller, int fd, uint32_t tag, uint32_t was,
                          uint32_t want)
{
    descriptor *d;
    int slot;
    (void)ctx;
    called(C_SET);
    slot = slot_of(poller);
    MUST(fd >= 0 && fd < FDS && K.fds[fd].kind, "a descriptor is watched that is not open");
    d = &K.fds[fd];
    MUST(d->slot < 0 || d->slot == slot, "two pollers watch descriptor %d", fd);
    MUST(slot == cur->slot || cur == threads, "another loop's poller is set");
    SAME(was, d->watched, "poller_set");
    MUST(was != want, "poller_set changes nothing");
    trace("poller_set fd %d: %u -> %u", fd, was, want);
    cur->progress++;
    if (K.faults && want && strikes(F_POLLER_SET)) {
        if (d->kind == D_SOCKET) K.conns[d->conn].faulty = 1;
        return one_in(2) ? -ENOMEM : -ENOSPC;
    }
    if (d->kind == D_SOCKET && !K.conns[d->conn].known) {
        K.conns[d->conn].known = 1;
        K.known[slot]++;
    }
    if (!want && d->kind == D_SOCKET)
        K.ready[slot].gone[K.ready[slot].gone_count++ % GONE] = d->tag;
    d->watched = (uint8_t)want;
    d->tag = tag;
    d->slot = (int8_t)slot;
    fd_refresh(fd);
    return 0;
}

/* An event that a kernel may tell though there is nothing. */
static int spurious(lp_event *to, int slot)
{
    const descriptor *d = &K.fds[below((uint32_t)K.fd_open + 4)];
    if (!d->kind || d->slot != slot || !(d->watched & (LP_READ | LP_WRITE))) return 0;
    to->tag = d->tag;
    to->what = d->watched & (LP_READ | LP_WRITE);
    return 1;
}

/* An event of what was taken out of the poller a moment ago: rather of one whose place another
   has taken, who does not listen. */
static int stale(lp_event *to, int slot)
{
    uint32_t count = K.ready[slot].gone_count, i;
    int fd = fd_next(0);
    if (!count) return 0;
    to->tag = K.ready[slot].gone[below(count < GONE ? count : GONE)];
    to->what = LP_READ | LP_HANGUP | (one_in(2) ? LP_WRITE : 0);
    for (; fd < FDS; fd = fd_next(fd + 1)) {
        const descriptor *d = &K.fds[fd];
        if (d->slot != slot || d->kind != D_SOCKET || d->watched & LP_READ) continue;
        for (i = 0; i < GONE && i < count; i++)
            if (!((K.ready[slot].gone[i] ^ d->tag) & LPI_TAG_INDEX) && K.ready[slot].gone[i] != d->tag)
                to->tag = K.ready[slot].gone[i];
    }
    return 1;
}

/* What is ready, in any order; behind an untrue event, if `n` is 1. */
static int events_take(int slot, lp_event *events, int max, int n)
{
    int word, start = (int)below(WORDS), i, untrue = n;
    for (i = 0; i < WORDS && K.ready[slot].count; i++) {
        uint64_t bits;
        word = (start + i) % WORDS;
        for (bits = K.ready[slot].bits[word]; bits && n < max; bits &= bits - 1) {
            int fd = word * 64 + __builtin_ctzll(bits);
            if (K.faults && strikes(F_MISSING)) continue;
            if (untrue && events[0].tag == K.fds[fd].tag) { /* it is true */
                events[0].what = fd_what(&K.fds[fd]);
                continue;
            }
            events[n].tag = K.fds[fd].tag;
            events[n++].what = fd_what(&K.fds[fd]);
        }
    }
    return n;
}

static int sim_poller_wait(void *ctx, lp_poller *poller, lp_event *events, int max,
                           uint64_t until_us)
{
    int n = 0, slot;
    (void)ctx;
    called(C_WAIT);
    slot = slot_of(poller);
    MUST(slot == cur->slot, "another loop's poller is waited for");
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

static void sim_poller_close(void *ctx, lp_poller *poller)
{
    (void)ctx;
    called(C_END);
    K.pollers &= ~(1u << slot_of(poller));
    cur->progress++;
    description_left(poller->fd);
}

static int sim_wake_open(void *ctx, int fds[2])
{
    (void)ctx;
    called(C_WAKE_OPEN);
    if (K.faults && strikes(F_CREATE)) return -EMFILE;
    if (K.fd_open + 2 > K.fd_limit) {
        fault_counts[F_EMFILE]++;
        cur->excuses++;
        return -EMFILE;
    }
    fds[0] = fd_take(D_WAKE_IN);
    fds[1] = fd_take(D_WAKE_OUT);
    K.fds[fds[1]].conn = (int16_t)fds[0];
    return 0;
}

static void sim_wake_signal(void *ctx, int fd)
{
    descriptor *in;
    (void)ctx;
    called(C_SIGNAL);
    in = &K.fds[fd_at(fd, D_WAKE_OUT)->conn];
    in->signalled = 1;
    trace("wake_signal of loop %d", in->slot);
    fd_refresh(K.fds[fd].conn);
}

static void sim_wake_clear(void *ctx, int fd)
{
    descriptor *in;
    (void)ctx;
    called(C_CLEAR);
    in = fd_at(fd, D_WAKE_IN);
    MUST(in->slot == cur->slot, "another loop's pipe is cleared");
    if (in->signalled) cur->progress++;
    in->signalled = 0;
    fd_refresh(fd);
}

static const lp_os sim_os = {
    NULL, sim_monotonic_us, sim_wall_us, sim_random, sim_listen, sim_accept, sim_recv,
    sim_send, sim_shutdown, sim_close, sim_reserve, sim_poller_open, sim_poller_set,
    sim_poller_wait, sim_poller_close, sim_wake_open, sim_wake_signal, sim_wake_clear};

/* A new machine. The seed is set before. */
static void kernel_boot(void)
{
    int i;
    for (i = 0; i < K.conn_top; i++) K.conns[i].used = 0;
    memset(&K, 0, offsetof(struct kernel, heap));
    K.now_ns = (uint64_t)between(1, 4000000) * 1000000 + below(1000000);
    if (one_in(3)) K.now_ns += (UINT64_C(1) << 32) * 1000000 - (uint64_t)below(20000) * 1000000;
    K.wall_us = UINT64_C(1732412345123456) - K.now_ns / 1000;
    K.listener = K.listening = -1;
    K.fd_limit = FDS;
}

#endif /* KERNEL_H */
