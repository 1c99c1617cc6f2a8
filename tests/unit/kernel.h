/* kernel.h: a whole server on the kernel of tests/kernel.h, and the test in its lines is the
   world outside.

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

   If the server connects to others, k.outside moves what is on its way, whenever somebody looks
   and when it arrives: tests/redis_kernel.h with

       static uint64_t outside(kernel *k) {
           redis_net_move(&net, k->now_us);
           return redis_net_due(&net);
       }

   The kernel is strict (see there), and so is this: waiting for ever ends the test. After each
   step check_world() counts everything that can be counted in two ways. */

#ifndef UNIT_KERNEL_H
#define UNIT_KERNEL_H

/* The client's end of a connection, beside what the kernel knows of it. */
#define KERNEL_STREAM                                                                    \
    struct world *world;                                                                 \
    struct stream *next;     /* of all                                          */       \
    uint32_t loop;           /* whose poller watched it last                    */       \
    char *out;               /* all that the server sent                        */       \
    size_t out_at, out_length, out_capacity; /* out_at: what the test has taken */       \
    size_t piece;            /* most that one recv gives; 0: all                */       \
    int accepted;                                                                        \
    int shut;                /* half closed by the server                       */       \
    uint32_t recvs, sends, sets;                                                         \
    uint64_t turn;           /* the number of the last send, of all             */

typedef struct kernel_fault_plan {
    int error;
    uint32_t skip, times;
} kernel_fault_plan;

#define KERNEL_OWN                                                                       \
    uint64_t now_us, wall_us; /* wall_us: what the wall clock is ahead          */       \
    uint32_t cost_us[K_CALLS];                                                           \
    uint64_t random;                                                                     \
    uint32_t calls[K_CALLS];                                                             \
    kernel_fault_plan faults[K_CALLS];                                                        \
    int turn;                 /* the descriptor that a poller tells of first    */       \
    int frozen;               /* no wait lets time pass                         */       \
    uint32_t shortest_ms;     /* of the waits since then                        */       \
    uint32_t sleepers;        /* loops that are to sleep while `asleep` is called */     \
    void (*asleep)(struct world *);                                                      \
    kernel_call during_call;  /* see during()                                   */       \
    void (*during)(struct world *);                                                      \
    struct world *world;                                                                 \
    uint64_t (*outside)(struct kernel *k); /* returns when to call it again     */      \
    int sleeps_for_ever;      /* it may; it would have                          */       \
    int wait_ms;              /* the last that was asked for, rounded up; -1: for ever */ \
    uint64_t sent;            /* number of the last send                        */

#define KERNEL_UNUSED UNIT_UNUSED
#define KERNEL_RULE(x, what) ((x) ? (void)0 : unit_fail(__FILE__, __LINE__, "%s", what))
#include "../kernel.h"

typedef stream peer;

typedef struct answer {
    struct answer *next;
    int status;
    lp_slice head, body;
} answer;

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

/* ---- what the kernel asks ---- */

static void kernel_called(kernel *k, kernel_call call) {
    k->calls[call]++;
    k->now_us += k->cost_us[call];
    if (k->during && k->during_call == call) {
        void (*what)(struct world *) = k->during;
        k->during = NULL;
        what(k->world);
    }
}

static int kernel_fault_of(kernel *k, kernel_call call) {
    kernel_fault_plan *plan = &k->faults[call];
    if (!plan->times) return 0;
    if (plan->skip) {
        plan->skip--;
        return 0;
    }
    plan->times--;
    return plan->error;
}

static int kernel_fault(kernel *k, kernel_call call, peer *c, uint32_t what) {
    (void)what;
    if (c && call == K_RECV) c->recvs++;
    if (c && call == K_POLLER_SET) c->sets++;
    return kernel_fault_of(k, call);
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
    kernel_called(k, K_RANDOM);
    while (size--) {
        k->random = k->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        *to++ = (unsigned char)(k->random >> 56);
    }
    return -kernel_fault(k, K_RANDOM, NULL, 0);
}

static int kernel_accepts(kernel *k, peer *c) {
    (void)k;
    c->accepted = 1;
    return 0;
}

static size_t kernel_part(kernel *k, kernel_call call, peer *c, size_t n) {
    (void)k;
    return call == K_RECV && c->piece && n > c->piece ? c->piece : n;
}

static void peer_grow(char **bytes, size_t *capacity, size_t need) {
    if (need <= *capacity) return;
    *capacity = need * 2 + 256;
    *bytes = (char *)realloc(*bytes, *capacity);
}

static void kernel_sends(kernel *k, peer *c, const lp_slice *parts, int count) {
    (void)parts, (void)count;
    c->sends++;
    c->turn = ++k->sent;
}

static int kernel_sent(kernel *k, peer *c, const lp_slice *parts, int count, size_t n,
                       int error) {
    (void)k, (void)count;
    peer_grow(&c->out, &c->out_capacity, c->out_length + n);
    for (; n; parts++) {
        size_t part = parts->length < n ? parts->length : n;
        memcpy(c->out + c->out_length, parts->bytes, part);
        c->out_length += part;
        n -= part;
    }
    return error;
}

/* The half close before a lingering one is told apart from an end in both directions. */
static void kernel_ended(kernel *k, peer *c, uint32_t how) {
    (void)k;
    if (how == LP_WRITE) c->shut = 1;
}

static void kernel_watched(kernel *k, const description *d, uint32_t want) {
    (void)k, (void)want;
    if (d->stream) d->stream->loop = (uint32_t)d->slot;
}

/* What is of no concern here. */
static void kernel_exhausted(kernel *k) { (void)k; }
static void kernel_used(kernel *k, const description *d) { (void)k, (void)d; }
static void kernel_refused(kernel *k, peer *c) { (void)k, (void)c; }
static void kernel_received(kernel *k, peer *c, size_t n) { (void)k, (void)c, (void)n; }
static void kernel_closing(kernel *k, peer *c) { (void)k, (void)c; }
static void kernel_closed(kernel *k, peer *c) { (void)k, (void)c; }
static void kernel_readied(kernel *k, int slot) { (void)k, (void)slot; }

/* ---- waiting ---- */

/* Tests change streams as they please. Each list is in the order of descriptors. */
static void kernel_refresh_all(kernel *k) {
    int i;
    for (i = 0; i < KERNEL_POLLERS; i++) k->pollers[i].count = 0;
    for (i = 0; i < k->count; i++) k->all[i].ready_at = -1;
    for (i = 0; i < k->count; i++)
        if (k->all[i].kind) kernel_refresh(k, i);
}

/* What has arrived by now is there. When more does. */
static uint64_t kernel_outside(kernel *k) {
    uint64_t next_us = UINT64_MAX;
    int times = 1000;
    while (k->outside && times-- && (next_us = k->outside(k)) <= k->now_us) {}
    return next_us;
}

/* Of the poller of that loop: those from k->turn on first. */
static int kernel_events_of(kernel *k, int slot, lp_event *events, int max) {
    const int *ready;
    int from = 0, n;
    kernel_refresh_all(k);
    ready = k->pollers[slot].ready;
    n = k->pollers[slot].count;
    KERNEL_RULE(n || kernel_unread(k, slot) < 0, "it waits, and a connection has more to read");
    if (!events || !n) return n;
    while (from < n && ready[from] < k->turn) from++;
    from %= n;
    if (max > n) max = n;
    k->turn = ready[(from + max - 1) % n] + 1;
    n = kernel_take_events(k, slot, from, events, max);
    for (from = 0; from < n; from++) kernel_told(k, k->taken[from]);
    return n;
}

/* Whether any loop has an event. */
static int kernel_is_ready(kernel *k) {
    int i, n = 0;
    kernel_outside(k);
    kernel_refresh_all(k);
    for (i = 0; i < KERNEL_POLLERS; i++) n += k->pollers[i].count;
    return n > 0;
}

static void next_falls_asleep(struct world *w);

static int kernel_poller_wait(void *ctx, lp_poller *poller, lp_event *events, int max,
                              uint64_t until_us) {
    kernel *k = (kernel *)ctx;
    int slot = kernel_slot(k, poller), error, n;
    uint64_t left_us, outside_us = kernel_outside(k);
    uint32_t wait_ms;
    kernel_called(k, K_POLLER_WAIT);
    error = kernel_fault(k, K_POLLER_WAIT, NULL, 0);
    left_us = until_us > k->now_us ? until_us - k->now_us : 0;
    k->wait_ms = until_us == UINT64_MAX ? -1 : (int)((left_us + 999) / 1000);
    if (error) return -error;
    wait_ms = (uint32_t)k->wait_ms; /* no deadline: UINT32_MAX */
    if (outside_us < until_us) { /* it wakes up when that arrives, or may */
        until_us = outside_us > k->now_us ? outside_us : k->now_us;
        wait_ms = (uint32_t)((until_us - k->now_us + 999) / 1000);
    }
    n = kernel_events_of(k, slot, events, max);
    if (k->frozen && (n || wait_ms < k->shortest_ms)) k->shortest_ms = n ? 0 : wait_ms;
    if (n || !left_us || k->frozen) return n;
    if (k->asleep) {
        next_falls_asleep(k->world);
        return kernel_events_of(k, slot, events, max);
    }
    if (until_us != UINT64_MAX) k->now_us = until_us;
    else if (!k->sleeps_for_ever) unit_fail(__FILE__, __LINE__, "it would sleep for ever");
    if (!k->outside) return 0;
    kernel_outside(k);
    return kernel_events_of(k, slot, events, max);
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
    kernel_boot(&w->k);
    w->os = kernel_os(&w->k);
    if (!w->k.now_us) w->k.now_us = 1000 * UINT64_C(1000000);
    if (!w->k.wall_us) w->k.wall_us = UINT64_C(1732412345123456) - w->k.now_us;
    w->k.random = unit_seed;
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
    kernel_free_all(&w->k);
}

/* ---- everything is counted again ---- */

#define CHECK_MUST(x, ...) ((x) ? (void)0 : unit_fail(__FILE__, __LINE__, __VA_ARGS__))
#define CHECK_SAME(a, b, what)                                                            \
    CHECK_MUST((uint64_t)(a) == (uint64_t)(b), "%s: %s is %llu, not %llu", what, #a,      \
               (unsigned long long)(a), (unsigned long long)(b))
#define CHECK_SLACK_US 0
#include "../check.h"

static void check_peer(const peer *c, const lpi_account *account, int trusted) {
    (void)c;
    CHECK(trusted || !account->trusted); /* a proxy may speak for another */
}

UNIT_UNUSED static void check_world(world *w) {
    if (!w->s || w->unchecked) return;
    CHECK_INT(check_server(w->s, &w->k), w->m.bytes);
    check_free();
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

/* No deadline is late by more than a step of the loop, at rest. */
enum { TICK_MS = 2 };

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

/* That much passes while the server does nothing. */
UNIT_UNUSED static void tick(world *w, uint32_t ms) { w->k.now_us += ms * UINT64_C(1000); }

/* A number of seconds, as replies have it. */
UNIT_UNUSED static uint64_t us_of(lp_slice seconds) {
    uint64_t us;
    CHECK(!lpi_query_seconds(seconds, 1, &us));
    return us;
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

/* Whether a store is to be sent something, or lp_after_publish is to be told. */
static int stores_have_work(world *w) {
    int work;
    uint32_t k;
    lpi_hub_lock(&w->s->hub);
    work = lpi_hub_has_first_work(&w->s->hub);
    lpi_hub_unlock(&w->s->hub);
    for (k = 0; k < w->s->store_count; k++) work |= w->s->stores[k].first != NULL;
    return work;
}

/* Whether something is to be done at once. */
static int is_busy(world *w) {
    uint32_t i;
    for (i = 0; i < w->s->loop_count; i++)
        if (loop_is_busy(w, i)) return 1;
    return kernel_is_ready(&w->k) || w->s->hub.events.head != LPI_NONE || stores_have_work(w);
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
    int steps = 0;
    do {
        if (turn_loop(w, loop, 0) != LP_OK) break;
        if (++steps == 20000) unit_fail(__FILE__, __LINE__, "it never rests");
    } while (kernel_events_of(&w->k, (int)loop, NULL, 1) || loop_is_busy(w, loop));
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
    c->fd = c->description = -1;
    c->window = SIZE_MAX;
    CHECK(!lpi_address_parse(lp_s(address), c->address.bytes));
    c->address.port = 50000;
    c->next = w->peers;
    w->peers = c;
    if (kernel_connect(&w->k, c)) c->closed = 1;
    return c;
}

UNIT_UNUSED static peer *dial(world *w) { return dial_from(w, "127.0.0.1"); }

UNIT_UNUSED static void say_bytes(peer *c, const char *bytes, size_t length) {
    peer_grow(&c->in, &c->in_size, c->in_length + length);
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

UNIT_UNUSED static peer *park_new(world *w, const char *target) {
    peer *c = dial(w);
    park(w, c, target);
    return c;
}

UNIT_UNUSED static void leave(world *w, peer *c) {
    finish(c);
    settle(w);
    CHECK(c->closed);
}

UNIT_UNUSED static lp_stats stats_of(world *w) {
    lp_stats stats;
    lp_stats_read(w->s, &stats);
    return stats;
}

/* A server of its own: blocks of memory that it holds now. */
#define CHECK_CLOSED(c) CHECK((c)->closed)

#endif /* UNIT_KERNEL_H */
