/* kernel.h: an operating system in memory behind lp_os, and a whole server on it.

   Time is virtual and moves only while the server waits (or by `cost_us`, so that
   work can take time). Clients are structs: what they say is there at once, what the
   server sends them is kept. Every call is counted and can be made to fail.

       world w = {0};
       w.cfg.timeout_ms = 5000;
       open_world(&w);
       peer *c = dial(&w);
       get(c, "/api/poll/news?timeout=1");
       settle(&w);                       all that can happen without time passing
       pass(&w, 1001);                   that many milliseconds
       CHECK_INT(take(c)->status, 200);
       close_world(&w);                  nothing may have leaked

   With cfg.loops = 3 the test steps the loops: settle() and pass() all of them, one
   after the other, settle_loop() one. The first loop gives each connection to the next
   loop in turn; c->loop tells which. while_asleep() has several loops wait at once.
   during() lets something happen within a call.

   The kernel is strict: a descriptor used after its close, a `was` that is not what the
   poller watches, a send after a shutdown, closing what is watched or was not shut down,
   or waiting for ever end the test. After each step check_world() counts everything that can be counted in two ways. */

#ifndef KERNEL_H
#define KERNEL_H

typedef enum kernel_call {
    K_MONOTONIC, K_WALL, K_RANDOM, K_LISTEN, K_ACCEPT, K_RECV, K_SEND, K_SHUTDOWN,
    K_CLOSE, K_RESERVE, K_POLLER_OPEN, K_POLLER_SET, K_POLLER_WAIT, K_POLLER_CLOSE,
    K_WAKE_OPEN, K_WAKE_SIGNAL, K_WAKE_CLEAR, K_CALLS
} kernel_call;

typedef enum kernel_kind {
    K_FREE, K_LISTENER, K_SOCKET, K_SPARE, K_POLLER, K_WAKE_IN, K_WAKE_OUT
} kernel_kind;

/* The client's end of a connection. */
typedef struct peer {
    struct world *world;
    struct peer *next;       /* of all                                          */
    struct peer *queued;     /* in the listener's queue                         */
    lp_address address;
    int fd;                  /* the server's end; -1 before and after           */
    uint32_t loop;           /* whose poller watched it last                    */
    char *in;                /* said, and not received yet                      */
    size_t in_at, in_length, in_capacity;
    char *out;               /* all that the server sent                        */
    size_t out_at, out_length, out_capacity; /* out_at: what the test has taken */
    size_t window;           /* bytes that the server may still send            */
    size_t piece;            /* most that one recv gives; 0: all                */
    int accepted, fin, rst;  /* the client's doing                              */
    int shut, closed;        /* the server's                                    */
    int cut;                 /* closed with bytes unread: a real one sends RST,
                                and the client may never see the answer         */
    uint32_t recvs, sends, sets;
    uint64_t turn;           /* the number of the last send, of all             */
} peer;

typedef struct kernel_fd {
    kernel_kind kind;
    uint32_t tag, watched;
    int poller;              /* that watches it                                 */
    uint32_t loop;           /* of a poller or a wake: the index of its loop    */
    int ended;               /* shut down, or that was tried                    */
    peer *peer;
} kernel_fd;

typedef struct kernel_fault {
    int error;
    uint32_t skip, times;
} kernel_fault;

typedef struct answer {
    struct answer *next;
    int status;
    lp_slice head, body;
} answer;

typedef struct kernel {
    uint64_t now_us, wall_us; /* wall_us: what the wall clock is ahead          */
    uint32_t cost_us[K_CALLS];
    uint64_t random;
    uint32_t calls[K_CALLS];
    kernel_fault faults[K_CALLS];
    kernel_fd *fds;
    int fd_count, fd_limit, turn, poller;
    uint32_t signalled;       /* a bit for each loop whose wake is readable     */
    uint32_t signals[32];     /* how often each loop was signalled              */
    int frozen;               /* no wait lets time pass                         */
    uint32_t shortest_ms;     /* of the waits since then                        */
    uint32_t sleepers;        /* loops that are to sleep while `asleep` is called */
    void (*asleep)(struct world *);
    kernel_call during_call;  /* see during()                                   */
    void (*during)(struct world *);
    struct world *world;
    peer *queue, **queue_end;
    int sleeps_for_ever;      /* it may; it would have                          */
    int wait_ms;              /* the last that was asked for, rounded up; -1: for ever */
    lp_address bound;
    uint64_t sent;            /* number of the last send                        */
} kernel;

typedef struct world {
    kernel k;
    lp_os os;
    unit_memory m;
    lp_config cfg;
    lp_server *s;
    peer *peers;
    answer *answers;
    peer *looker;             /* see look()                                     */
    int unchecked;            /* check_world is too slow for this test          */
    int log_lines[3];
    char log[256];            /* the last line                                  */
} world;

/* ---- the calls ---- */

/* Counts the call and lets time pass; the error that it is to fail with, or 0. */
static int kernel_called(kernel *k, kernel_call call) {
    kernel_fault *fault = &k->faults[call];
    k->calls[call]++;
    k->now_us += k->cost_us[call];
    if (k->during && k->during_call == call) {
        void (*what)(struct world *) = k->during;
        k->during = NULL;
        what(k->world);
    }
    if (!fault->times) return 0;
    if (fault->skip) {
        fault->skip--;
        return 0;
    }
    fault->times--;
    return fault->error;
}

/* `call` fails with `error`, `times` times, after `skip` more that do not. */
UNIT_UNUSED static void fault(world *w, kernel_call call, int error, uint32_t skip,
                              uint32_t times) {
    w->k.faults[call].error = error;
    w->k.faults[call].skip = skip;
    w->k.faults[call].times = times;
}

/* When `call` is made next, and before it does anything, `what` happens: on another thread,
   as it were. */
UNIT_UNUSED static void during(world *w, kernel_call call, void (*what)(world *)) {
    w->k.during_call = call;
    w->k.during = what;
}

static kernel_fd *kernel_fd_at(kernel *k, int fd, kernel_kind kind) {
    if (fd < 0 || fd >= k->fd_count || k->fds[fd].kind != kind)
        unit_fail(__FILE__, __LINE__, "descriptor %d is not open, or of another kind", fd);
    return &k->fds[fd];
}

static int kernel_open_count(const kernel *k, kernel_kind kind) {
    int i, n = 0;
    for (i = 0; i < k->fd_count; i++)
        if (kind ? k->fds[i].kind == kind : k->fds[i].kind != K_FREE) n++;
    return n;
}

/* The lowest free one, as POSIX has it, from 0. */
static int kernel_fd_open(kernel *k, kernel_kind kind) {
    int fd = 0;
    if (k->fd_limit && kernel_open_count(k, K_FREE) >= k->fd_limit) return -EMFILE;
    while (fd < k->fd_count && k->fds[fd].kind) fd++;
    if (fd == k->fd_count) {
        int grown = k->fd_count ? k->fd_count * 2 : 16;
        k->fds = (kernel_fd *)realloc(k->fds, (size_t)grown * sizeof *k->fds);
        memset(k->fds + k->fd_count, 0, (size_t)(grown - k->fd_count) * sizeof *k->fds);
        k->fd_count = grown;
    }
    memset(&k->fds[fd], 0, sizeof k->fds[fd]);
    k->fds[fd].kind = kind;
    return fd;
}

static uint64_t kernel_monotonic_us(void *ctx) {
    kernel *k = (kernel *)ctx;
    kernel_called(k, K_MONOTONIC);
    return k->now_us;
}

static uint64_t kernel_wall_us(void *ctx) {
    kernel *k = (kernel *)ctx;
    kernel_called(k, K_WALL);
    return k->wall_us + k->now_us;
}

static int kernel_random(void *ctx, void *bytes, size_t size) {
    kernel *k = (kernel *)ctx;
    unsigned char *to = (unsigned char *)bytes;
    int error = kernel_called(k, K_RANDOM);
    while (size--) {
        k->random = k->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        *to++ = (unsigned char)(k->random >> 56);
    }
    return -error;
}

static int kernel_listen(void *ctx, const lp_address *at, int backlog, lp_address *bound) {
    kernel *k = (kernel *)ctx;
    int error = kernel_called(k, K_LISTEN);
    CHECK(backlog > 0);
    if (error) return -error;
    *bound = *at;
    if (!bound->port) bound->port = 49152;
    k->bound = *bound;
    return kernel_fd_open(k, K_LISTENER);
}

static int kernel_accept(void *ctx, int listener, lp_address *address) {
    kernel *k = (kernel *)ctx;
    int error = kernel_called(k, K_ACCEPT), fd;
    peer *c = k->queue;
    kernel_fd_at(k, listener, K_LISTENER);
    if (error) return -error;
    fd = kernel_fd_open(k, K_SOCKET); /* like Linux: before it looks who is there */
    if (fd < 0) return fd;
    if (!c) {
        k->fds[fd].kind = K_FREE;
        return -EAGAIN;
    }
    k->queue = c->queued;
    if (!k->queue) k->queue_end = &k->queue;
    k->fds[fd].peer = c;
    c->fd = fd;
    c->accepted = 1;
    *address = c->address;
    return fd;
}

static long kernel_recv(void *ctx, int fd, void *bytes, size_t size) {
    kernel *k = (kernel *)ctx;
    int error = kernel_called(k, K_RECV);
    peer *c = kernel_fd_at(k, fd, K_SOCKET)->peer;
    size_t n = c->in_length - c->in_at;
    c->recvs++;
    CHECK(size > 0);
    if (error) return -error;
    if (c->rst) return -ECONNRESET;
    if (!n) return c->fin ? 0 : -EAGAIN;
    if (n > size) n = size;
    if (c->piece && n > c->piece) n = c->piece;
    memcpy(bytes, c->in + c->in_at, n);
    c->in_at += n;
    return (long)n;
}

static void peer_grow(char **bytes, size_t *capacity, size_t need) {
    if (need <= *capacity) return;
    *capacity = need * 2 + 256;
    *bytes = (char *)realloc(*bytes, *capacity);
}

static long kernel_send(void *ctx, int fd, const lp_slice *parts, int count) {
    kernel *k = (kernel *)ctx;
    int error = kernel_called(k, K_SEND), i;
    peer *c = kernel_fd_at(k, fd, K_SOCKET)->peer;
    size_t sent = 0;
    CHECK(count >= 1 && count <= 4);
    CHECK(!c->shut);
    c->sends++;
    c->turn = ++k->sent;
    if (error) return -error;
    if (c->rst) return -EPIPE;
    for (i = 0; i < count && c->window; i++) {
        size_t n = parts[i].length < c->window ? parts[i].length : c->window;
        CHECK(parts[i].length > 0);
        peer_grow(&c->out, &c->out_capacity, c->out_length + n);
        memcpy(c->out + c->out_length, parts[i].bytes, n);
        c->out_length += n;
        sent += n;
        if (c->window != SIZE_MAX) c->window -= n;
    }
    return sent ? (long)sent : -EAGAIN;
}

/* Of the listener, or of a socket: that it is ended in both directions is told apart from
   the half close before a lingering one. */
static int kernel_shutdown(void *ctx, int fd, uint32_t how) {
    kernel *k = (kernel *)ctx;
    int error = kernel_called(k, K_SHUTDOWN);
    peer *c;
    CHECK(how == LP_WRITE || how == (LP_READ | LP_WRITE));
    if (fd >= 0 && fd < k->fd_count && k->fds[fd].kind == K_LISTENER) {
        CHECK(how & LP_READ);
        k->fds[fd].ended = 1;
        return -error;
    }
    c = kernel_fd_at(k, fd, K_SOCKET)->peer;
    k->fds[fd].ended = 1;
    if (error) return -error;
    if (c->rst) return -ENOTCONN;
    CHECK(!c->shut);
    if (how == LP_WRITE) c->shut = 1;
    return 0;
}

static void kernel_close(void *ctx, int fd) {
    kernel *k = (kernel *)ctx;
    kernel_fd *f;
    kernel_called(k, K_CLOSE);
    if (fd < 0 || fd >= k->fd_count || !k->fds[fd].kind)
        unit_fail(__FILE__, __LINE__, "descriptor %d closed, and it is not open", fd);
    f = &k->fds[fd];
    CHECK(f->kind != K_POLLER);
    CHECK(!f->watched); /* a child's copy would go on giving events */
    if (f->kind == K_SOCKET || f->kind == K_LISTENER) CHECK(f->ended);
    if (f->kind == K_SOCKET) {
        f->peer->closed = 1;
        f->peer->cut = f->peer->in_at < f->peer->in_length;
        f->peer->fd = -1;
    }
    if (f->kind == K_LISTENER)
        for (; k->queue; k->queue = k->queue->queued) k->queue->closed = 1;
    if (f->kind == K_LISTENER) k->queue_end = &k->queue;
    f->kind = K_FREE;
}

static int kernel_reserve(void *ctx) {
    kernel *k = (kernel *)ctx;
    int error = kernel_called(k, K_RESERVE);
    return error ? -error : kernel_fd_open(k, K_SPARE);
}

enum { KERNEL_TIMER = -77 }; /* what is the poller's own is not the loop's to change */

static int kernel_poller_open(void *ctx, lp_poller *out) {
    kernel *k = (kernel *)ctx;
    int error = kernel_called(k, K_POLLER_OPEN), loop = kernel_open_count(k, K_POLLER), fd;
    fd = error ? -error : kernel_fd_open(k, K_POLLER);
    if (fd < 0) return fd;
    k->fds[fd].loop = (uint32_t)loop;
    if (!loop) k->poller = fd;
    out->fd = fd;
    out->timer = KERNEL_TIMER;
    return 0;
}

static void kernel_poller_at(kernel *k, const lp_poller *poller) {
    kernel_fd_at(k, poller->fd, K_POLLER);
    CHECK_INT(poller->timer, KERNEL_TIMER);
}

static int kernel_poller_set(void *ctx, lp_poller *poller, int fd, uint32_t tag,
                             uint32_t was, uint32_t want) {
    kernel *k = (kernel *)ctx;
    int error = kernel_called(k, K_POLLER_SET);
    kernel_poller_at(k, poller);
    CHECK(fd >= 0 && fd < k->fd_count && k->fds[fd].kind != K_FREE);
    CHECK_INT(was, k->fds[fd].watched);
    CHECK(was != want);
    if (was) CHECK_INT(k->fds[fd].poller, poller->fd);
    k->fds[fd].poller = poller->fd;
    if (k->fds[fd].peer) k->fds[fd].peer->loop = k->fds[poller->fd].loop;
    if (k->fds[fd].peer) k->fds[fd].peer->sets++;
    if (error && want) return -error; /* taking away never fails */
    k->fds[fd].watched = want;
    k->fds[fd].tag = tag;
    return 0;
}

/* What epoll would tell: an end on both sides, or a reset, even unasked. */
static uint32_t kernel_ready(const kernel *k, const kernel_fd *f) {
    const peer *c = f->peer;
    uint32_t what = 0;
    if (!f->watched) return 0;
    if (f->kind == K_LISTENER) return k->queue ? LP_READ : 0;
    if (f->kind == K_WAKE_IN) return k->signalled >> f->loop & 1 ? LP_READ : 0;
    if (f->kind != K_SOCKET) return 0;
    if (c->rst || (c->shut && c->fin)) return LP_READ | LP_WRITE | LP_HANGUP;
    if (c->fin || c->in_at < c->in_length) what |= LP_READ;
    if (c->window) what |= LP_WRITE;
    if (c->fin) what |= LP_HANGUP;
    return what & f->watched;
}

/* Of one poller, or of all: -1. */
static int kernel_events_of(kernel *k, int poller, lp_event *events, int max) {
    int i, n = 0, turn = k->turn;
    for (i = 0; i < k->fd_count && n < max; i++) {
        int fd = (turn + i) % k->fd_count;
        uint32_t what = kernel_ready(k, &k->fds[fd]);
        if (!what || (poller >= 0 && k->fds[fd].poller != poller)) continue;
        if (events) {
            events[n].tag = k->fds[fd].tag;
            events[n].what = what;
            k->turn = fd + 1;
        }
        n++;
    }
    return n;
}

static int kernel_events(kernel *k, lp_event *events, int max) {
    return kernel_events_of(k, -1, events, max);
}

static void next_falls_asleep(struct world *w);

static int kernel_poller_wait(void *ctx, lp_poller *poller, lp_event *events, int max,
                              uint64_t until_us) {
    kernel *k = (kernel *)ctx;
    int error = kernel_called(k, K_POLLER_WAIT), n;
    uint64_t left_us = until_us > k->now_us ? until_us - k->now_us : 0;
    uint32_t wait_ms;
    kernel_poller_at(k, poller);
    k->wait_ms = until_us == UINT64_MAX ? -1 : (int)((left_us + 999) / 1000);
    if (error) return -error;
    wait_ms = (uint32_t)k->wait_ms; /* no deadline: UINT32_MAX */
    n = kernel_events_of(k, poller->fd, events, max);
    if (k->frozen && (n || wait_ms < k->shortest_ms)) k->shortest_ms = n ? 0 : wait_ms;
    if (n || !left_us || k->frozen) return n;
    if (k->asleep) {
        next_falls_asleep(k->world);
        return kernel_events_of(k, poller->fd, events, max);
    }
    if (until_us != UINT64_MAX) k->now_us = until_us;
    else if (!k->sleeps_for_ever) unit_fail(__FILE__, __LINE__, "it would sleep for ever");
    return 0;
}

static void kernel_poller_close(void *ctx, lp_poller *poller) {
    kernel *k = (kernel *)ctx;
    kernel_called(k, K_POLLER_CLOSE);
    kernel_poller_at(k, poller);
    k->fds[poller->fd].kind = K_FREE;
}

static int kernel_wake_open(void *ctx, int fds[2]) {
    kernel *k = (kernel *)ctx;
    int error = kernel_called(k, K_WAKE_OPEN), loop = kernel_open_count(k, K_WAKE_IN);
    if (error) return -error;
    fds[0] = kernel_fd_open(k, K_WAKE_IN);
    fds[1] = kernel_fd_open(k, K_WAKE_OUT);
    k->fds[fds[0]].loop = k->fds[fds[1]].loop = (uint32_t)loop;
    return 0;
}

static void kernel_wake_signal(void *ctx, int fd) {
    kernel *k = (kernel *)ctx;
    uint32_t loop = kernel_fd_at(k, fd, K_WAKE_OUT)->loop;
    kernel_called(k, K_WAKE_SIGNAL);
    k->signalled |= 1u << loop;
    k->signals[loop]++;
}

static void kernel_wake_clear(void *ctx, int fd) {
    kernel *k = (kernel *)ctx;
    kernel_called(k, K_WAKE_CLEAR);
    k->signalled &= ~(1u << kernel_fd_at(k, fd, K_WAKE_IN)->loop);
}

/* ---- the world ---- */

static void world_log(void *ctx, lp_log_level level, const char *line) {
    world *w = (world *)ctx;
    const char *c;
    CHECK(level >= LP_LOG_ERROR && level <= LP_LOG_INFO);
    CHECK(strlen(line) < sizeof w->log && *line);
    for (c = line; *c; c++) CHECK(*c >= 0x20 && *c <= 0x7e);
    w->log_lines[level]++;
    strcpy(w->log, line);
}

/* All that stands behind the config; time begins at 1,000 s. */
UNIT_UNUSED static void prepare_world(world *w) {
    const lp_os os = {
        &w->k, kernel_monotonic_us, kernel_wall_us, kernel_random, kernel_listen,
        kernel_accept, kernel_recv, kernel_send, kernel_shutdown, kernel_close,
        kernel_reserve, kernel_poller_open, kernel_poller_set, kernel_poller_wait,
        kernel_poller_close, kernel_wake_open, kernel_wake_signal, kernel_wake_clear};
    w->os = os;
    if (!w->k.now_us) w->k.now_us = 1000 * UINT64_C(1000000);
    if (!w->k.wall_us) w->k.wall_us = UINT64_C(1732412345123456) - w->k.now_us;
    w->k.random = unit_seed;
    w->k.queue_end = &w->k.queue;
    w->k.world = w;
    w->cfg.os = &w->os;
    w->cfg.memory = unit_memory_of(&w->m);
    w->cfg.log.write = world_log;
    w->cfg.log.ctx = w;
}

UNIT_UNUSED static void open_world(world *w) {
    prepare_world(w);
    CHECK_INT(lp_create(&w->s, &w->cfg), LP_OK);
}

static void free_world(world *w) {
    while (w->peers) {
        peer *next = w->peers->next;
        free(w->peers->in);
        free(w->peers->out);
        free(w->peers);
        w->peers = next;
    }
    while (w->answers) {
        answer *next = w->answers->next;
        free(w->answers);
        w->answers = next;
    }
    free(w->k.fds);
    w->k.fds = NULL;
    w->k.fd_count = 0;
}

/* Connections that the first loop has handed over and no loop has opened yet; of one
   account, or of all: LPI_NONE. */
static uint32_t handed_over(world *w, uint32_t account) {
    uint32_t i, k, n = 0;
    for (i = 0; i < w->s->loop_count; i++)
        for (k = 0; k < 2; k++) {
            const lpi_loop *loop = &w->s->loops[i];
            const lpi_task *task = k ? loop->tasks : loop->inbox.first;
            for (; task; task = task->next)
                n += task->kind == LPI_TASK_OPEN &&
                     (account == LPI_NONE || task->of.handover.wait.account == account);
        }
    return n;
}

/* What is counted over the connections of all loops. */
typedef struct check_totals {
    uint32_t used, waiting, waiters, requested;
    size_t pinned, partial;
    int too_many; /* send buffers to be told apart */
} check_totals;

/* Every connection of the loop in use, in its phase; what the kernel watches. */
static void check_loop(world *w, lpi_loop *loop, check_totals *all) {
    lpi_hub *hub = &w->s->hub;
    uint32_t phases[LPI_PHASES] = {0}, index = 0, used = 0;
    lpi_send_buffer *blobs[64];
    size_t blob_count = 0, i;
    uint32_t queued = 0, q;
    lpi_connection *c;
    for (; (c = lpi_loop_each(loop, &index)); index++, used++) {
        uint32_t waiter;
        phases[c->phase]++;
        CHECK_INT(kernel_fd_at(&w->k, c->fd, K_SOCKET)->watched, c->interest);
        CHECK(!c->interest || w->k.fds[c->fd].tag == lpi_tag_of(c, index));
        CHECK((c->phase == LPI_WRITING) == (c->buffer && c->buffer->out));
        if (c->buffer) all->partial += sizeof *c->buffer + c->buffer->in_capacity;
        CHECK((c->phase == LPI_PARKED) ==
              (c->wait.waiter != LPI_NONE));
        for (waiter = c->wait.waiter; waiter != LPI_NONE; waiter = lpi_waiter_at(hub, waiter)->sibling) {
            CHECK_INT(lpi_waiter_at(hub, waiter)->connection, index);
            all->waiters++;
            all->requested += c->wait.fetching;
        }
        if (!c->buffer || !c->buffer->out) continue;
        for (i = 0; i < blob_count && blobs[i] != c->buffer->out;) i++;
        if (i < blob_count) continue;
        if (blob_count < 64) blobs[blob_count++] = c->buffer->out;
        else all->too_many = 1;
        all->pinned += sizeof(lpi_send_buffer) + c->buffer->out->length;
    }
    for (i = LPI_CLOSED + 1; i < LPI_PHASES; i++) CHECK_INT(loop->phases[i], phases[i]);
    CHECK_INT(phases[LPI_SERVING], 0);
    CHECK_INT(loop->connections.used, used);
    CHECK_INT(loop->closed.head, LPI_NONE);
    for (q = loop->queue.head; q != LPI_NONE; queued++) {
        CHECK_INT(lpi_connection_at(loop, q)->phase, LPI_QUEUED);
        q = lpi_connection_at(loop, q)->timer.link.next;
    }
    CHECK_INT(queued, phases[LPI_QUEUED]);
    all->used += used;
    all->waiting += phases[LPI_PARKED];
}

/* No timer of a record that is not in use. */
static void check_timers(lpi_loop *loop) {
    lpi_wheel *wheel = &loop->wheel;
    uint32_t slot, i;
    for (slot = 0; slot <= LPI_DUE_SLOT; slot++) {
        uint32_t before = LPI_SLOT_MARK | slot, left = loop->connections.used;
        for (i = wheel->heads[slot]; i != LPI_NONE; i = lpi_timer_at(wheel, i)->link.next) {
            if (!left-- || lpi_connection_at(loop, i)->phase == LPI_CLOSED ||
                lpi_timer_at(wheel, i)->link.prev != before)
                unit_fail(__FILE__, __LINE__, "the wheel holds a timer of no connection");
            before = i;
        }
    }
}

/* What the hub counts of all connections. */
static void check_connections(world *w) {
    lpi_hub *hub = &w->s->hub;
    check_totals all = {0, 0, 0, 0, 0, 0, 0};
    uint32_t i, taken = 0;
    for (i = 0; i < w->s->loop_count; i++) check_loop(w, &w->s->loops[i], &all);
    for (i = 0; i < w->s->loop_count; i++) check_timers(&w->s->loops[i]);
    taken = all.used + handed_over(w, LPI_NONE);
    CHECK_INT(hub->stats.connections, taken);
    CHECK_INT(kernel_open_count(&w->k, K_SOCKET), taken);
    CHECK_INT(hub->stats.waiters, all.waiting);
    CHECK_INT(hub->waiters.used, all.waiters);
    CHECK_INT(hub->requested.used, all.requested);
    if (!all.too_many) CHECK_INT(hub->stats.pinned_bytes, all.pinned);
    CHECK_INT(hub->partial_bytes, all.partial);
}

static void check_hub(world *w) {
    lpi_hub *hub = &w->s->hub;
    uint32_t c, messages = 0, waiters = 0, channels = 0, counters = 0;
    uint64_t bytes = 0;
    lpi_message *m, *before = NULL;
    for (m = hub->oldest; m; before = m, m = m->newer, messages++) {
        CHECK(m->older == before);
        bytes += m->size;
    }
    CHECK(hub->newest == before);
    CHECK_INT(hub->stats.messages, messages);
    CHECK_INT(hub->stats.history_bytes, bytes);
    for (c = 0; c < hub->channel_table.buckets; c++) {
        uint32_t index = *lpi_table_bucket(&hub->channel_table, c);
        for (; index != LPI_NONE; index = lpi_channel_at(hub, index)->node.next) {
            lpi_channel *ch = lpi_channel_at(hub, index);
            channels++;
            waiters += ch->waiters;
            messages -= ch->held;
            CHECK(ch->waiters_since_publish <= ch->waiters);
            CHECK(!ch->pinned);
            CHECK(ch->lists.head != LPI_NONE || !ch->waiters);
            CHECK(!ch->forgotten);
            CHECK_INT(ch->idle, !ch->held && !ch->waiters && ch->lists.head == LPI_NONE);
        }
    }
    CHECK_INT(messages, 0);
    CHECK_INT(waiters, hub->waiters.used);
    CHECK_INT(channels, hub->stats.channels);
    for (c = hub->news.head; c != LPI_NONE;) { /* some have left the table */
        lpi_channel *ch = lpi_channel_at(hub, c);
        channels += ch->forgotten;
        c = ch->watch_link.next;
    }
    CHECK_INT(channels, hub->channels.used);
    for (c = 0; c < hub->counter_table.buckets; c++) {
        uint32_t index = *lpi_table_bucket(&hub->counter_table, c);
        for (; index != LPI_NONE; index = lpi_node_at(&hub->counter_table, index)->next)
            counters += lpi_counter_at(hub, index)->node.count;
    }
    CHECK_INT(counters, hub->stats.waiters);
}

/* Whether a connection before it, of the same address, is sent the same. */
static int is_charged(lpi_loop *loop, const lpi_connection *c, uint32_t index) {
    uint32_t i = 0;
    const lpi_connection *d;
    for (; (d = lpi_loop_each(loop, &i)) && i < index; i++)
        if (d->wait.account == c->wait.account && d->buffer && d->buffer->out == c->buffer->out) return 1;
    return 0;
}

/* What an address is charged with, by its connections. Returns their number. */
static uint32_t check_account(world *w, uint32_t i) {
    lpi_hub *hub = &w->s->hub;
    const lpi_account *account = lpi_account_at(hub, i);
    uint32_t here = handed_over(w, i), own = account->trusted ? 0 : here, polls = 0, l, index;
    uint64_t partial = 0, pinned = 0;
    for (l = 0; l < w->s->loop_count; l++) {
        lpi_loop *loop = &w->s->loops[l];
        lpi_connection *c;
        for (index = 0; (c = lpi_loop_each(loop, &index)); index++) {
            if (c->wait.account != i) continue;
            here++;
            own += !(c->flags & LPI_TRUSTED);
            polls += c->phase == LPI_PARKED;
            if (!c->buffer) continue;
            partial += sizeof *c->buffer + c->buffer->in_capacity;
            if (!c->buffer->out) continue;
            CHECK_INT(c->buffer->account, i);
            if (!is_charged(loop, c, index))
                pinned += sizeof(lpi_send_buffer) + c->buffer->out->length;
        }
    }
    CHECK_INT(account->refs, here);
    CHECK_INT(account->connections, own);
    CHECK_INT(account->node.count, polls);
    CHECK_INT(account->partial_bytes, partial);
    CHECK_INT(account->pinned_bytes, pinned);
    return here;
}

static void check_accounts(world *w) {
    lpi_hub *hub = &w->s->hub;
    uint32_t b, i, accounts = 0, refs = 0;
    for (b = 0; b < hub->account_table.buckets; b++)
        for (i = *lpi_table_bucket(&hub->account_table, b); i != LPI_NONE;
             i = lpi_node_at(&hub->account_table, i)->next, accounts++)
            refs += check_account(w, i);
    CHECK_INT(refs, hub->stats.connections);
    CHECK_INT(accounts, hub->accounts.used);
}

UNIT_UNUSED static void check_world(world *w) {
    if (!w->s || w->unchecked) return;
    check_connections(w);
    check_hub(w);
    check_accounts(w);
}

UNIT_UNUSED static void close_world(world *w) {
    check_world(w);
    lp_destroy(w->s);
    w->s = NULL;
    CHECK_INT(w->m.blocks, 0);
    CHECK_INT(w->m.bytes, 0);
    CHECK_INT(kernel_open_count(&w->k, K_FREE), 0);
    free_world(w);
}

/* ---- time ---- */

UNIT_UNUSED static uint64_t now_ms(const world *w) { return w->k.now_us / 1000; }

/* A step of one loop. */
UNIT_UNUSED static lp_result turn_loop(world *w, uint32_t loop, int wait_ms) {
    lp_result result = lpi_loop_step(&w->s->loops[loop], wait_ms);
    check_world(w);
    return result;
}

/* A step of each loop; then as much time passes as all would wait. */
static lp_result turn_all(world *w, int wait_ms) {
    lp_result result = LP_ERR_STOPPED;
    uint32_t i;
    w->k.frozen = 1;
    w->k.shortest_ms = (uint32_t)wait_ms;
    for (i = 0; i < w->s->loop_count; i++)
        if (turn_loop(w, i, wait_ms) == LP_OK) result = LP_OK;
    w->k.frozen = 0;
    w->k.now_us += w->k.shortest_ms * UINT64_C(1000);
    return result;
}

UNIT_UNUSED static lp_result turn(world *w, int wait_ms) {
    lp_result result;
    if (w->s->loop_count > 1) return turn_all(w, wait_ms);
    result = lp_step(w->s, wait_ms);
    check_world(w);
    return result;
}

static int loop_is_busy(const world *w, uint32_t i) {
    const lpi_loop *loop = &w->s->loops[i];
    return w->s->hub.loops[i].ready_first != LPI_NONE || loop->queue.head != LPI_NONE;
}

/* Whether something is to be done at once. */
static int is_busy(world *w) {
    uint32_t i;
    for (i = 0; i < w->s->loop_count; i++)
        if (loop_is_busy(w, i)) return 1;
    return kernel_events(&w->k, NULL, 1) || w->s->hub.news.head != LPI_NONE;
}

/* Until nothing more happens without time passing. The steps that it took. */
UNIT_UNUSED static int settle(world *w) {
    int steps = 0;
    do {
        if (turn(w, 0) != LP_OK) break;
        if (++steps == 20000) unit_fail(__FILE__, __LINE__, "it never rests");
    } while (is_busy(w));
    return steps;
}

/* Likewise, of one loop; the others stand still. */
UNIT_UNUSED static void settle_loop(world *w, uint32_t loop) {
    int poller = 0, steps = 0;
    while (w->k.fds[poller].kind != K_POLLER || w->k.fds[poller].loop != loop) poller++;
    do {
        if (turn_loop(w, loop, 0) != LP_OK) break;
        if (++steps == 20000) unit_fail(__FILE__, __LINE__, "it never rests");
    } while (kernel_events_of(&w->k, poller, NULL, 1) || loop_is_busy(w, loop));
}

/* While one loop sleeps the next falls asleep in turn, and when all do it is called. */
static void next_falls_asleep(world *w) {
    uint32_t loop = 0, sleepers = w->k.sleepers;
    void (*what)(world *) = w->k.asleep;
    w->k.sleepers &= sleepers - 1;
    if (!sleepers) {
        w->k.asleep = NULL;
        what(w);
        return;
    }
    while (!(sleepers >> loop & 1)) loop++;
    lpi_loop_step(&w->s->loops[loop], -1);
    CHECK(!w->k.asleep); /* it fell asleep, since it had nothing to do */
}

/* Call `what` while all loops of the mask sleep at once. They wake up for what it did, or
   for nothing; no time passes. */
UNIT_UNUSED static void while_asleep(world *w, uint32_t mask, void (*what)(world *)) {
    w->k.sleepers = mask;
    w->k.asleep = what;
    next_falls_asleep(w);
    check_world(w);
}

/* Let `ms` pass. The steps that it took; ends early once the server has stopped. */
UNIT_UNUSED static int pass(world *w, uint64_t ms) {
    uint64_t end_us = w->k.now_us + ms * 1000;
    int steps = 0;
    while (w->k.now_us < end_us) {
        uint64_t left = (end_us - w->k.now_us + 999) / 1000;
        if (turn(w, left > 1000000 ? 1000000 : (int)left) != LP_OK) return steps;
        if (++steps == 20000) unit_fail(__FILE__, __LINE__, "it is busy, and should sleep");
    }
    return steps + settle(w);
}

/* ---- clients ---- */

UNIT_UNUSED static peer *dial_from(world *w, const char *address) {
    peer *c = (peer *)calloc(1, sizeof *c);
    c->world = w;
    c->fd = -1;
    c->window = SIZE_MAX;
    CHECK(!lpi_address_parse(lp_s(address), c->address.bytes));
    c->address.port = 50000;
    c->next = w->peers;
    w->peers = c;
    *w->k.queue_end = c;
    w->k.queue_end = &c->queued;
    return c;
}

UNIT_UNUSED static peer *dial(world *w) { return dial_from(w, "127.0.0.1"); }

UNIT_UNUSED static void say_bytes(peer *c, const char *bytes, size_t length) {
    peer_grow(&c->in, &c->in_capacity, c->in_length + length);
    if (length) memcpy(c->in + c->in_length, bytes, length);
    c->in_length += length;
}

UNIT_UNUSED static void say(peer *c, const char *text) { say_bytes(c, text, strlen(text)); }

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
UNIT_UNUSED static void sayf(peer *c, const char *format, ...) {
    char text[4096];
    va_list args;
    va_start(args, format);
    CHECK(vsnprintf(text, sizeof text, format, args) < (int)sizeof text);
    va_end(args);
    say(c, text);
}

UNIT_UNUSED static void get(peer *c, const char *target) {
    sayf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", target);
}

/* With a name of its own, for the limits. */
UNIT_UNUSED static void get_as(peer *c, const char *target, const char *client) {
    sayf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: %s\r\n\r\n", target, client);
}

UNIT_UNUSED static void post(peer *c, const char *target, const char *json) {
    sayf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Content-Length: %lu\r\n\r\n", target, (unsigned long)strlen(json));
    say(c, json);
}

/* No more will be said. */
UNIT_UNUSED static void finish(peer *c) { c->fin = 1; }

/* A reset: what was on the way is lost. */
UNIT_UNUSED static void reset(peer *c) {
    c->rst = 1;
    c->in_at = c->in_length;
}

/* Read as fast as it comes from now on, or `n` bytes more. */
UNIT_UNUSED static void widen(peer *c, size_t n) { c->window = n; }

static lp_slice unheard(const peer *c) {
    return lpi_slice(c->out ? c->out + c->out_at : "", c->out_length - c->out_at);
}

static lp_slice heading_of(lp_slice rest, const char *name) {
    lp_slice line, key;
    while (lpi_split(&rest, '\n', &line)) {
        if (line.length && line.bytes[line.length - 1] == '\r') line.length--;
        if (lpi_split(&line, ':', &key) && line.bytes && lpi_alike(key, lp_s(name)))
            return lpi_trim(line);
    }
    return lpi_slice(NULL, 0);
}

UNIT_UNUSED static lp_slice heading(const answer *a, const char *name) {
    return heading_of(a->head, name);
}

static answer *take_with(peer *c, int bodiless) {
    lp_slice text = unheard(c), value;
    const char *end = (const char *)memmem(text.bytes, text.length, "\r\n\r\n", 4);
    size_t head = end ? (size_t)(end - text.bytes) + 4 : 0;
    uint64_t length = 0;
    answer *a;
    char quoted[300], *copy;
    if (!end || head < 13 || memcmp(text.bytes, "HTTP/1.1 ", 9))
        unit_fail(__FILE__, __LINE__, "no answer; heard \"%s\"",
                  unit_quote(quoted, sizeof quoted, text.bytes, text.length));
    value = heading_of(lpi_slice(text.bytes, head), "Content-Length");
    if (value.bytes) CHECK(!lpi_parse_uint(value, &length));
    if (bodiless) length = 0;
    if (text.length - head < length)
        unit_fail(__FILE__, __LINE__, "an answer of which %lu of %lu bytes came",
                  (unsigned long)(text.length - head), (unsigned long)length);
    a = (answer *)calloc(1, sizeof *a + head + (size_t)length + 1); /* NUL */
    copy = (char *)(a + 1);
    memcpy(copy, text.bytes, head + (size_t)length);
    a->next = c->world->answers;
    c->world->answers = a;
    a->status = atoi(copy + 9);
    a->head = lpi_slice(copy, head);
    a->body = lpi_slice(copy + head, (size_t)length);
    c->out_at += head + (size_t)length;
    return a;
}

/* The next answer; the test fails if there is none. */
UNIT_UNUSED static answer *take(peer *c) { return take_with(c, 0); }

/* Likewise, to a HEAD. */
UNIT_UNUSED static answer *take_head(peer *c) { return take_with(c, 1); }

#define CHECK_SILENT(c) CHECK_INT(unheard(c).length, 0)

/* The raw value of the first member of that name; a string's without its quotes. */
UNIT_UNUSED static lp_slice member(lp_slice json, const char *name) {
    char key[64];
    const char *at, *end = json.bytes + json.length, *from;
    snprintf(key, sizeof key, "\"%s\":", name);
    at = (const char *)memmem(json.bytes, json.length, key, strlen(key));
    if (!at) return lpi_slice(NULL, 0);
    from = at += strlen(key);
    if (*at == '"') {
        for (at = ++from; at < end && *at != '"';) at++;
    } else {
        while (at < end && *at != ',' && *at != '}' && *at != ']') at++;
    }
    return lpi_slice(from, (size_t)(at - from));
}

UNIT_UNUSED static int has(lp_slice text, const char *part) {
    return memmem(text.bytes, text.length, part, strlen(part)) != NULL;
}

UNIT_UNUSED static int count_of(lp_slice text, const char *part) {
    int n = 0;
    const char *at;
    while ((at = (const char *)memmem(text.bytes, text.length, part, strlen(part)))) {
        text.length -= (size_t)(at + strlen(part) - text.bytes);
        text.bytes = at + strlen(part);
        n++;
    }
    return n;
}

/* A member as a C string, in one of a few buffers that are used in turn. */
UNIT_UNUSED static const char *text_of(lp_slice json, const char *name) {
    static char buffers[8][700];
    static int next;
    char *to = buffers[next++ % 8];
    lp_slice value = member(json, name);
    CHECK(value.bytes && value.length < 700);
    memcpy(to, value.bytes, value.length);
    to[value.length] = 0;
    return to;
}

/* The answer to a request that needs no waiting. */
UNIT_UNUSED static answer *ask(world *w, peer *c, const char *target) {
    get(c, target);
    settle(w);
    return take(c);
}

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
UNIT_UNUSED static answer *askf(world *w, peer *c, const char *format, ...) {
    char target[2048];
    va_list args;
    va_start(args, format);
    CHECK(vsnprintf(target, sizeof target, format, args) < (int)sizeof target);
    va_end(args);
    return ask(w, c, target);
}

UNIT_UNUSED static lp_published publish(world *w, const char *channel, const char *json) {
    lp_published out;
    CHECK_INT(lp_publish(w->s, lp_s(channel), lp_s(json), &out), LP_OK);
    return out;
}

/* {"n":N} */
UNIT_UNUSED static lp_published publish_n(world *w, const char *channel, int n) {
    char json[40];
    snprintf(json, sizeof json, "{\"n\":%d}", n);
    return publish(w, channel, json);
}

/* {"pad":"xxx..."} of `size` bytes. */
UNIT_UNUSED static lp_published publish_padded(world *w, const char *channel, size_t size) {
    char *json = (char *)malloc(size + 1);
    lp_published out;
    memset(json, 'x', size);
    memcpy(json, "{\"pad\":\"", 8);
    memcpy(json + size - 2, "\"}", 2);
    json[size] = 0;
    out = publish(w, channel, json);
    free(json);
    return out;
}

/* Park a poll: nothing comes back, and the number of waiters grows. */
UNIT_UNUSED static void park(world *w, peer *c, const char *target) {
    uint32_t before = w->s->hub.stats.waiters;
    get(c, target);
    settle(w);
    CHECK_SILENT(c);
    CHECK(!c->closed);
    CHECK_INT(w->s->hub.stats.waiters, before + 1);
}

/* The answer to a poll that would not wait, of up to 1,000 messages, on a connection that
   is kept for that. */
UNIT_UNUSED static answer *look(world *w, const char *channels, const char *last_id) {
    if (!w->looker || w->looker->closed) w->looker = dial_from(w, "10.255.255.255");
    return askf(w, w->looker, "/api/poll/%s?last_id=%s&timeout=0&limit=1000", channels, last_id);
}

/* The N of all messages {"n":N} of a reply, in their order, with ',' between. */
UNIT_UNUSED static const char *ns_of(const answer *a) {
    static char buffers[4][8192];
    static int next;
    char *to = buffers[next++ % 4];
    lp_slice rest = a->body, n;
    size_t length = 0;
    to[0] = 0;
    while ((n = member(rest, "n")).bytes) {
        CHECK(length + n.length + 2 < sizeof buffers[0]);
        if (length) to[length++] = ',';
        memcpy(to + length, n.bytes, n.length);
        to[length += n.length] = 0;
        rest.length -= (size_t)(n.bytes + n.length - rest.bytes);
        rest.bytes = n.bytes + n.length;
    }
    return to;
}

UNIT_UNUSED static lp_stats stats_of(world *w) {
    lp_stats stats;
    lp_stats_read(w->s, &stats);
    return stats;
}

/* A server of its own: blocks of memory that it holds now. */
#define CHECK_CLOSED(c) CHECK((c)->closed)

#endif /* KERNEL_H */
