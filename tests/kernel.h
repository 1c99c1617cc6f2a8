/* kernel.h: the one operating system in memory behind lp_os, for all tests that run a server
   without sockets.

   What stands here is what a kernel does by itself: descriptors and what they stand for, the
   listener's queue, streams with a window, pollers, pipes, copies that children hold. It is
   strict: a descriptor used after its close, a `was` that is not what the poller watches, a
   send after a shutdown, closing what is watched or was not shut down breaks a rule, which
   ends the test.

   Two programs drive it: unit/kernel.h, whose clients are the lines of a test, and sim/kernel.h,
   whose clients, faults and threads come from a seed. A driver decides what happens outside and
   when time passes. Before it includes this it defines

       KERNEL_RULE(x, what)   what ends the test if x is false
       KERNEL_STREAM          fields that it adds to a stream
       KERNEL_OWN             fields that it adds to a kernel

   and after it kernel_poller_wait, the clocks, and the functions that are declared below.

   A server can connect to others if kernel.net says who answers: see kernel_net. */

#ifndef TESTS_KERNEL_H
#define TESTS_KERNEL_H

typedef enum kernel_call {
    K_MONOTONIC, K_WALL, K_RANDOM, K_LISTEN, K_ACCEPT, K_RECV, K_SEND, K_SHUTDOWN,
    K_CLOSE, K_RESERVE, K_POLLER_OPEN, K_POLLER_SET, K_POLLER_WAIT, K_POLLER_CLOSE,
    K_WAKE_OPEN, K_WAKE_SIGNAL, K_WAKE_CLEAR, K_CONNECT, K_CONNECTED, K_CALLS
} kernel_call;

KERNEL_UNUSED static const char *const kernel_call_names[K_CALLS] = {
    "monotonic", "wall", "random", "listen", "accept", "recv", "send", "shutdown", "close",
    "reserve", "poller_open", "poller_set", "poller_wait", "poller_close", "wake_open",
    "wake_signal", "wake_clear", "connect", "connected"};

typedef enum kernel_kind {
    K_FREE, K_LISTENER, K_SOCKET, K_SPARE, K_POLLER, K_WAKE_IN, K_WAKE_OUT, K_KINDS
} kernel_kind;

enum { KERNEL_POLLERS = 32, KERNEL_TIMER = -77 };

/* A connection: what a client has said, and what became of it. */
typedef struct stream {
    struct stream *queued_next; /* in the listener's queue                      */
    lp_address address;
    int fd;                  /* the server's end; -1 before and after           */
    int description;         /* what that stands for; -1 before, and once nobody
                                holds it                                        */
    char *in;                /* a ring of in_size bytes: what has arrived       */
    size_t in_size, in_at, in_length; /* at: taken by the server; both only grow */
    size_t window;           /* bytes that the server may still send; SIZE_MAX:
                                any number                                      */
    uint8_t fin, rst;        /* the client's doing                              */
    uint8_t ended;           /* the server's: LP_WRITE, and LP_READ with it     */
    uint8_t closed;          /* nobody holds the server's end any more          */
    uint8_t cut;             /* closed with bytes unread: a real one sends RST,
                                and the client may never see the answer         */
    uint8_t dialled;         /* the server connected to somebody                */
    uint8_t connecting;      /* and does not know yet whether that succeeded    */
    int refused;             /* it did not: an errno, with rst                  */
    void *far;               /* the net's                                       */
    KERNEL_STREAM
} stream;

/* What a descriptor stands for. It lives for as long as the server or a child has one. */
typedef struct description {
    uint8_t kind, watched, signalled;
    uint8_t ended;    /* it was shut down, or that was tried                    */
    uint8_t children; /* that hold it: a bit each                               */
    int fd;           /* the server's; -1: children alone hold it               */
    int slot;         /* of the poller that it is, or that watches it; -1: none */
    int ready_at;     /* in that poller's list; -1: it is not ready             */
    int wakes;        /* of a pipe: the description of the end that it wakes    */
    uint8_t told;     /* with LP_EDGE: an event told of those ends of the       */
    uint8_t told_ends;   /* stream and of that many bytes that are not read     */
    size_t told_bytes;
    uint32_t tag;
    stream *stream;   /* of a socket that was accepted; else NULL               */
} description;

/* Whom a server connects to. `connect` makes a stream that is zero but for what it wishes, and
   has `connecting` set until the net calls kernel_answered(). `sent`: the server has sent that;
   `ended`: and no more. `closed`: nobody has the server's end any more, and the stream is the
   net's to free. */
struct kernel;
typedef struct kernel_net {
    stream *(*connect)(struct kernel *k, const lp_address *to, const char *path, int *error);
    void (*sent)(stream *s, const lp_slice *parts, size_t n);
    void (*ended)(stream *s);
    void (*closed)(stream *s);
} kernel_net;

typedef struct kernel {
    const kernel_net *net;   /* NULL: the server cannot connect                 */
    void *net_ctx;
    int *fds;                /* descriptor to description; -1: free             */
    int fd_count, fd_free;   /* fd_free: none below it is free                  */
    int fd_open, fd_limit;   /* fd_limit 0: there is none                       */
    int open_of[K_KINDS];    /* descriptors of the server's                     */
    description *all;
    int count, free, held;   /* held: by children alone                         */
    struct {
        int *ready;          /* descriptions, in no order                       */
        int count, capacity, used;
    } pollers[KERNEL_POLLERS];
    int *taken, taken_capacity; /* by kernel_take_events: whose each event is   */
    int poller;              /* the descriptor of the first of them, or -1      */
    int listening;           /* the description that takes connections, or -1   */
    stream *queue, **queue_end;
    uint32_t signalled;      /* by poller: whether its pipe is readable         */
    uint32_t signals[KERNEL_POLLERS]; /* ... how often it was signalled         */
    lp_address bound;        /* where the listener is                           */
    uint32_t outlived;       /* closed by the server, and a child had it still  */
    KERNEL_OWN
} kernel;

/* ---- what a driver defines ---- */

/* A call begins: time passes, another thread may go on. */
static void kernel_called(kernel *k, kernel_call call);
/* The error that it is to fail with, or 0. `s` may be NULL; `what` is how to shut down, or what
   poller_set wants: removing from a poller succeeds all the same. */
static int kernel_fault(kernel *k, kernel_call call, stream *s, uint32_t what);
/* How many of `n` bytes, 1 at least, one call of recv or send moves. */
static size_t kernel_part(kernel *k, kernel_call call, stream *s, size_t n);
static void kernel_exhausted(kernel *k);                    /* EMFILE            */
static void kernel_used(kernel *k, const description *d);   /* by this thread    */
static int kernel_accepts(kernel *k, stream *s);            /* 0, or an error    */
static void kernel_refused(kernel *k, stream *s);           /* in the queue      */
static void kernel_received(kernel *k, stream *s, size_t n);
static void kernel_sends(kernel *k, stream *s, const lp_slice *parts, int count);
/* `n` bytes of it were sent, 0 after an error. The error that is told. */
static int kernel_sent(kernel *k, stream *s, const lp_slice *parts, int count, size_t n,
                       int error);
static void kernel_ended(kernel *k, stream *s, uint32_t how);
static void kernel_closing(kernel *k, stream *s);           /* by the server     */
static void kernel_closed(kernel *k, stream *s);            /* by everybody      */
static void kernel_watched(kernel *k, const description *d, uint32_t want);
static void kernel_readied(kernel *k, int slot);            /* its first event   */

static uint64_t kernel_monotonic_us(void *ctx);
static uint64_t kernel_wall_us(void *ctx);
static int kernel_random(void *ctx, void *bytes, size_t size);
static int kernel_poller_wait(void *ctx, lp_poller *poller, lp_event *events, int max,
                              uint64_t until_us);

/* ---- descriptors ---- */

static void *kernel_grow(void *array, int *count, size_t size)
{
    int grown = *count ? *count * 2 : 64;
    array = realloc(array, (size_t)grown * size);
    KERNEL_RULE(array, "the machine has no memory");
    *count = grown;
    return array;
}

static int kernel_take_fd(kernel *k)
{
    int fd = k->fd_free, had = k->fd_count;
    while (fd < had && k->fds[fd] >= 0) fd++;
    if (fd == had) {
        k->fds = (int *)kernel_grow(k->fds, &k->fd_count, sizeof *k->fds);
        while (had < k->fd_count) k->fds[had++] = -1;
    }
    k->fd_free = fd + 1;
    return fd;
}

static int kernel_take_description(kernel *k)
{
    int id = k->free, had = k->count;
    while (id < had && k->all[id].kind) id++;
    if (id == had) {
        k->all = (description *)kernel_grow(k->all, &k->count, sizeof *k->all);
        memset(k->all + had, 0, (size_t)(k->count - had) * sizeof *k->all);
    }
    k->free = id + 1;
    return id;
}

/* The lowest free descriptor, as POSIX has it, from 0; or -EMFILE. */
static int kernel_open(kernel *k, kernel_kind kind)
{
    description *d;
    int fd, id;
    if (k->fd_limit && k->fd_open >= k->fd_limit) {
        kernel_exhausted(k);
        return -EMFILE;
    }
    fd = kernel_take_fd(k);
    id = kernel_take_description(k);
    d = &k->all[id];
    memset(d, 0, sizeof *d);
    d->kind = (uint8_t)kind;
    d->fd = fd;
    d->slot = d->ready_at = d->wakes = -1;
    k->fds[fd] = id;
    k->fd_open++;
    k->open_of[kind]++;
    return fd;
}

static void kernel_forget(kernel *k, int id)
{
    description *d = &k->all[id];
    if (d->fd < 0) k->held--;
    d->kind = K_FREE;
    if (id < k->free) k->free = id;
}

/* The server's descriptor is free again. */
static void kernel_leave(kernel *k, int fd)
{
    description *d = &k->all[k->fds[fd]];
    d->fd = -1;
    k->fds[fd] = -1;
    k->fd_open--;
    k->open_of[d->kind]--;
    k->held++;
    if (d->children) k->outlived++;
    if (fd < k->fd_free) k->fd_free = fd;
}

/* Of that kind; K_FREE: of any. */
KERNEL_UNUSED static int kernel_open_count(const kernel *k, kernel_kind kind)
{
    return kind ? k->open_of[kind] : k->fd_open;
}

/* NULL: it is not open. */
static description *kernel_find(kernel *k, int fd)
{
    if (fd < 0 || fd >= k->fd_count || k->fds[fd] < 0) return NULL;
    return &k->all[k->fds[fd]];
}

static description *kernel_at(kernel *k, int fd, kernel_kind kind)
{
    description *d = kernel_find(k, fd);
    KERNEL_RULE(d && d->kind == kind, "a descriptor is not open, or of another kind");
    return d;
}

/* ---- what is ready ---- */

/* What is true of it, whether or not it was told: a reset, or an end on both sides, even
   unasked. */
static uint32_t kernel_level(const kernel *k, const description *d)
{
    const stream *s = d->stream;
    uint32_t what = 0;
    if (!d->watched) return 0;
    if (d->kind == K_WAKE_IN) return d->signalled ? LP_READ : 0;
    if (d->kind == K_LISTENER && k->listening != (int)(d - k->all)) return LP_READ | LP_HANGUP;
    if (d->kind == K_LISTENER) return k->queue ? LP_READ : 0;
    if (d->kind != K_SOCKET || s->connecting) return 0;
    if (s->rst || (s->ended && (s->ended & LP_READ || s->fin)))
        return LP_READ | LP_WRITE | LP_HANGUP;
    if (s->fin || s->ended & LP_READ) what |= LP_READ | LP_HANGUP;
    if (s->in_at != s->in_length) what |= LP_READ;
    if (s->window) what |= LP_WRITE;
    return what & d->watched;
}

static uint8_t kernel_ends_of(const stream *s)
{
    return (uint8_t)(s->ended | (s->fin ? 4 : 0) | (s->rst ? 8 : 0));
}

static size_t kernel_left(const stream *s) { return s->in_length - s->in_at; }

/* What epoll would tell. With LP_EDGE nothing, unless something came since it last told. */
static uint32_t kernel_ready(const kernel *k, const description *d)
{
    if (d->told && kernel_left(d->stream) <= d->told_bytes &&
        d->told_ends == kernel_ends_of(d->stream))
        return 0;
    return kernel_level(k, d);
}

/* Something happened to it: its poller has it in the list, or not. */
static void kernel_refresh(kernel *k, int id)
{
    description *d = &k->all[id];
    int slot = d->slot, last;
    if (slot < 0 || d->kind == K_POLLER) return;
    if (!kernel_ready(k, d) == (d->ready_at < 0)) return;
    if (d->ready_at >= 0) {
        last = k->pollers[slot].ready[--k->pollers[slot].count];
        k->pollers[slot].ready[d->ready_at] = last;
        k->all[last].ready_at = d->ready_at;
        d->ready_at = -1;
        return;
    }
    if (k->pollers[slot].count == k->pollers[slot].capacity)
        k->pollers[slot].ready = (int *)kernel_grow(
            k->pollers[slot].ready, &k->pollers[slot].capacity, sizeof(int));
    d->ready_at = k->pollers[slot].count++;
    k->pollers[slot].ready[d->ready_at] = id;
    if (!d->ready_at) kernel_readied(k, slot);
}

KERNEL_UNUSED static void kernel_refresh_stream(kernel *k, const stream *s)
{
    if (s->description >= 0) kernel_refresh(k, s->description);
}

/* The server has been told what is true of it. */
static void kernel_told(kernel *k, int id)
{
    description *d = &k->all[id];
    if (!(d->watched & LP_EDGE)) return;
    d->told = 1;
    d->told_bytes = kernel_left(d->stream);
    d->told_ends = kernel_ends_of(d->stream);
    kernel_refresh(k, id);
}

/* A connection of that poller that would wait for ever: it was told of once, and not all was read.
   -1: there is none. */
KERNEL_UNUSED static int kernel_unread(const kernel *k, int slot)
{
    int id;
    for (id = 0; id < k->count; id++) {
        const description *d = &k->all[id];
        if (d->slot == slot && d->watched & LP_EDGE && kernel_level(k, d) && !kernel_ready(k, d))
            return id;
    }
    return -1;
}

/* What is ready, from the `from`th of them on, and around. The caller calls kernel_told() for
   what it passes on: k->taken[i] is whose the ith event is. */
static int kernel_take_events(kernel *k, int slot, int from, lp_event *events, int max)
{
    int i, n = k->pollers[slot].count;
    for (i = 0; i < n && i < max; i++) {
        const description *d = &k->all[k->pollers[slot].ready[(from + i) % n]];
        if (i == k->taken_capacity)
            k->taken = (int *)kernel_grow(k->taken, &k->taken_capacity, sizeof(int));
        k->taken[i] = (int)(d - k->all);
        events[i].tag = d->tag;
        events[i].what = kernel_ready(k, d);
    }
    return i;
}

/* ---- what happens outside ---- */

/* Somebody connects: 0, or -1 if nobody listens. */
static int kernel_connect(kernel *k, stream *s)
{
    if (k->listening < 0) return -1;
    s->queued_next = NULL;
    *k->queue_end = s;
    k->queue_end = &s->queued_next;
    kernel_refresh(k, k->listening);
    return 0;
}

/* Nobody will take what waits in its queue. */
static void kernel_listener_ends(kernel *k)
{
    int was = k->listening;
    stream *s = k->queue;
    k->listening = -1;
    k->queue = NULL;
    k->queue_end = &k->queue;
    while (s) {
        stream *next = s->queued_next;
        s->closed = 1;
        kernel_refused(k, s);
        s = next;
    }
    if (was >= 0) kernel_refresh(k, was);
}

/* Neither the server nor a child holds it any more. */
static void kernel_ends(kernel *k, int id)
{
    description *d = &k->all[id];
    stream *s = d->stream;
    if (k->listening == id) kernel_listener_ends(k);
    d->watched = 0;
    kernel_refresh(k, id);
    kernel_forget(k, id);
    if (!s) return;
    s->description = -1;
    s->closed = 1;
    s->cut = s->in_at != s->in_length;
    if (s->dialled) k->net->closed(s);
    else kernel_closed(k, s);
}

KERNEL_UNUSED static void kernel_fork(kernel *k, int child)
{
    int fd;
    for (fd = 0; fd < k->fd_count; fd++)
        if (k->fds[fd] >= 0) k->all[k->fds[fd]].children |= (uint8_t)(1u << child);
}

KERNEL_UNUSED static void kernel_exit(kernel *k, int child)
{
    uint8_t bit = (uint8_t)(1u << child);
    int id;
    for (id = 0; id < k->count; id++) {
        description *d = &k->all[id];
        if (!d->kind || !(d->children & bit)) continue;
        d->children &= (uint8_t)~bit;
        if (d->fd < 0 && !d->children) kernel_ends(k, id);
    }
}

/* ---- the calls ---- */

static int kernel_listen(void *ctx, const lp_address *at, int backlog, lp_address *bound)
{
    kernel *k = (kernel *)ctx;
    int error, fd;
    kernel_called(k, K_LISTEN);
    KERNEL_RULE(backlog > 0, "a backlog of nothing");
    KERNEL_RULE(k->listening < 0, "two listeners");
    error = kernel_fault(k, K_LISTEN, NULL, 0);
    if (error) return -error;
    fd = kernel_open(k, K_LISTENER);
    if (fd < 0) return fd;
    k->listening = k->fds[fd];
    *bound = *at;
    if (!bound->port) bound->port = 49152;
    k->bound = *bound;
    return fd;
}

/* Like Linux: the descriptor is looked for before the queue is looked at. */
static int kernel_accept(void *ctx, int listener, lp_address *peer)
{
    kernel *k = (kernel *)ctx;
    int error, fd;
    stream *s;
    kernel_called(k, K_ACCEPT);
    kernel_at(k, listener, K_LISTENER);
    error = kernel_fault(k, K_ACCEPT, NULL, 0);
    if (error) return -error;
    fd = kernel_open(k, K_SOCKET);
    if (fd < 0) return fd;
    s = k->queue;
    if (s) {
        k->queue = s->queued_next;
        if (!k->queue) k->queue_end = &k->queue;
        kernel_refresh(k, k->listening);
        s->fd = fd;
        s->description = k->fds[fd];
        k->all[k->fds[fd]].stream = s;
        error = kernel_accepts(k, s);
        *peer = s->address;
        if (!error) return fd;
        s->fd = s->description = -1;
    }
    listener = k->fds[fd];
    kernel_leave(k, fd);
    kernel_forget(k, listener);
    return s ? -error : -EAGAIN;
}

static stream *kernel_stream(kernel *k, int fd)
{
    description *d = kernel_at(k, fd, K_SOCKET);
    kernel_used(k, d);
    return d->stream;
}

/* ---- connecting ---- */

static int kernel_dial(void *ctx, const lp_address *to, const char *path)
{
    kernel *k = (kernel *)ctx;
    int fd, error;
    stream *s;
    kernel_called(k, K_CONNECT);
    error = kernel_fault(k, K_CONNECT, NULL, 0);
    if (error) return -error;
    fd = kernel_open(k, K_SOCKET);
    if (fd < 0) return fd;
    s = k->net->connect(k, to, path, &error);
    if (!s) {
        int id = k->fds[fd];
        kernel_leave(k, fd);
        kernel_forget(k, id);
        return -error;
    }
    s->dialled = 1;
    s->fd = fd;
    s->description = k->fds[fd];
    k->all[k->fds[fd]].stream = s;
    return fd;
}

static int kernel_dialled(void *ctx, int fd)
{
    kernel *k = (kernel *)ctx;
    stream *s;
    int error;
    kernel_called(k, K_CONNECTED);
    s = kernel_stream(k, fd);
    KERNEL_RULE(s->dialled, "whether it is connected is asked of a client");
    KERNEL_RULE(!s->connecting, "whether it is connected is asked before the poller told");
    error = kernel_fault(k, K_CONNECTED, s, 0);
    if (!error) error = s->refused;
    s->refused = 0; /* SO_ERROR is told once */
    return -error;
}

/* The connection is made, or with an errno it is not. */
KERNEL_UNUSED static void kernel_answered(kernel *k, stream *s, int error)
{
    s->connecting = 0;
    s->refused = error;
    if (error) s->rst = 1;
    kernel_refresh_stream(k, s);
}

static long kernel_recv(void *ctx, int fd, void *bytes, size_t size)
{
    kernel *k = (kernel *)ctx;
    description *d;
    stream *s;
    size_t n, first;
    int error;
    kernel_called(k, K_RECV);
    s = kernel_stream(k, fd);
    KERNEL_RULE(size > 0, "recv into nothing");
    KERNEL_RULE(!s->connecting, "recv before it is connected");
    error = kernel_fault(k, K_RECV, s, 0);
    if (error) return -error;
    if (s->rst) return -ECONNRESET;
    n = s->in_length - s->in_at;
    if (!n && !s->fin && !(s->ended & LP_READ)) return -EAGAIN;
    if (n) {
        n = kernel_part(k, K_RECV, s, n < size ? n : size);
        first = s->in_size - s->in_at % s->in_size;
        if (first > n) first = n;
        memcpy(bytes, s->in + s->in_at % s->in_size, first);
        memcpy((char *)bytes + first, s->in, n - first);
        s->in_at += n;
        d = &k->all[k->fds[fd]];
        d->told_bytes -= n < d->told_bytes ? n : d->told_bytes;
        if (n < size && kernel_left(s)) d->told = 0; /* as if the rest came after the call */
    }
    if (!s->dialled) kernel_received(k, s, n);
    kernel_refresh(k, k->fds[fd]);
    return (long)n;
}

static long kernel_send(void *ctx, int fd, const lp_slice *parts, int count)
{
    kernel *k = (kernel *)ctx;
    size_t n = 0;
    int error, i;
    stream *s;
    kernel_called(k, K_SEND);
    s = kernel_stream(k, fd);
    KERNEL_RULE(count >= 1 && count <= 4, "too many parts, or none");
    KERNEL_RULE(!s->ended, "sent after shutdown");
    KERNEL_RULE(!s->connecting, "sent before it is connected");
    for (i = 0; i < count; i++) {
        KERNEL_RULE(parts[i].length > 0, "an empty part");
        n += parts[i].length;
    }
    if (!s->dialled) kernel_sends(k, s, parts, count);
    error = kernel_fault(k, K_SEND, s, 0);
    if (!error && s->rst) error = EPIPE;
    if (!error && !s->window) error = EAGAIN;
    if (error) return s->dialled ? -error : -kernel_sent(k, s, parts, count, 0, error);
    n = kernel_part(k, K_SEND, s, n < s->window ? n : s->window);
    if (s->window != SIZE_MAX) s->window -= n;
    if (s->dialled) k->net->sent(s, parts, n);
    else kernel_sent(k, s, parts, count, n, 0);
    kernel_refresh(k, k->fds[fd]);
    return (long)n;
}

/* Of the listener, or of a socket. It ends a listener for whoever holds it. */
static int kernel_shutdown(void *ctx, int fd, uint32_t how)
{
    kernel *k = (kernel *)ctx;
    description *d;
    stream *s;
    int error;
    kernel_called(k, K_SHUTDOWN);
    d = kernel_find(k, fd);
    KERNEL_RULE(d && (d->kind == K_LISTENER || d->kind == K_SOCKET), "what is shut down?");
    KERNEL_RULE(how == LP_WRITE || how == (LP_READ | LP_WRITE), "how is it shut down?");
    s = d->stream;
    if (s) kernel_used(k, d);
    d->ended = 1;
    error = kernel_fault(k, K_SHUTDOWN, s, how);
    if (error) return -error;
    if (!s) {
        KERNEL_RULE(how & LP_READ && k->listening == k->fds[fd],
                    "what is shut down listens no more");
        kernel_listener_ends(k);
        return 0;
    }
    if (s->rst) return -ENOTCONN;
    KERNEL_RULE(!s->ended, "shut down twice");
    s->ended = (uint8_t)how;
    if (!s->dialled) kernel_ended(k, s, how);
    else if (!s->connecting) k->net->ended(s);
    s->connecting = 0; /* what begins to connect may be ended */
    kernel_refresh(k, k->fds[fd]);
    return 0;
}

static void kernel_close(void *ctx, int fd)
{
    kernel *k = (kernel *)ctx;
    description *d;
    int id;
    kernel_called(k, K_CLOSE);
    d = kernel_find(k, fd);
    KERNEL_RULE(d && d->kind != K_POLLER, "a descriptor is closed that is not open, or a poller");
    KERNEL_RULE(!d->watched, "what is watched is closed: a child's copy would go on giving events");
    KERNEL_RULE(d->ended || (d->kind != K_SOCKET && d->kind != K_LISTENER),
                "a stream is closed that was not shut down: a child's copy would keep it");
    id = k->fds[fd];
    if (d->stream) {
        kernel_used(k, d);
        if (!d->stream->dialled) kernel_closing(k, d->stream);
        d->stream->fd = -1;
    }
    if (d->signalled) k->signalled &= ~(1u << d->slot);
    d->signalled = 0;
    kernel_leave(k, fd);
    if (!d->children) kernel_ends(k, id);
}

static int kernel_reserve(void *ctx)
{
    kernel *k = (kernel *)ctx;
    int error;
    kernel_called(k, K_RESERVE);
    error = kernel_fault(k, K_RESERVE, NULL, 0);
    return error ? -error : kernel_open(k, K_SPARE);
}

static int kernel_poller_open(void *ctx, lp_poller *out)
{
    kernel *k = (kernel *)ctx;
    int error, fd, slot = 0;
    kernel_called(k, K_POLLER_OPEN);
    error = kernel_fault(k, K_POLLER_OPEN, NULL, 0);
    if (error) return -error;
    fd = kernel_open(k, K_POLLER);
    if (fd < 0) return fd;
    while (k->pollers[slot].used) slot++;
    KERNEL_RULE(slot < KERNEL_POLLERS, "too many pollers");
    k->pollers[slot].used = 1;
    k->pollers[slot].count = 0;
    k->all[k->fds[fd]].slot = slot;
    if (!slot) k->poller = fd;
    out->fd = fd;
    out->timer = KERNEL_TIMER;
    return 0;
}

/* The slot of a poller: the index of its loop, since those open theirs in order. What is the
   poller's own nobody has changed. */
static int kernel_slot(kernel *k, const lp_poller *poller)
{
    const description *d = kernel_at(k, poller->fd, K_POLLER);
    KERNEL_RULE(poller->timer == KERNEL_TIMER, "a poller's own fields are touched");
    return d->slot;
}

static int kernel_poller_set(void *ctx, lp_poller *poller, int fd, uint32_t tag, uint32_t was,
                             uint32_t want)
{
    kernel *k = (kernel *)ctx;
    description *d;
    int slot, error;
    kernel_called(k, K_POLLER_SET);
    slot = kernel_slot(k, poller);
    d = kernel_find(k, fd);
    KERNEL_RULE(d, "a descriptor is watched that is not open");
    KERNEL_RULE(d->slot < 0 || d->slot == slot, "two pollers watch a descriptor");
    KERNEL_RULE(was == d->watched, "poller_set: it was not watched so");
    KERNEL_RULE(was != want || want & LP_EDGE, "poller_set changes nothing");
    error = kernel_fault(k, K_POLLER_SET, d->stream, want);
    if (error && want) return -error;
    d->slot = slot;
    kernel_watched(k, d, want);
    d->watched = (uint8_t)want;
    d->told = 0;
    d->tag = tag;
    kernel_refresh(k, k->fds[fd]);
    return 0;
}

static void kernel_poller_close(void *ctx, lp_poller *poller)
{
    kernel *k = (kernel *)ctx;
    int id;
    kernel_called(k, K_POLLER_CLOSE);
    k->pollers[kernel_slot(k, poller)].used = 0;
    id = k->fds[poller->fd];
    kernel_leave(k, poller->fd);
    if (!k->all[id].children) kernel_ends(k, id);
}

static int kernel_wake_open(void *ctx, int fds[2])
{
    kernel *k = (kernel *)ctx;
    int error;
    kernel_called(k, K_WAKE_OPEN);
    error = kernel_fault(k, K_WAKE_OPEN, NULL, 0);
    if (error) return -error;
    if (k->fd_limit && k->fd_open + 2 > k->fd_limit) {
        kernel_exhausted(k);
        return -EMFILE;
    }
    fds[0] = kernel_open(k, K_WAKE_IN);
    fds[1] = kernel_open(k, K_WAKE_OUT);
    k->all[k->fds[fds[1]]].wakes = k->fds[fds[0]];
    return 0;
}

static void kernel_wake_signal(void *ctx, int fd)
{
    kernel *k = (kernel *)ctx;
    int id;
    kernel_called(k, K_WAKE_SIGNAL);
    id = kernel_at(k, fd, K_WAKE_OUT)->wakes;
    KERNEL_RULE(k->all[id].slot >= 0, "a pipe is signalled that no poller watches");
    k->all[id].signalled = 1;
    k->signalled |= 1u << k->all[id].slot;
    k->signals[k->all[id].slot]++;
    kernel_refresh(k, id);
}

static void kernel_wake_clear(void *ctx, int fd)
{
    kernel *k = (kernel *)ctx;
    description *d;
    kernel_called(k, K_WAKE_CLEAR);
    d = kernel_at(k, fd, K_WAKE_IN);
    kernel_used(k, d);
    k->signalled &= ~(1u << d->slot);
    d->signalled = 0;
    kernel_refresh(k, k->fds[fd]);
}

/* ---- a machine begins, and is taken to pieces ---- */

static lp_os kernel_os(kernel *k)
{
    const lp_os os = {
        k, kernel_monotonic_us, kernel_wall_us, kernel_random, kernel_listen, kernel_accept,
        kernel_recv, kernel_send, kernel_shutdown, kernel_close, kernel_reserve,
        kernel_poller_open, kernel_poller_set, kernel_poller_wait, kernel_poller_close,
        kernel_wake_open, kernel_wake_signal, kernel_wake_clear,
        k->net ? kernel_dial : NULL, k->net ? kernel_dialled : NULL, NULL};
    return os;
}

/* A new machine; what was allocated for one before serves it too. */
static void kernel_boot(kernel *k)
{
    int i;
    for (i = 0; i < KERNEL_POLLERS; i++) k->pollers[i].count = k->pollers[i].used = 0;
    for (i = 0; i < k->fd_count; i++) k->fds[i] = -1;
    for (i = 0; i < k->count; i++) k->all[i].kind = K_FREE;
    memset(k->open_of, 0, sizeof k->open_of);
    memset(k->signals, 0, sizeof k->signals);
    k->fd_free = k->fd_open = k->free = k->held = 0;
    k->signalled = k->outlived = 0;
    k->listening = k->poller = -1;
    k->queue = NULL;
    k->queue_end = &k->queue;
}

KERNEL_UNUSED static void kernel_free_all(kernel *k)
{
    int i;
    for (i = 0; i < KERNEL_POLLERS; i++) {
        free(k->pollers[i].ready);
        k->pollers[i].ready = NULL;
        k->pollers[i].capacity = 0;
    }
    free(k->taken);
    free(k->fds);
    free(k->all);
    k->taken = NULL;
    k->taken_capacity = 0;
    k->fds = NULL;
    k->all = NULL;
    k->fd_count = k->count = 0;
}

#endif /* TESTS_KERNEL_H */
