/* many.c: several servers that share their channels over one or two stores, in a simulated world,
   against a model of what the library promises.

       build/many --events N --seed S [--trace]    at least N simulated calls

   Worlds follow one another, each from its own seed (S, S + 1, ...): a world is a test. It has 1
   to 3 instances with a kernel each (tests/kernel.h), whose loops are fibers that sleep in their
   pollers; 1 or 2 stores (tests/redis.h), with or without a replica; and a path from each instance
   to each store (tests/redis_kernel.h). Clients poll and publish at any instance; stores, paths
   and instances fail in all the ways that there are. What every script call has appended or
   dropped, and which epoch a channel had when and where, is noted as it happens: replies are judged
   by that.
   In the end all is mended, and everybody must hear of one more message.

   What fails prints the command that replays its world. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FORTIFY_SOURCE
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_STATIC
#define LONGPOLL_DEBUG

static void fail_at(int line, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));
#define LP_ASSERT(x) ((x) ? (void)0 : fail_at(__LINE__, "LP_ASSERT(%s)", #x))
#define FAIL(...) fail_at(__LINE__, __VA_ARGS__)
#define MUST(x, ...) ((x) ? (void)0 : fail_at(__LINE__, __VA_ARGS__))

#include "longpoll.h"

/* ---- the world's clock and chance ---- */

enum {
    INSTANCES = 3, LOOPS = 2, STORES = 2, SERVERS = 4, CHANNELS = 12, CLIENTS = 24,
    STACK = 512 * 1024
};

static uint64_t world_seed, clock_us, event_count, worlds;
static uint64_t random_state;
static int tracing;
static const uint64_t WALL_US = UINT64_C(1732412345123456);

static uint64_t chance(void)
{
    uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t between(uint64_t low, uint64_t high) { return low + chance() % (high - low + 1); }
static int one_in(uint64_t n) { return chance() % n == 0; }
#define PICK(...)                                                                       \
    (((const uint64_t[]){__VA_ARGS__})[chance() % (sizeof((const uint64_t[]){__VA_ARGS__}) / 8)])
static uint64_t wall_us(void) { return WALL_US + clock_us; }

static void fail_at(int line, const char *format, ...)
{
    va_list args;
    printf("FAIL: world %" PRIu64 ", at %" PRIu64 ".%06" PRIu64 " s, line %d: ", world_seed,
           clock_us / 1000000, clock_us % 1000000, line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf(" (event %" PRIu64 " of the run)\n", event_count);
    printf("again: build/many --events 1 --seed %" PRIu64 " --trace\n", world_seed);
    printf("%" PRIu64 " passed, 1 failed, 0 skipped\n", worlds);
    fflush(stdout);
    _exit(1);
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    va_list args;
    if (!tracing) return;
    printf("%4" PRIu64 ".%06" PRIu64 " ", clock_us / 1000000, clock_us % 1000000);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

/* ---- the kernels ---- */

struct instance;
struct client;

#define KERNEL_STREAM                                                                   \
    struct client *client;                                                              \
    char *out;                                                                          \
    size_t out_length, out_size;

#define KERNEL_OWN struct instance *instance;
#define KERNEL_RULE(x, what) MUST(x, "%s", what)
#define KERNEL_UNUSED __attribute__((unused))
#include "../kernel.h"
#include "../redis_kernel.h"

/* A loop, which runs until it sleeps. */
typedef struct fiber {
    ucontext_t context;
    char *stack;
    struct instance *instance;
    uint32_t loop;
    int asleep, ended;
    uint64_t until_us;
    uint64_t at_us;          /* spinning: how many steps were made at that time */
    uint32_t steps;
    uint64_t second;         /* and how many were for nothing in that second    */
    uint32_t idle_steps;
} fiber;

typedef struct block {
    struct block *next, *previous;
    size_t size, pad;
} block;

typedef enum life { NONE, RUNNING, STOPPING } life;

typedef struct instance {
    int index;
    kernel k;
    lp_os os;
    lp_config cfg;
    lp_server *s;
    life life;
    uint64_t born_us, next_us; /* of what happens to it                         */
    uint64_t stopped_us;
    fiber fibers[LOOPS];
    block blocks;            /* a ring of all that it has allocated             */
    size_t bytes, most_bytes;
    redis_path *paths[STORES];
    uint64_t path_us[STORES]; /* when something happens to it next              */
    uint64_t well_us[STORES]; /* since when path and store are well, and it is UP */
    uint64_t told_us[CHANNELS]; /* timestamp of what after_publish was told last */
    char urls[128];
} instance;

static instance all[INSTANCES];
static int instance_count;
static ucontext_t scheduler;
static fiber *running;

static void kernel_called(kernel *k, kernel_call call)
{
    (void)k, (void)call;
    event_count++;
}

static int kernel_fault(kernel *k, kernel_call call, stream *s, uint32_t what)
{
    (void)k, (void)call, (void)s, (void)what;
    return 0;
}

static size_t kernel_part(kernel *k, kernel_call call, stream *s, size_t n)
{
    (void)k, (void)call;
    if (s->dialled && n > 1 && one_in(32)) return between(1, n);
    return n;
}

static int kernel_sent(kernel *k, stream *s, const lp_slice *parts, int count, size_t n,
                       int error)
{
    (void)k, (void)count;
    if (s->out_length + n > s->out_size) {
        s->out_size = (s->out_length + n) * 2 + 256;
        s->out = (char *)redis_realloc(s->out, s->out_size);
    }
    for (; n; parts++) {
        size_t part = parts->length < n ? parts->length : n;
        memcpy(s->out + s->out_length, parts->bytes, part);
        s->out_length += part;
        n -= part;
    }
    return error;
}

static void kernel_exhausted(kernel *k) { (void)k; }
static void kernel_used(kernel *k, const description *d) { (void)k, (void)d; }
static int kernel_accepts(kernel *k, stream *s) { (void)k, (void)s; return 0; }
static void kernel_refused(kernel *k, stream *s) { (void)k, (void)s; }
static void kernel_received(kernel *k, stream *s, size_t n) { (void)k, (void)s, (void)n; }
static void kernel_sends(kernel *k, stream *s, const lp_slice *parts, int count)
{
    (void)k, (void)s, (void)parts, (void)count;
}
static void kernel_ended(kernel *k, stream *s, uint32_t how) { (void)k, (void)s, (void)how; }
static void kernel_closing(kernel *k, stream *s) { (void)k, (void)s; }
static void kernel_closed(kernel *k, stream *s) { (void)k, (void)s; }
static void kernel_watched(kernel *k, const description *d, uint32_t want)
{
    (void)k, (void)d, (void)want;
}
static void kernel_readied(kernel *k, int slot) { (void)k, (void)slot; }

static uint64_t kernel_monotonic_us(void *ctx) { (void)ctx; return clock_us; }
static uint64_t kernel_wall_us(void *ctx) { (void)ctx; return wall_us(); }

static int kernel_random(void *ctx, void *bytes, size_t size)
{
    unsigned char *to = (unsigned char *)bytes;
    (void)ctx;
    while (size--) *to++ = (unsigned char)(chance() >> 32);
    return 0;
}

/* No loop may make thousands of steps while no time passes, nor hundreds in a second that are for
   nothing. */
static void count_step(fiber *f, int n)
{
    if (f->at_us != clock_us) f->steps = 0;
    f->at_us = clock_us;
    MUST(++f->steps < 10000, "loop %u of instance %d spins", f->loop, f->instance->index);
    if (n) return;
    if (f->second != clock_us / 1000000) f->idle_steps = 0;
    f->second = clock_us / 1000000;
    MUST(++f->idle_steps < 8000, "loop %u of instance %d wakes up for nothing", f->loop,
         f->instance->index);
}

static int kernel_poller_wait(void *ctx, lp_poller *poller, lp_event *events_out, int max,
                              uint64_t until_us)
{
    kernel *k = (kernel *)ctx;
    int slot = kernel_slot(k, poller), n, i;
    fiber *f = &k->instance->fibers[slot];
    event_count++;
    for (;;) {
        n = k->pollers[slot].count;
        if (n) n = kernel_take_events(k, slot, (int)between(0, (uint64_t)n - 1), events_out, max);
        for (i = 0; i < n; i++) kernel_told(k, k->taken[i]);
        if (n || until_us <= clock_us) break;
        MUST(running == f, "a poller waits on another thread");
        MUST(kernel_unread(k, slot) < 0, "a poller waits, and a connection has more to read");
        f->asleep = 1;
        f->until_us = until_us;
        swapcontext(&f->context, &scheduler);
        f->asleep = 0;
    }
    count_step(f, n);
    return n;
}

/* ---- memory ---- */

static void *resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    instance *in = (instance *)ctx;
    block *b = ptr ? (block *)ptr - 1 : NULL;
    if (b) {
        MUST(b->size == old_size, "a block of %zu bytes is given back as one of %zu", b->size,
             old_size);
        b->next->previous = b->previous;
        b->previous->next = b->next;
        in->bytes -= b->size;
    }
    if (!new_size) {
        free(b);
        return NULL;
    }
    b = (block *)redis_realloc(b, sizeof *b + new_size);
    b->size = new_size;
    b->next = in->blocks.next;
    b->previous = &in->blocks;
    b->next->previous = b->previous->next = b;
    in->bytes += new_size;
    if (in->bytes > in->most_bytes) in->most_bytes = in->bytes;
    MUST(in->bytes < 16 << 20, "%zu bytes of memory", in->bytes);
    return b + 1;
}

/* ---- what every script has done: the truth ---- */

/* A message that was appended. */
typedef struct message {
    struct message *next;    /* in its bucket                                   */
    int channel, server;
    uint64_t epoch, seq, us, at_us;
    uint32_t n;
    int transient;           /* a mark stands in its place where it is gone     */
    int hook_told;           /* after_publish was told of it                    */
} message;

/* An epoch of a channel, and when it was that on which server. */
typedef struct era {
    struct era *next;        /* of the channel                                  */
    uint64_t epoch, parent, base, birth_us;
    uint64_t since_us[SERVERS], until_us[SERVERS];
    int was[SERVERS], is[SERVERS];
    uint64_t last, floor;    /* the highest on any                              */
    uint64_t buried_us;      /* when a message of another was appended where it was */
    uint64_t deleted_us;     /* or the channel's history was dropped there      */
} era;

enum outcome { PENDING, PUBLISHED, AWAY, OUTCOME_UNKNOWN, NEVER_TOLD };

/* A message that somebody wants to be published. */
typedef struct attempt {
    int channel, keyed, appended, told, transient;
    uint32_t first, count;   /* of the array that it came in                    */
    int is_array;
    enum outcome outcome;
    int hook_due, hook_told; /* after_publish has to be told of it; and was     */
    uint64_t first_us;       /* when it was appended first                      */
    struct instance *instance;
    uint64_t life;           /* of that instance                                */
} attempt;

typedef struct store {
    redis *servers[2];
    int front;               /* which of them is the primary, as it should be   */
    int has_replica, following; /* the other one is its replica                 */
    uint64_t lag;            /* in units                                        */
    uint64_t catch_up_us;
    uint64_t next_us;        /* the next fault                                  */
    uint64_t mend_us;        /* and when it ends; UINT64_MAX: there is none     */
    int mend;                /* what is to be done then                         */
    uint64_t lossy_us;       /* when something was lost last                    */
    int two_primaries;       /* what one has the other may not                  */
} store;

enum { BUCKETS = 4096 };

static store stores[STORES];
static int store_count, channel_count;
static struct {
    int store;
    uint32_t history_count, history_age_ms; /* as its policy has it             */
    char name[24], h[48], x[48], p[48];
    era *eras;
    uint64_t messages;
    uint64_t final_seq, final_epoch;
    uint32_t final_n;
    uint64_t deletions;      /* that the scripts did, and that might come yet   */
    uint64_t deletions_asked;
    uint64_t deleted_us;     /* the last                                        */
    uint8_t dirty[SERVERS];
} channels[CHANNELS];
static message *buckets[BUCKETS];
static attempt *attempts;
static uint32_t attempt_count, attempt_room;
static redis_net net;
static uint64_t troubled_us;  /* when something was not as it should be, last   */
static int ending;            /* everything is mended                           */
static struct {
    uint64_t replies, resets[4], timeouts, refused, published, away, unknown, messages, since,
        pages, evicted_early, empty_more, since_back, deletions, deletions_away, arrays, kills, stops, faults, opens, epochs, gaps, connects, publishes,
        hook_told, transients, marks_passed, in_time;
} counts;
static uint64_t transients; /* of a hundred messages                            */
static int policies;        /* a channel may hold less than others              */

static message **bucket_of(int channel, uint64_t epoch, uint64_t seq)
{
    uint64_t h = (epoch ^ seq * UINT64_C(0x9e3779b97f4a7c15)) + (uint64_t)channel;
    return &buckets[(h ^ h >> 32) % BUCKETS];
}

static message *message_find(int channel, uint64_t epoch, uint64_t seq)
{
    message *m = *bucket_of(channel, epoch, seq);
    while (m && (m->channel != channel || m->epoch != epoch || m->seq != seq)) m = m->next;
    return m;
}

static era *era_find(int channel, uint64_t epoch)
{
    era *e = channels[channel].eras;
    while (e && e->epoch != epoch) e = e->next;
    return e;
}

/* The message of that number, as the era has it; NULL if that is not known. */
static message *lineage(int channel, const era *e, uint64_t seq)
{
    while (e && seq <= e->base) e = e->parent ? era_find(channel, e->parent) : NULL;
    return e ? message_find(channel, e->epoch, seq) : NULL;
}

static lp_config base_config; /* what all instances have in common */

/* An instance hears of another epoch when a message of that comes, or by asking. */
static uint64_t stale_us(void) { return 2500000 + 2000 * (uint64_t)base_config.redis_timeout_ms; }

static int era_was_since(const era *e, uint64_t us);
static int era_may_be_known(const era *e, uint64_t us)
{
    us = us < stale_us() ? 0 : us - stale_us();
    return !e->buried_us || e->buried_us >= us || era_was_since(e, us);
}

/* Was it the channel's epoch anywhere at some time from then until now? */
static int era_was_since(const era *e, uint64_t us)
{
    int i;
    for (i = 0; i < SERVERS; i++)
        if (e->was[i] && (e->is[i] || e->until_us[i] >= us)) return 1;
    return 0;
}

static int server_index(const redis *s)
{
    int i;
    for (i = 0; i < SERVERS; i++)
        if (stores[i / 2].servers[i % 2] == s) return i;
    FAIL("whose server is it?");
}

static int channel_by_key(const char *key, size_t length)
{
    int i;
    for (i = 0; i < channel_count; i++) {
        size_t n = strlen(channels[i].x);
        if (length >= n && !memcmp(key, channels[i].x, n) && length == n) return i;
        n = strlen(channels[i].h);
        if (length == n && !memcmp(key, channels[i].h, n)) return i;
        n = strlen(channels[i].p);
        if (length == n && !memcmp(key, channels[i].p, n)) return i;
    }
    return -1;
}

static uint64_t hex_of(const char *at, size_t n)
{
    uint64_t v = 0;
    for (; n--; at++) v = v << 4 | (uint64_t)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
    return v;
}

static const char *field_of(const redis_key *h, const char *name, size_t *n)
{
    redis_field *f = redis_hash_find(h, redis_slice_of(name));
    *n = 0;
    if (!f) return NULL;
    *n = redis_view(&f->value).length;
    return redis_view(&f->value).at;
}

static uint64_t number_of(const redis_key *h, const char *name)
{
    size_t n;
    const char *at = field_of(h, name, &n);
    uint64_t v = 0;
    for (; n--; at++) v = v * 10 + (uint64_t)(*at - '0');
    return v;
}

/* Note what the server holds of the channel. One that has become a replica of another answers
   nothing. */
static void observe(int server, int channel)
{
    redis *s = stores[server / 2].servers[server % 2];
    redis_key *h, *x;
    era *e = NULL, *other;
    size_t n = 0;
    const char *at = NULL;
    if (!s) return;
    h = redis_keyspace_find(&s->keys, 0, redis_slice_of(channels[channel].h));
    x = redis_keyspace_find(&s->keys, 0, redis_slice_of(channels[channel].x));
    if (h && h->type == REDIS_HASH) at = field_of(h, "e", &n);
    if (at && s->replica && s->link_up) { /* it has it, and nobody is told */
        other = era_find(channel, hex_of(at, n));
        if (other) other->was[server] = 1;
        at = NULL;
    }
    if (at) {
        uint64_t epoch = hex_of(at, n), last = number_of(h, "s"), held = 0;
        if (x && x->type == REDIS_STREAM) held = x->count;
        e = era_find(channel, epoch);
        if (!e) {
            e = (era *)redis_zeroed(sizeof *e);
            e->epoch = epoch;
            at = field_of(h, "pe", &n);
            if (n) e->parent = hex_of(at, n);
            e->base = number_of(h, "ps");
            e->birth_us = number_of(h, "b");
            e->next = channels[channel].eras;
            channels[channel].eras = e;
            counts.epochs++;
            say("    %s on server %d: epoch %016" PRIx64 " from %" PRIu64 ", after %016" PRIx64,
                channels[channel].name, server, epoch, e->base, e->parent);
        }
        if (last > e->last) e->last = last;
        if (last - held > e->floor) e->floor = last - held;
        if (!e->is[server]) {
            e->is[server] = 1;
            if (!e->was[server]) e->since_us[server] = clock_us;
            e->was[server] = 1;
        }
    }
    /* A hash that is gone may have expired: until there is another, caches may go on. */
    if (!e && !(s->replica && s->link_up)) return;
    for (other = channels[channel].eras; other; other = other->next)
        if (other != e && other->is[server]) {
            other->is[server] = 0;
            other->until_us[server] = clock_us;
        }
}

static void observe_all(int server)
{
    int c;
    for (c = 0; c < channel_count; c++)
        if (channels[c].store == server / 2) observe(server, c);
}

static void observe_dirty(void)
{
    int c, i;
    for (c = 0; c < channel_count; c++)
        for (i = 0; i < 2; i++) {
            int server = channels[c].store * 2 + i;
            if (!channels[c].dirty[server]) continue;
            channels[c].dirty[server] = 0;
            observe(server, c);
        }
}

static uint64_t decimal(const char **at, const char *end)
{
    uint64_t v = 0;
    while (*at < end && **at >= '0' && **at <= '9') v = v * 10 + (uint64_t)(*(*at)++ - '0');
    return v;
}

/* What comes in an array has the numbers and the timestamps behind one another. */
static void follows(int channel, const message *m)
{
    const attempt *a = &attempts[m->n];
    const message *before;
    if (m->n == a->first) return;
    before = message_find(channel, m->epoch, m->seq - 1);
    MUST(before && before->n == m->n - 1 && before->us == m->us - 1 && before->server == m->server,
         "message %u does not follow the one before it in its array", m->n);
}

/* "EPOCH 0 TIMESTAMP {}" is published: the channel's history is dropped there, and everybody is to
   be told. */
static void deleted(int server, int channel, const char *text)
{
    uint64_t epoch = hex_of(text, 16);
    era *e;
    observe(server, channel);
    e = era_find(channel, epoch);
    MUST(e && e->is[server], "%s is deleted, and has not that epoch", channels[channel].name);
    if (e->since_us[server] == clock_us) e->parent = e->base = 0; /* the script had begun it itself */
    MUST(!e->parent && !e->base, "%s is deleted, and goes on from what it had",
         channels[channel].name);
    MUST(e->floor == e->last, "%s is deleted, and has messages", channels[channel].name);
    for (e = channels[channel].eras; e; e = e->next) {
        if (e->epoch == epoch || !e->was[server]) continue;
        MUST(!e->is[server], "%s is deleted, and has the epoch that it had", channels[channel].name);
        if (!e->buried_us) e->buried_us = clock_us;
        if (!e->deleted_us) e->deleted_us = clock_us;
    }
    channels[channel].deletions++;
    channels[channel].deleted_us = clock_us;
    MUST(channels[channel].deletions <= channels[channel].deletions_asked,
         "%s is deleted, and nobody asked for that", channels[channel].name);
    counts.deletions++;
    say("    %s on server %d: deleted, epoch %016" PRIx64, channels[channel].name, server, epoch);
}

/* "EPOCH SEQ TIMESTAMP {"n":N,..." is appended; or with ~ before the object it is published alone,
   since it is transient. */
static void appended(int server, int channel, const char *at, size_t length)
{
    const char *end = at + length;
    message *m = (message *)redis_zeroed(sizeof *m), **to;
    attempt *a;
    era *e;
    m->channel = channel;
    m->server = server;
    m->at_us = clock_us;
    m->epoch = hex_of(at, 16);
    at += 17;
    m->seq = decimal(&at, end);
    at++;
    m->us = decimal(&at, end);
    m->transient = at[1] == '~';
    at += m->transient;
    counts.transients += (uint64_t)m->transient;
    MUST(!memcmp(at + 1, "{\"n\":", 5), "what is appended? %.*s", (int)(end - at), at);
    at += 6;
    m->n = (uint32_t)decimal(&at, end);
    MUST(!message_find(channel, m->epoch, m->seq), "%016" PRIx64 "-%" PRIu64 " is given twice",
         m->epoch, m->seq);
    MUST(m->n < attempt_count, "nobody published message %u", m->n);
    a = &attempts[m->n];
    MUST(a->channel == channel, "message %u is appended to another channel", m->n);
    MUST(a->transient == m->transient, "message %u is not what it should be", m->n);
    MUST(a->outcome != AWAY || a->keyed, "message %u was refused, and is appended", m->n);
    if (a->appended++) {
        MUST(a->keyed, "message %u is appended twice", m->n);
        MUST(stores[channels[channel].store].two_primaries ||
             stores[channels[channel].store].lossy_us >= a->first_us ||
             clock_us - a->first_us >= (uint64_t)all[0].cfg.redis_retry_ms * 1000,
             "message %u is appended twice, in spite of its key", m->n);
    } else {
        a->first_us = clock_us;
    }
    if (!era_find(channel, m->epoch)) observe(server, channel); /* it begins with this */
    follows(channel, m);
    to = bucket_of(channel, m->epoch, m->seq);
    m->next = *to;
    *to = m;
    for (e = channels[channel].eras; e; e = e->next)
        if (e->epoch != m->epoch && e->was[server] && !e->buried_us) e->buried_us = clock_us;
    channels[channel].messages++;
    counts.messages++;
    say("    %s on server %d: %016" PRIx64 "-%" PRIu64 " is message %u", channels[channel].name,
        server, m->epoch, m->seq, m->n);
}

static void on_effect(void *ctx, redis *s, const redis_effect *e)
{
    int server = server_index(s), channel = channel_by_key(e->key.at, e->key.length);
    (void)ctx;
    if (e->op == REDIS_OP_FLUSH) {
        for (channel = 0; channel < channel_count; channel++) channels[channel].dirty[server] = 1;
        return;
    }
    if (channel < 0) return;
    if (e->op == REDIS_OP_PUBLISH) {
        if ((s->replica && s->link_up) || e->value.length < 20) return;
        if (!memcmp(e->value.at + 16, " 0 ", 3)) deleted(server, channel, e->value.at);
        else if (memchr(e->value.at, '~', 60 < e->value.length ? 60 : e->value.length))
            appended(server, channel, e->value.at, e->value.length);
        return;
    }
    /* Another script may have begun an epoch a moment ago, that is to be noted before it is gone. */
    if (channels[channel].dirty[server] &&
        (e->op == REDIS_OP_DEL || (e->op == REDIS_OP_HSET && e->field.length == 1 && *e->field.at == 'e')))
        observe(server, channel);
    channels[channel].dirty[server] = 1;
    if (e->op == REDIS_OP_XADD && !(s->replica && s->link_up) &&
        e->value.at[e->value.length - 1] != '~')
        appended(server, channel, e->value.at, e->value.length);
}

static uint32_t attempt_new(int channel, int keyed, instance *in)
{
    attempt *a;
    if (attempt_count == attempt_room) {
        attempt_room = attempt_room ? attempt_room * 2 : 256;
        attempts = (attempt *)redis_realloc(attempts, attempt_room * sizeof *attempts);
    }
    a = &attempts[attempt_count];
    memset(a, 0, sizeof *a);
    a->channel = channel;
    a->keyed = keyed;
    a->instance = in;
    a->first = attempt_count;
    a->count = 1;
    a->transient = !ending && between(0, 99) < transients;
    counts.publishes++;
    return attempt_count++;
}

/* An array of that many, in a row. Returns the first. */
static uint32_t attempts_new(int channel, int keyed, instance *in, uint32_t count, int is_array)
{
    uint32_t first = attempt_count, i;
    counts.arrays += (uint64_t)is_array;
    for (i = 0; i < count; i++) {
        uint32_t n = attempt_new(channel, keyed, in);
        attempts[n].first = first;
        attempts[n].count = count;
        attempts[n].is_array = is_array;
        attempts[n].transient = attempts[first].transient;
    }
    return first;
}

static void attempt_told(uint32_t n, enum outcome outcome)
{
    attempt *a = &attempts[n];
    a->outcome = outcome;
    if (outcome == PUBLISHED) counts.published++;
    if (outcome == AWAY) counts.away++;
    if (outcome == OUTCOME_UNKNOWN) counts.unknown++;
    if (outcome == PUBLISHED) MUST(a->appended, "message %u is not published, and 200", n);
    if (outcome == AWAY && !a->keyed) MUST(!a->appended, "message %u is published, and 503", n);
    MUST(!a->appended == !attempts[a->first].appended, "a part of the array of message %u is published",
         n);
}

static void attempts_told(uint32_t n, enum outcome outcome)
{
    uint32_t i;
    for (i = 0; i < attempts[n].count; i++) attempt_told(n + i, outcome);
}

static void attempts_never_told(uint32_t n)
{
    uint32_t i;
    for (i = 0; i < attempts[n].count; i++) attempts[n + i].outcome = NEVER_TOLD;
}

/* ---- instances ---- */

static void tell_after(void *ctx, const lp_message *is);

static void log_write(void *ctx, lp_log_level level, const char *line)
{
    say("  instance %d: %s", ((instance *)ctx)->index, line);
    (void)level;
}

/* All instances have the same policy. */
static int policy_told(void *ctx, lp_slice name, lp_policy *policy)
{
    int c = 0;
    (void)ctx;
    while (c < channel_count && !lpi_equal(name, lp_s(channels[c].name))) c++;
    MUST(c < channel_count, "the policy of another channel is asked for");
    policy->history_count = channels[c].history_count;
    policy->history_age_ms = channels[c].history_age_ms;
    return 1;
}

static void fiber_main(unsigned low, unsigned high)
{
    fiber *f = (fiber *)((uintptr_t)low | (uintptr_t)high << 32);
    lp_server *s = f->instance->s;
    while (lpi_loop_step(&s->loops[f->loop], -1) == LP_OK) {}
    MUST(s->loops[f->loop].ended, "a loop fails");
    f->ended = 1;
    f->asleep = 1;
    f->until_us = UINT64_MAX;
    for (;;) swapcontext(&f->context, &scheduler);
}

static void fiber_begin(fiber *f, instance *in, uint32_t loop)
{
    if (!f->stack)
        f->stack = (char *)mmap(NULL, STACK, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    f->instance = in;
    f->loop = loop;
    f->ended = 0;
    f->steps = f->idle_steps = 0;
    f->asleep = 1;
    f->until_us = 0;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = &scheduler;
    makecontext(&f->context, (void (*)(void))fiber_main, 2, (unsigned)(uintptr_t)f,
                (unsigned)((uintptr_t)f >> 32));
}

static void instance_begin(instance *in)
{
    uint32_t i;
    int k;
    in->k.instance = in;
    in->k.net = &redis_kernel_net;
    in->k.net_ctx = &net;
    kernel_boot(&in->k);
    in->os = kernel_os(&in->k);
    in->blocks.next = in->blocks.previous = &in->blocks;
    in->bytes = 0;
    in->cfg = base_config;
    in->cfg.loops = (uint32_t)between(1, LOOPS);
    in->cfg.channel_linger_ms = (uint32_t)PICK(0, 20, 300, 2000, LP_OFF);
    in->cfg.history_bytes = PICK(0, 0, 2000, 10000);
    in->cfg.drain_ms = (uint32_t)PICK(0, 50, 500);
    in->cfg.redis = in->urls;
    in->cfg.os = &in->os;
    in->cfg.memory.resize = resize;
    in->cfg.memory.ctx = in;
    in->cfg.log.write = log_write;
    in->cfg.log.ctx = in;
    in->cfg.after_publish.tell = tell_after;
    in->cfg.after_publish.ctx = in;
    if (policies) in->cfg.policy.ask = policy_told;
    memset(in->told_us, 0, sizeof in->told_us);
    *in->urls = 0;
    for (k = 0; k < store_count; k++)
        sprintf(in->urls + strlen(in->urls), "%sredis://10.0.0.%d:6379", k ? "," : "", k + 1);
    MUST(lp_create(&in->s, &in->cfg) == LP_OK, "lp_create");
    in->life = RUNNING;
    in->born_us = clock_us;
    troubled_us = clock_us;
    for (i = 0; i < in->s->loop_count; i++) fiber_begin(&in->fibers[i], in, i);
    say("instance %d begins, with %u loops", in->index, in->s->loop_count);
}

static void clients_lose(instance *in);

/* What it has counted. */
static void instance_count_stats(instance *in)
{
    lp_stats stats;
    lp_stats_read(in->s, &stats);
    counts.pages += stats.redis_pages;
    counts.opens += stats.redis_opens;
    counts.gaps += stats.redis_gaps;
    counts.connects += stats.redis_connects;
}

/* Without warning: its sockets are closed, and its memory is gone. */
static void instance_kill(instance *in)
{
    redis_link *l;
    uint32_t n;
    say("instance %d is killed", in->index);
    counts.kills++;
    instance_count_stats(in);
    clients_lose(in);
    for (l = net.links; l; l = l->next)
        if (l->k == &in->k && l->s) redis_link_closed(l->s);
    while (in->blocks.next != &in->blocks) {
        block *b = in->blocks.next;
        in->blocks.next = b->next;
        free(b);
    }
    for (n = 0; n < attempt_count; n++) {
        if (attempts[n].instance != in) continue;
        attempts[n].hook_due = 0;
        if (attempts[n].outcome == PENDING) attempts[n].outcome = NEVER_TOLD;
    }
    in->s = NULL;
    in->life = NONE;
    in->next_us = clock_us + between(0, 2000000);
    troubled_us = clock_us;
}

static void instance_stop(instance *in)
{
    say("instance %d is stopped", in->index);
    counts.stops++;
    lp_stop(in->s);
    in->life = STOPPING;
    in->stopped_us = clock_us;
    troubled_us = clock_us;
}

/* Once all loops have ended. */
static void instance_reap(instance *in)
{
    uint32_t i, n;
    for (i = 0; i < in->s->loop_count; i++)
        if (!in->fibers[i].ended) {
            MUST(clock_us < in->stopped_us + 45000000, "instance %d does not stop", in->index);
            return;
        }
    instance_count_stats(in);
    lp_destroy(in->s);
    in->s = NULL;
    in->life = NONE;
    say("instance %d has stopped", in->index);
    MUST(!in->bytes, "%zu bytes are not given back", in->bytes);
    MUST(!kernel_open_count(&in->k, K_FREE), "%d descriptors are not closed",
         kernel_open_count(&in->k, K_FREE));
    for (n = 0; n < attempt_count; n++) {
        if (attempts[n].instance != in) continue;
        MUST(!attempts[n].hook_due || attempts[n].hook_told,
             "after_publish is not told of message %u", n);
        if (attempts[n].outcome != PENDING) continue;
        MUST(!attempts[n].told, "the outcome of message %u was not told", n);
        attempts[n].outcome = NEVER_TOLD;
    }
    clients_lose(in);
    in->next_us = clock_us + between(0, 2000000);
    troubled_us = clock_us;
}

static int fibers_run(void)
{
    int i, ran = 0, from = (int)between(0, (uint64_t)instance_count * LOOPS - 1);
    for (i = 0; i < instance_count * LOOPS; i++) {
        int at = (from + i) % (instance_count * LOOPS);
        instance *in = &all[at / LOOPS];
        fiber *f = &in->fibers[at % LOOPS];
        if (in->life == NONE || (uint32_t)(at % LOOPS) >= in->s->loop_count || f->ended) continue;
        if (!in->k.pollers[f->loop].count && f->until_us > clock_us) continue;
        running = f;
        swapcontext(&scheduler, &f->context);
        running = NULL;
        ran = 1;
    }
    return ran;
}

/* ---- clients ---- */

typedef enum cursor_kind { START, NOW, CURSOR } cursor_kind;

typedef struct cursor {
    cursor_kind kind;
    uint64_t epoch, seq;
} cursor;

typedef struct client {
    int index, publishes, basic;
    int uses_timestamp;      /* a basic one that goes on from each timestamp    */
    int count;               /* channels                                        */
    int channel[4];
    cursor at[4];
    uint64_t since_us;
    instance *instance;
    stream *s;
    size_t said;             /* of s->in                                        */
    uint64_t next_us;        /* when it does something                          */
    int waits;
    uint64_t sent_us;
    uint32_t timeout_ms, limit;
    uint32_t n;              /* what it publishes                               */
    int deletes;             /* 1 + the channel whose history it drops          */
    int tries;
    int done;                /* it has the last message                         */
} client;

static client clients[CLIENTS];
static int client_count;

static void client_drop(client *c)
{
    stream *s = c->s;
    c->s = NULL;
    c->waits = c->deletes = 0;
    if (!s) return;
    s->client = NULL;
    if (s->closed) {
        free(s->in);
        free(s->out);
        free(s);
    }
}

/* Streams that the client has let go are freed when the server has too; those that it never
   accepted are in its queue. */
typedef struct gone {
    struct gone *next;
    stream *s;
    instance *instance;
} gone;
static gone *let_go;

static void client_leave(client *c)
{
    gone *g;
    stream *s = c->s;
    instance *in = c->instance;
    if (!s) return;
    c->s = NULL;
    if (c->publishes && c->waits && !c->deletes && !attempts[c->n].keyed)
        attempts_never_told(c->n);
    c->waits = c->deletes = 0;
    g = (gone *)redis_zeroed(sizeof *g);
    g->s = s;
    g->instance = in;
    g->next = let_go;
    let_go = g;
    if (s->closed) return;
    if (one_in(2)) s->fin = 1;
    else s->rst = 1;
    kernel_refresh_stream(&in->k, s);
}

static void gone_sweep(instance *dead)
{
    gone **at = &let_go, *g;
    while ((g = *at)) {
        if (!g->s->closed && g->instance != dead) {
            at = &g->next;
            continue;
        }
        *at = g->next;
        free(g->s->in);
        free(g->s->out);
        free(g->s);
        free(g);
    }
}

/* The instance is no more. */
static void clients_lose(instance *in)
{
    int i;
    for (i = 0; i < client_count; i++) {
        client *c = &clients[i];
        if (c->instance != in || !c->s) continue;
        if (c->publishes && c->waits && !c->deletes && !attempts[c->n].keyed)
        attempts_never_told(c->n);
        c->s->closed = 1;
        client_drop(c);
        c->next_us = clock_us + between(0, 300000);
    }
    gone_sweep(in);
}

static int client_connect(client *c)
{
    stream *s;
    instance *in = &all[between(0, (uint64_t)instance_count - 1)];
    if (in->life != RUNNING) return -1;
    s = (stream *)redis_zeroed(sizeof *s);
    s->fd = s->description = -1;
    s->window = SIZE_MAX;
    s->address.bytes[10] = s->address.bytes[11] = 0xff;
    s->address.bytes[12] = 127;
    s->address.bytes[15] = (uint8_t)(c->index + 1);
    s->address.port = 50000;
    s->client = c;
    if (kernel_connect(&in->k, s)) {
        free(s);
        return -1;
    }
    c->s = s;
    c->instance = in;
    return 0;
}

static void client_say(client *c, const char *text)
{
    redis_link_put(c->s, text, strlen(text));
    kernel_refresh_stream(&c->instance->k, c->s);
}

static void client_poll(client *c)
{
    char text[2048];
    int i;
    strcpy(text, "GET /api/poll/");
    for (i = 0; i < c->count; i++)
        sprintf(text + strlen(text), "%s%s", i ? "," : "", channels[c->channel[i]].name);
    if (c->basic) {
        sprintf(text + strlen(text), "?since=%" PRIu64 ".%06" PRIu64, c->since_us / 1000000,
                c->since_us % 1000000);
    } else {
        strcat(text, "?last_id=");
        for (i = 0; i < c->count; i++) {
            if (i) strcat(text, ",");
            if (c->at[i].kind == START) strcat(text, "0");
            else if (c->at[i].kind == NOW) strcat(text, "now");
            else sprintf(text + strlen(text), "%016" PRIx64 "-%" PRIu64, c->at[i].epoch, c->at[i].seq);
        }
    }
    c->timeout_ms = (uint32_t)PICK(0, 10, 200, 1000, 5000, 20000, 20000);
    if (ending) c->timeout_ms = (uint32_t)PICK(0, 200, 1000, 5000);
    c->limit = (uint32_t)PICK(0, 0, 1, 2, 5);
    sprintf(text + strlen(text), "&timeout=%u.%03u", c->timeout_ms / 1000, c->timeout_ms % 1000);
    if (c->limit && !c->basic) sprintf(text + strlen(text), "&limit=%u", c->limit);
    say("client %d at instance %d: %s", c->index, c->instance->index, text + 4);
    strcat(text, " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client_say(c, text);
    c->waits = 1;
    c->sent_us = clock_us;
}

static void body_of(char *body, uint32_t n)
{
    static const char filler[] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    sprintf(body, "{\"n\":%u,\"p\":\"%.*s\"}", n, (int)(n * 7 % 60), filler);
}

enum { ARRAY = 40, BODY = 100 * ARRAY };

/* What it publishes: one, or an array. */
static uint32_t choose_attempts(int channel, int keyed, instance *in)
{
    uint32_t count = one_in(6) ? (uint32_t)between(1, PICK(3, 8, ARRAY)) : 0;
    if (!count) return attempt_new(channel, keyed, in);
    if (count > channels[channel].history_count) count = channels[channel].history_count;
    return attempts_new(channel, keyed, in, count, 1);
}

static void bodies_of(char *body, uint32_t n)
{
    const attempt *a = &attempts[n];
    uint32_t i;
    if (!a->is_array) {
        body_of(body, n);
        return;
    }
    for (i = 0; i < a->count; i++) {
        *body++ = i ? ',' : '[';
        body_of(body, n + i);
        body += strlen(body);
    }
    strcpy(body, "]");
}

static uint64_t deletes; /* of a publishing client's requests one in so many; 0: none */

static void client_delete(client *c)
{
    char text[256];
    int channel = (int)between(0, (uint64_t)channel_count - 1);
    c->deletes = 1 + channel;
    channels[channel].deletions_asked++;
    sprintf(text, "DELETE /api/channels/%s HTTP/1.1\r\nHost: localhost\r\n"
            "Authorization: Bearer secret\r\n\r\n", channels[channel].name);
    say("client %d at instance %d deletes %s", c->index, c->instance->index, channels[channel].name);
    client_say(c, text);
    c->waits = 1;
    c->sent_us = clock_us;
    c->timeout_ms = 0;
}

static void client_publish(client *c)
{
    char text[BODY + 1024], body[BODY], key[80] = "";
    if (!c->tries && !ending && deletes && one_in(deletes)) {
        client_delete(c);
        return;
    }
    if (!c->tries) {
        int keyed = one_in(2);
        c->n = choose_attempts((int)between(0, (uint64_t)channel_count - 1), keyed, NULL);
        c->tries = keyed ? 3 : 1;
    }
    c->tries--;
    bodies_of(body, c->n);
    if (attempts[c->n].keyed) sprintf(key, "Idempotency-Key: key%u\r\n", c->n);
    sprintf(text, "POST /api/publish/%s%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
            "application/json\r\n%sContent-Length: %zu\r\n\r\n%s",
            channels[attempts[c->n].channel].name, attempts[c->n].transient ? "?transient=1" : "",
            key, strlen(body), body);
    say("client %d at instance %d publishes message %u on %s%s", c->index, c->instance->index, c->n,
        channels[attempts[c->n].channel].name, attempts[c->n].keyed ? " with a key" : "");
    client_say(c, text);
    c->waits = 1;
    c->sent_us = clock_us;
    c->timeout_ms = 0;
}

/* What it asks for next. */
static void client_choose(client *c)
{
    int i;
    c->count = 1;
    c->basic = one_in(4);
    c->uses_timestamp = one_in(2);
    if (!c->basic && one_in(4)) c->count = (int)between(2, 4);
    if (c->count > channel_count) c->count = channel_count;
    for (i = 0; i < c->count; i++) {
        int k;
        do {
            c->channel[i] = (int)between(0, (uint64_t)channel_count - 1);
            for (k = 0; k < i && c->channel[k] != c->channel[i]; k++) {}
        } while (k < i);
        c->at[i].kind = one_in(2) ? START : NOW;
    }
    c->since_us = one_in(2) ? 0 : wall_us() - between(0, 5000000);
}

static void client_act(client *c)
{
    c->next_us = clock_us + between(1000, 200000);
    if (c->s && (c->s->closed || c->s->ended)) client_leave(c);
    if (c->waits) { /* it may lose patience */
        if (!ending && one_in(20)) {
            say("client %d leaves", c->index);
            client_leave(c);
        }
        c->next_us = clock_us + between(100000, 5000000);
        return;
    }
    if (c->s && !ending && one_in(8)) client_leave(c);
    if (!c->s && client_connect(c)) return;
    if (c->publishes) {
        client_publish(c);
        return;
    }
    if (!ending && one_in(60)) client_choose(c);
    client_poll(c);
}

/* ---- replies are judged ---- */

static const char *at, *at_end; /* the reader's place */

static int see(const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(at_end - at) < n || memcmp(at, text, n)) return 0;
    at += n;
    return 1;
}

static void expect(const char *text)
{
    MUST(see(text), "%s is expected at %.*s", text, (int)(at_end - at), at);
}

static uint64_t read_number(void)
{
    MUST(at < at_end && *at >= '0' && *at <= '9', "a number is expected at %.*s",
         (int)(at_end - at), at);
    return decimal(&at, at_end);
}

static uint64_t read_us(void)
{
    uint64_t s = read_number(), us;
    const char *from = ++at;
    us = read_number();
    MUST(at == from + 6 && from[-1] == '.', "a timestamp is malformed");
    return s * 1000000 + us;
}

static void read_id(uint64_t *epoch, uint64_t *seq)
{
    MUST(at_end - at > 17 && at[16] == '-', "an id is malformed");
    *epoch = hex_of(at, 16);
    at += 17;
    *seq = read_number();
}

/* What a reply says of one channel. */
typedef struct heard {
    uint64_t epoch, seq;     /* the new cursor                                  */
    const char *reset;       /* or NULL                                         */
    uint64_t first, count;   /* of the messages                                 */
    uint64_t first_us;
} heard;

typedef struct listed {
    int which;               /* of the client's channels                        */
    uint64_t epoch, seq, us;
    uint32_t n;
} listed;

static listed list[1024];
static uint32_t list_count;

static void read_message(client *c)
{
    listed *l = &list[list_count++];
    int i;
    MUST(list_count < 1000, "too many messages");
    expect("{\"id\":\"");
    read_id(&l->epoch, &l->seq);
    expect("\",\"channel\":\"");
    for (i = 0; i < c->count; i++)
        if (see(channels[c->channel[i]].name)) {
            if (*at == '"') break;
            at -= strlen(channels[c->channel[i]].name);
        }
    MUST(i < c->count, "a message of another channel: %.*s", (int)(at_end - at), at);
    l->which = i;
    expect("\",\"timestamp\":");
    l->us = read_us();
    expect(",\"n\":");
    l->n = (uint32_t)read_number();
    expect(",\"p\":\"");
    for (i = 0; i < (int)(l->n * 7 % 60); i++) expect("x");
    expect("\"}");
}

/* Were the messages up to that one gone, or too old, at some moment up to now? */
static int may_be_gone(int channel, const era *e, uint64_t seq)
{
    const message *m;
    if (seq <= e->floor) return 1;
    if (channels[channel].history_age_ms == LP_UNLIMITED) return 0;
    m = lineage(channel, e, seq);
    return !m || m->us + (uint64_t)channels[channel].history_age_ms * 1000 <= wall_us() + 3000;
}

/* Was the message of that number transient; or any, where the hash was lost and with it what was
   before? */
static message *lineage_transient(int channel, const era *e, uint64_t seq)
{
    message *m = lineage(channel, e, seq);
    const era *other = m || seq > e->base ? NULL : channels[channel].eras;
    for (; other && !(m && m->transient); other = other->next)
        m = message_find(channel, other->epoch, seq);
    return m && m->transient ? m : NULL;
}

/* Are all messages up to that one gone, but for transient ones that are not before `from`? */
static int may_be_past(int channel, const era *e, uint64_t from, uint64_t seq)
{
    while (seq > from && lineage_transient(channel, e, seq)) seq--;
    return seq <= from || may_be_gone(channel, e, seq);
}

/* Is the instance's store not well, or has it not been so for long? Whatever had been lost
   before would have been noticed by a heartbeat. */
static int is_troubled(const instance *in, int k, uint64_t us)
{
    return in->well_us[k] + 3500000 + 1000 * (uint64_t)base_config.redis_timeout_ms > us;
}

/* Has nothing been amiss since then? */
static int calm_since(uint64_t us) { return troubled_us + 20000000 < us; }

/* The text of a transient message was not given. Whoever has waited for long must have it. */
static void judge_passed(const client *c, int channel, const era *e, uint64_t seq, int told)
{
    const message *m = lineage_transient(channel, e, seq);
    MUST(m, "%s: message %" PRIu64 " is passed over", channels[channel].name, seq);
    MUST(told, "%s: message %" PRIu64 " is passed over without a word", channels[channel].name, seq);
    counts.marks_passed++;
    MUST(c->sent_us + 5000000 > m->at_us || !calm_since(c->sent_us) || c->count > 1 || c->limit ||
             c->instance->cfg.history_bytes || base_config.reply_bytes_max,
         "%s: message %" PRIu64 " was waited for, and is passed over", channels[channel].name, seq);
}

static void judge_messages(client *c, int i, const heard *h, const era *e)
{
    uint64_t seq = h->first;
    uint32_t k;
    int channel = c->channel[i];
    int told = h->reset || (c->basic ? !c->since_us : c->at[i].kind != CURSOR);
    for (k = 0; k < list_count; k++) {
        const listed *l = &list[k];
        const message *m;
        if (l->which != i) continue;
        MUST(l->seq >= seq, "%s: message %" PRIu64 " comes where %" PRIu64 " is next",
             channels[channel].name, l->seq, seq);
        for (; seq < l->seq; seq++) judge_passed(c, channel, e, seq, told);
        seq++;
        m = message_find(channel, l->epoch, l->seq);
        MUST(m, "%s: there is no message %016" PRIx64 "-%" PRIu64, channels[channel].name,
             l->epoch, l->seq);
        MUST(m->n == l->n && m->us == l->us, "%s: message %016" PRIx64 "-%" PRIu64
             " is %u of %" PRIu64 ", not %u of %" PRIu64, channels[channel].name, l->epoch, l->seq,
             m->n, m->us, l->n, l->us);
        counts.in_time += (uint64_t)m->transient;
        MUST((l->seq > e->base) == (l->epoch == e->epoch), "%s: %" PRIu64 " is of epoch %016" PRIx64
             " in epoch %016" PRIx64, channels[channel].name, l->seq, l->epoch, e->epoch);
    }
    for (; h->count && seq <= h->seq; seq++) judge_passed(c, channel, e, seq, told);
    MUST(h->count ? seq - 1 == h->seq : 1, "%s: the cursor is %" PRIu64 " after message %" PRIu64,
         channels[channel].name, h->seq, seq - 1);
}

/* In a calm world nobody waits for long for what is there. */
static void judge_missed(client *c, int channel, const era *e, uint64_t seq)
{
    const message *m;
    uint64_t then_us;
    m = lineage(channel, e, seq + 1);
    then_us = m && m->at_us > c->sent_us ? m->at_us : c->sent_us;
    if (m && then_us + 1000000 < clock_us && era_was_since(e, clock_us) &&
        !is_troubled(c->instance, channels[channel].store, then_us))
        FAIL("client %d: %s has message %" PRIu64 ", and was silent", c->index,
             channels[channel].name, seq + 1);
    then_us = e->buried_us > c->sent_us ? e->buried_us : c->sent_us;
    if (e->buried_us && then_us + 1000000 < clock_us && !era_was_since(e, clock_us - 1000000) &&
        !is_troubled(c->instance, channels[channel].store, then_us))
        FAIL("client %d: %s has messages of another epoch, and was silent", c->index,
             channels[channel].name);
}

static void judge_cursor(client *c, int i, const heard *h, int timeout)
{
    int channel = c->channel[i];
    const cursor *was = &c->at[i];
    const era *e = era_find(channel, h->epoch);
    uint64_t start = h->count ? h->first - 1 : h->seq;
    const char *name = channels[channel].name;
    MUST(e, "%s: there never was an epoch %016" PRIx64, name, h->epoch);
    judge_messages(c, i, h, e);
    if (h->reset) {
        MUST(was->kind == CURSOR || clock_us > c->sent_us, "%s: reset of nothing", name);
        /* A parked poll is told of whatever its channel is found to be, by an open too that
           was sent before it came. That a mark is passed is no other epoch. */
        MUST(era_was_since(e, c->sent_us) ||
                 (clock_us > c->sent_us && era_may_be_known(e, c->sent_us)) ||
                 (was->kind == CURSOR && h->epoch == was->epoch && h->seq - was->seq > h->count),
             "%s: reset to an epoch that is past", name);
    } else if (was->kind == CURSOR) {
        MUST(h->epoch == was->epoch, "%s: another epoch without a reset", name);
        MUST(start == was->seq, "%s: from %" PRIu64 " on, not from %" PRIu64, name, start,
             was->seq);
    } else {
        MUST(era_may_be_known(e, c->sent_us),
             "%s: begins in an epoch that is past", name);
    }
    if (was->kind == START && !h->reset)
        MUST(may_be_past(channel, e, 0, start), "%s: begins after %" PRIu64 ", which is held",
             name, start);
    if (!h->reset) {
        if (timeout) judge_missed(c, channel, e, h->seq);
        return;
    }
    if (was->kind != CURSOR) return; /* it was parked with one that nobody knows */
    if (!strcmp(h->reset, "epoch")) {
        MUST(h->epoch != was->epoch, "%s: reset to the same epoch", name);
        if (e->parent == was->epoch) {
            uint64_t from = was->seq < e->base ? was->seq : e->base;
            MUST(start >= from, "%s: after a reset from %" PRIu64 " on, which it had; not from %"
                 PRIu64, name, start, from);
            MUST(start == from || may_be_past(channel, e, from, start),
                 "%s: after a reset from %" PRIu64 " on, not from %" PRIu64, name, start, from);
        } else {
            MUST(may_be_past(channel, e, 0, start),
                 "%s: after a reset from %" PRIu64 " on, which is not all", name, start);
        }
    } else if (!strcmp(h->reset, "evicted")) {
        MUST(h->epoch == was->epoch, "%s: evicted, and another epoch", name);
        MUST(may_be_gone(channel, e, was->seq + 1) || h->seq - was->seq > h->count,
             "%s: message %" PRIu64 " is held, and evicted", name, was->seq + 1);
        MUST(start >= was->seq && may_be_past(channel, e, was->seq, start),
             "%s: evicted, from %" PRIu64 " on", name, start);
    } else {
        FAIL("%s: ahead, with a cursor that was given", name);
    }
}

/* May a reply go on behind that message, to who had all that is not newer than `t`? */
static int since_past(int channel, const era *e, uint64_t seq, uint64_t t)
{
    const message *m;
    while ((m = lineage_transient(channel, e, seq)) && m->us > t) seq--;
    m = lineage(channel, e, seq);
    return !m || m->us <= t || may_be_gone(channel, e, seq);
}

static void judge_since(client *c, const heard *h, int timeout, uint64_t us)
{
    int channel = c->channel[0];
    const char *name = channels[channel].name;
    const era *e = era_find(channel, h->epoch);
    uint64_t t = c->since_us;
    const message *before;
    counts.since++;
    MUST(e, "%s: there never was an epoch %016" PRIx64, name, h->epoch);
    judge_messages(c, 0, h, e);
    MUST(era_may_be_known(e, c->sent_us),
         "%s: since goes on in an epoch that is past", name);
    MUST(h->count <= 1, "since has %" PRIu64 " messages", h->count);
    MUST(timeout == !h->count, "since has no message, and no timeout");
    if (h->reset && !strcmp(h->reset, "epoch")) {
        const era *other = channels[channel].eras;
        int begun = 0; /* while it waited, or it waited with another primary */
        for (; other; other = other->next) begun |= other != e && era_was_since(other, c->sent_us);
        MUST(t < e->birth_us || begun, "%s: since %" PRIu64 " is in the epoch", name, t);
    }
    if (h->reset && !strcmp(h->reset, "ahead")) {
        const message *last = e->last ? lineage(channel, e, e->last) : NULL;
        MUST(!last || last->at_us >= c->sent_us || t > last->us, "%s: since %" PRIu64
             " is ahead of nothing", name, t);
    }
    if (h->count) {
        int back = h->reset && !strcmp(h->reset, "epoch") && clock_us > c->sent_us;
        counts.since_back += back && list[0].us <= t;
        MUST(list[0].us > t || back, "%s: since %" PRIu64 " has a message of %" PRIu64, name, t, list[0].us);
        before = lineage(channel, e, h->seq - 1);
        if (!h->reset && t) {
            MUST(!before || before->us <= t, "%s: since %" PRIu64 " goes on after %" PRIu64
                 " without a reset", name, t, h->seq - 1);
            MUST(t >= e->birth_us || c->sent_us + 0 < clock_us, "%s: since before the epoch", name);
        } else if (!back && (h->seq - 1 > e->base || before)) {
            MUST(!before || before->us <= t || since_past(channel, e, h->seq - 1, t),
                 "%s: since %" PRIu64 " goes on after %" PRIu64 ", which is held", name, t,
                 h->seq - 1);
        }
        if (h->reset && !strcmp(h->reset, "evicted") && before && before->us <= t)
            counts.evicted_early++;
        c->since_us = list[0].us;
    } else {
        if (timeout) judge_missed(c, channel, e, h->seq);
        if (c->uses_timestamp) c->since_us = us;
    }
}

static void client_take(client *c, int status, const char *body, size_t length)
{
    heard h[4];
    uint64_t us, n, last_us = 0;
    int i, timeout, more = 0;
    uint32_t k;
    say("client %d: %d %.*s", c->index, status, (int)length, body);
    if (status == 503) {
        counts.refused++;
        /* Several pages may be needed, one after the other, by others too; and they have one
           message each where there is no room for more. */
        n = c->instance->cfg.history_bytes ? 5000 : 1000;
        MUST(!calm_since(c->sent_us) || c->basic || base_config.redis_timeout_ms < n ||
                 (c->timeout_ms && c->timeout_ms < n),
             "client %d is refused, and all is well", c->index);
        c->next_us = clock_us + between(1000, 1000000);
        return;
    }
    MUST(status == 200, "a poll is answered with %d", status);
    counts.replies++;
    memset(h, 0, sizeof h);
    at = body;
    at_end = body + length;
    list_count = 0;
    expect("{\"status\":\"");
    timeout = see("timeout");
    if (!timeout) expect(c->basic ? "message" : "messages");
    counts.timeouts += (uint64_t)timeout;
    expect("\",\"last_id\":\"");
    for (i = 0; i < c->count; i++) {
        if (i) expect(",");
        read_id(&h[i].epoch, &h[i].seq);
    }
    expect("\",\"timestamp\":");
    us = read_us();
    expect(",\"count\":");
    n = read_number();
    if (c->basic && n) {
        expect(",\"data\":");
        read_message(c);
    } else {
        expect(",\"messages\":[");
        while (!see("]")) {
            if (list_count) expect(",");
            read_message(c);
        }
    }
    MUST(n == list_count, "the count of messages");
    more = see(",\"more\":true");
    if (see(",\"reset\":{")) {
        do {
            char quoted[40];
            for (i = 0; i < c->count; i++) {
                sprintf(quoted, "\"%s\":\"", channels[c->channel[i]].name);
                if (see(quoted)) break;
            }
            MUST(i < c->count, "whose reset is it? %.*s", (int)(at_end - at), at);
            h[i].reset = see("epoch") ? "epoch" : see("evicted") ? "evicted" : "ahead";
            if (!strcmp(h[i].reset, "ahead")) expect("ahead");
            counts.resets[*h[i].reset == 'a' ? 2 : h[i].reset[1] == 'v']++;
            expect("\"");
        } while (see(","));
        expect("}");
    }
    expect("}");
    MUST(at == at_end, "more after the end: %.*s", (int)(at_end - at), at);
    for (k = 0; k < list_count; k++) {
        heard *to = &h[list[k].which];
        MUST(list[k].us >= last_us, "messages are not in the order of their timestamps");
        last_us = list[k].us;
        if (!to->count++) to->first = list[k].seq;
    }
    if (c->limit && !c->basic) MUST(n <= c->limit, "more messages than the limit");
    if (timeout) MUST(!n, "a timeout with messages");
    if (timeout && more) counts.empty_more++;
    if (!timeout && !n)
        for (i = 0; !h[i].reset && !more; i++) MUST(i + 1 < c->count, "an empty reply for nothing");
    if (c->basic) {
        judge_since(c, &h[0], timeout, us);
    } else {
        for (i = 0; i < c->count; i++) {
            judge_cursor(c, i, &h[i], timeout);
            c->at[i].kind = CURSOR;
            c->at[i].epoch = h[i].epoch;
            c->at[i].seq = h[i].seq;
        }
    }
    if (ending == 2) {
        int all_done = 1;
        for (i = 0; i < c->count; i++) {
            int channel = c->channel[i];
            const era *e = era_find(channel, h[i].epoch);
            if (e->epoch != channels[channel].final_epoch || h[i].seq < channels[channel].final_seq)
                all_done = 0;
        }
        c->done |= all_done;
    }
    c->next_us = clock_us + (one_in(2) && !timeout ? 500 : between(500, 200000));
}

/* It is done by a script that ran since, or nothing is. */
static void client_deleted(client *c, int status, const char *body, size_t length)
{
    int channel = c->deletes - 1;
    say("client %d: %d %.*s", c->index, status, (int)length, body);
    c->deletes = 0;
    c->next_us = clock_us + between(0, 400000);
    if (status == 200) {
        MUST(length == 20 && !memcmp(body, "{\"status\":\"deleted\"}", 20), "a deletion is answered so");
        MUST(channels[channel].deleted_us >= c->sent_us, "%s is said to be deleted, and is not",
             channels[channel].name);
        return;
    }
    if (status == 503) {
        MUST(!calm_since(c->sent_us) || base_config.redis_pending_max == 3,
             "a deletion is refused, and all is well");
        channels[channel].deletions_asked--;
        counts.deletions_away++;
        MUST(channels[channel].deletions <= channels[channel].deletions_asked,
             "%s is deleted, and 503", channels[channel].name);
        return;
    }
    MUST(status == 504, "a deletion is answered with %d", status);
    MUST(!calm_since(c->sent_us), "a deletion is lost, and all is well");
}

static void read_published_ids(const attempt *a, uint32_t n)
{
    uint64_t epoch, seq, us = 0;
    const message *m = NULL;
    uint32_t i;
    expect("{\"status\":\"published\",\"message_id");
    expect(a->is_array ? "s\":[" : "\":");
    for (i = 0; i < a->count; i++) {
        expect(i ? ",\"" : "\"");
        read_id(&epoch, &seq);
        expect("\"");
        m = message_find(a->channel, epoch, seq);
        MUST(m && m->n == n + i, "message %u is published with another's id", n + i);
    }
    if (a->is_array) expect("]");
    expect(",\"timestamp\":");
    us = read_us();
    MUST(m && m->us == us, "message %u has another's timestamp", m ? m->n : 0);
}

static void client_published(client *c, int status, const char *body, size_t length)
{
    attempt *a = &attempts[c->n];
    if (c->deletes) {
        client_deleted(c, status, body, length);
        return;
    }
    say("client %d: %d %.*s", c->index, status, (int)length, body);
    if (status == 200) {
        at = body;
        at_end = body + length;
        read_published_ids(a, c->n);
        attempts_told(c->n, PUBLISHED);
        c->tries = 0;
    } else if (status == 503) {
        MUST(!calm_since(c->sent_us) || base_config.redis_pending_max == 3,
             "message %u is refused, and all is well", c->n);
        attempts_told(c->n, AWAY);
    } else {
        MUST(status == 504, "a message is answered with %d", status);
        MUST(!calm_since(c->sent_us), "message %u is lost, and all is well", c->n);
        attempts_told(c->n, OUTCOME_UNKNOWN);
    }
    c->next_us = clock_us + between(0, 400000);
}

/* Note which instances are connected, with nothing amiss. */
static void note_troubles(void)
{
    int i, k;
    for (i = 0; i < instance_count; i++)
        for (k = 0; k < store_count; k++) {
            instance *in = &all[i];
            const redis_path *p = in->paths[k];
            const redis *s = stores[k].servers[stores[k].front];
            if (in->life == NONE || in->s->stores[k].state != LPI_STORE_UP || p->held ||
                p->held_back || p->refuses || p->to != s || s->down || s->stopped || s->replica ||
                s->oom || s->misconf || s->no_replicas || s->busy || stores[k].mend)
                in->well_us[k] = clock_us;
        }
}

/* The number that begins there, and that some other byte ends. */
static size_t digits(const char *from)
{
    size_t n = 0;
    for (; *from >= '0' && *from <= '9'; from++) n = 10 * n + (size_t)(*from - '0');
    return n;
}

/* A whole reply, if it is there. */
static void client_read(client *c)
{
    stream *s = c->s;
    const char *end, *length_at;
    size_t head, length;
    int status;
    uint64_t bound_us, wait_ms;
    if (!s->out_length) return;
    end = (const char *)memmem(s->out, s->out_length, "\r\n\r\n", 4);
    if (!end) return;
    head = (size_t)(end + 4 - s->out);
    length_at = (const char *)memmem(s->out, head, "Content-Length: ", 16);
    MUST(length_at, "a reply without a length");
    length = digits(length_at + 16);
    if (s->out_length < head + length) return;
    MUST(s->out_length == head + length, "more than a reply");
    MUST(c->waits, "a reply to nothing");
    status = (int)digits(s->out + 9);
    c->waits = 0;
    wait_ms = c->timeout_ms;
    if (!wait_ms || (c->instance->life != RUNNING && wait_ms < base_config.redis_timeout_ms))
        wait_ms = base_config.redis_timeout_ms;
    bound_us = c->sent_us + 1000 * wait_ms;
    MUST(clock_us <= bound_us + 100000, "client %d is answered %" PRIu64 " ms too late", c->index,
         (clock_us - bound_us) / 1000);
    if (c->publishes) client_published(c, status, s->out + head, length);
    else client_take(c, status, s->out + head, length);
    s->out_length = 0;
    if (s->ended || s->closed) client_leave(c);
}

/* That a channel was deleted is told at once to all who wait on it, at any instance. */
static void judge_waiting(const client *c)
{
    const era *e = c->at[0].kind == CURSOR ? era_find(c->channel[0], c->at[0].epoch) : NULL;
    if (c->count != 1 || c->basic || !e || !e->deleted_us) return;
    if (e->deleted_us < c->sent_us + 300000) return; /* it may fetch, and not be parked yet */
    if (clock_us < e->deleted_us + 500000 || era_was_since(e, clock_us - 500000)) return;
    MUST(is_troubled(c->instance, channels[c->channel[0]].store, e->deleted_us),
         "client %d: %s is deleted, and nobody told it", c->index, channels[c->channel[0]].name);
}

static void clients_read(void)
{
    int i;
    for (i = 0; i < client_count; i++) {
        client *c = &clients[i];
        uint64_t wait_ms = c->timeout_ms ? c->timeout_ms : base_config.redis_timeout_ms;
        if (!c->s) continue;
        client_read(c);
        if (!c->s) continue;
        if (c->waits && !c->publishes && c->instance->life == RUNNING) judge_waiting(c);
        MUST(!c->waits || clock_us <= c->sent_us + wait_ms * 1000 + 200000 ||
             c->instance->life == STOPPING, "client %d is not answered", c->index);
        if (!c->s->closed && !c->s->ended) continue;
        MUST(!c->waits || c->instance->life != RUNNING, "client %d is closed, not answered",
             c->index);
        client_leave(c);
        c->next_us = clock_us + between(0, 100000);
    }
    gone_sweep(NULL);
}

/* ---- publishing by the program itself ---- */

static void on_published(void *ctx, lp_result result, const lp_published *published)
{
    uint32_t n = (uint32_t)(uintptr_t)ctx;
    attempt *a = &attempts[n];
    MUST(a->told == 1, "the outcome of message %u is told %s", n, a->told ? "again" : "unasked");
    a->told = 2;
    say("message %u: %s", n, result == LP_OK ? published->id : lp_strerror(result));
    if (result == LP_OK) {
        const message *m;
        uint64_t epoch, seq;
        uint32_t i;
        for (i = 0; i < a->count; i++) attempts[n + i].hook_due = 1;
        at = published->id;
        at_end = at + strlen(at);
        read_id(&epoch, &seq);
        MUST(published->count == a->count, "%u of %u messages are published", published->count,
             a->count);
        m = message_find(a->channel, epoch, seq);
        MUST(m && m->n == n + a->count - 1 && m->us == published->timestamp_us,
             "message %u is published with another's id", n);
        if (ending == 2 && channels[a->channel].final_n == n) {
            channels[a->channel].final_epoch = epoch;
            channels[a->channel].final_seq = seq;
        }
    }
    attempts_told(n, result == LP_OK ? PUBLISHED : result == LP_ERR_AWAY ? AWAY : OUTCOME_UNKNOWN);
    MUST(result == LP_OK || result == LP_ERR_AWAY || result == LP_ERR_UNKNOWN,
         "publishing: %s", lp_strerror(result));
}

/* What was published through this instance, once over all of them, and in each channel's order. */
static void tell_after(void *ctx, const lp_message *is)
{
    instance *in = (instance *)ctx;
    attempt *a;
    message *m;
    uint64_t epoch, seq;
    int c = 0;
    while (c < channel_count && !lpi_equal(is->channel, lp_s(channels[c].name))) c++;
    MUST(c < channel_count, "after_publish is told of another channel");
    at = is->id.bytes;
    at_end = at + is->id.length;
    read_id(&epoch, &seq);
    m = message_find(c, epoch, seq);
    MUST(m && m->us == is->timestamp_us, "after_publish is told of what was not published");
    a = &attempts[m->n];
    MUST(!m->hook_told++, "after_publish is told of message %u again", m->n);
    MUST(!a->instance || a->instance == in, "after_publish is told of message %u elsewhere", m->n);
    MUST(m->us > in->told_us[c], "after_publish is told of message %u out of order", m->n);
    in->told_us[c] = m->us;
    a->hook_told = 1;
    counts.hook_told++;
}

static uint32_t publish_async(instance *in, int channel)
{
    char body[BODY];
    uint32_t n = ending ? attempt_new(channel, 0, in) : choose_attempts(channel, 0, in), i;
    lp_result result;
    for (i = 0; i < attempts[n].count; i++) attempts[n + i].transient = 0;
    bodies_of(body, n);
    attempts[n].told = 1;
    result = lp_publish_async(in->s, lp_s(channels[channel].name), lp_s(body), on_published,
                              (void *)(uintptr_t)n);
    say("instance %d publishes message %u on %s: %d", in->index, n, channels[channel].name, result);
    if (result != LP_OK) {
        attempts[n].told = 0;
        MUST(result == LP_ERR_STOPPED, "lp_publish_async: %s", lp_strerror(result));
        for (i = 0; i < attempts[n].count; i++) attempts[n + i].outcome = AWAY;
    }
    return n;
}

static uint64_t publish_us;

static void publish_somewhere(void)
{
    instance *in = &all[between(0, (uint64_t)instance_count - 1)];
    int burst = one_in(12) ? (int)between(2, 100) : 1;
    int channel = (int)between(0, (uint64_t)channel_count - 1);
    publish_us = clock_us + between(1000, 300000);
    if (in->life == NONE) return;
    if (deletes && one_in(2 * deletes)) { /* and nobody is to be told */
        lp_result result = lp_channel_delete(in->s, lp_s(channels[channel].name));
        say("instance %d deletes %s: %d", in->index, channels[channel].name, result);
        MUST(result == LP_PENDING || result == LP_ERR_AWAY || result == LP_ERR_STOPPED,
             "lp_channel_delete: %s", lp_strerror(result));
        channels[channel].deletions_asked += result == LP_PENDING;
    }
    while (burst--) {
        if (one_in(8)) { /* and nobody is to be told */
            char body[256];
            uint32_t n = attempt_new(channel, 0, in);
            lp_slice name = lp_s(channels[channel].name);
            lp_published published;
            lp_result result;
            body_of(body, n);
            if (attempts[n].transient)
                result = lp_publish_transient(in->s, name, lp_s(body), &published);
            else result = lp_publish(in->s, name, lp_s(body), &published);
            say("instance %d publishes message %u on %s: %d", in->index, n, channels[channel].name,
                result);
            MUST(result == LP_PENDING || result == LP_ERR_AWAY || result == LP_ERR_STOPPED,
                 "lp_publish: %s", lp_strerror(result));
            attempts[n].outcome = result == LP_PENDING ? NEVER_TOLD : AWAY;
        } else {
            publish_async(in, channel);
        }
    }
}

/* ---- what goes wrong ---- */

enum {
    M_NOTHING, M_RESTART, M_CONTINUE, M_FLAGS, M_OLD_PRIMARY, M_COME_BACK, M_FOREIGN, M_OUTPUT
};

static redis *front(store *s) { return s->servers[s->front]; }
static redis *rear(store *s) { return s->servers[1 - s->front]; }

/* The lists are gone that stand under our names: an earlier state may have had some. */
static void mend_foreign(store *s)
{
    int c;
    for (c = 0; c < channel_count; c++) {
        redis_key *h = redis_keyspace_find(&front(s)->keys, 0, redis_slice_of(channels[c].h));
        redis_key *x = redis_keyspace_find(&front(s)->keys, 0, redis_slice_of(channels[c].x));
        if (channels[c].store != (int)(s - stores)) continue;
        if (h && h->type == REDIS_LIST) redis_evict(front(s), 0, channels[c].h);
        if (x && x->type == REDIS_LIST) redis_evict(front(s), 0, channels[c].x);
    }
}

static void store_observe(store *s)
{
    if (s->mend != M_FOREIGN) mend_foreign(s);
    observe_all((int)(s - stores) * 2);
    observe_all((int)(s - stores) * 2 + 1);
}

static uint64_t earlier(const redis *s, uint64_t most)
{
    uint64_t cut = one_in(2) ? 0 : between(0, most), position = redis_position(s);
    uint64_t oldest = redis_oldest(s);
    return position - oldest < cut ? oldest : position - cut;
}

/* The other server follows the primary from its state of now on. */
static void store_follow(store *s, uint64_t us)
{
    if (!s->has_replica) return;
    if (rear(s)->down) redis_restart(rear(s), REDIS_EMPTY, 0, 0);
    redis_demote(rear(s));
    if (!front(s)->replicas) redis_attach(front(s));
    redis_resync(rear(s), front(s), redis_position(front(s)), us);
    s->following = 1;
    s->lag = PICK(0, 0, 3, 30);
    store_observe(s);
}

static void store_unfollow(store *s)
{
    if (s->following && front(s)->replicas) redis_detach(front(s));
    s->following = 0;
}

/* It takes what the primary did. */
static void store_catch_up(store *s)
{
    redis *p = front(s), *r = rear(s);
    uint64_t position;
    s->catch_up_us = clock_us + 20000;
    if (!s->following || p->down || r->down) return;
    position = redis_position(p) > s->lag ? redis_position(p) - s->lag : 0;
    if (position <= redis_position(r)) return;
    if (strcmp(p->replid, r->replid) || redis_catch_up(r, p, position))
        redis_resync(r, p, position, 0);
}

static void paths_lead(int k, redis *to)
{
    int i;
    for (i = 0; i < instance_count; i++) all[i].paths[k]->to = to;
}

static void store_lose(store *s) { s->lossy_us = clock_us; }

static void fault_crash(store *s)
{
    store_unfollow(s);
    say("store %d crashes", (int)(s - stores));
    redis_crash(front(s));
    s->mend = M_RESTART;
    s->mend_us = clock_us + between(0, 3000000);
}

static void fault_restart(store *s)
{
    redis_how how = (redis_how)PICK(REDIS_AOF, REDIS_AOF, REDIS_RDB, REDIS_EMPTY);
    redis *r = front(s);
    uint64_t position = how == REDIS_AOF ? earlier(r, 20) : earlier(r, 200);
    store_lose(s);
    say("store %d restarts: %s, %" PRIu64 " units lost", (int)(s - stores),
        how == REDIS_AOF ? "AOF" : how == REDIS_RDB ? "RDB" : "empty",
        redis_position(r) - position);
    redis_restart(r, how, position, PICK(0, 0, 1000, 300000, 2000000));
    store_follow(s, 1000);
    store_observe(s);
}

/* The replica is promoted, with what it lacks; the paths are switched one by one, and the old
   primary goes on until it hears of that. */
static void fault_switch(store *s)
{
    int k = (int)(s - stores), i;
    if (!s->following || s->mend != M_NOTHING) return;
    store_lose(s);
    store_unfollow(s);
    say("store %d: server %d is promoted", k, k * 2 + 1 - s->front);
    redis_promote(rear(s));
    s->front = 1 - s->front;
    for (i = 0; i < instance_count; i++) {
        if (one_in(4)) continue; /* later */
        all[i].paths[k]->to = front(s);
        if (one_in(2)) redis_path_cut(&net, all[i].paths[k]);
    }
    if (one_in(2)) redis_crash(rear(s));
    s->mend = M_OLD_PRIMARY;
    s->two_primaries = 1;
    s->mend_us = clock_us + between(0, 3000000);
    store_observe(s);
}

static void fault_old_primary(store *s)
{
    int k = (int)(s - stores);
    store_lose(s);
    say("store %d: the old primary becomes a replica", k);
    paths_lead(k, front(s));
    store_follow(s, PICK(0, 1000, 500000));
}

/* The primary becomes a replica, of one that was promoted, and is promoted again: connections
   live on. */
static void fault_demote(store *s)
{
    int i;
    if (!s->following || s->mend != M_NOTHING) return;
    say("store %d: the primary is demoted", (int)(s - stores));
    store_lose(s);
    store_unfollow(s);
    redis_demote(front(s));
    redis_promote(rear(s));
    s->mend = M_COME_BACK;
    s->two_primaries = 1;
    s->mend_us = clock_us + between(0, PICK(0, 100000, 500000, 2000000));
    for (i = 0; i < instance_count; i++) { /* some follow the one that was promoted */
        redis_path *p = all[i].paths[s - stores];
        if (one_in(2)) continue;
        p->to = rear(s);
        redis_path_cut(&net, p);
    }
    store_observe(s);
}

static void fault_come_back(store *s)
{
    int i;
    store_lose(s);
    say("store %d: the primary is promoted again", (int)(s - stores));
    for (i = 0; i < instance_count; i++) {
        redis_path *p = all[i].paths[s - stores];
        if (p->to == front(s)) continue;
        p->to = front(s);
        redis_path_cut(&net, p);
    }
    if (one_in(3)) {
        redis_promote(front(s));
        redis_demote(rear(s));
    } else {
        redis_resync(front(s), rear(s), redis_position(rear(s)), PICK(0, 0, 1000));
        store_observe(s);
        redis_promote(front(s));
    }
    store_follow(s, 1000);
    store_observe(s);
}

static void fault_evict(store *s)
{
    int k = (int)(s - stores), n = (int)between(1, 3);
    store_lose(s);
    if (one_in(6)) {
        say("store %d is flushed", k);
        redis_flush(front(s));
    } else if (one_in(2)) {
        int c = (int)between(0, (uint64_t)channel_count - 1);
        int h = one_in(2);
        if (channels[c].store != k) return;
        say("store %d: %s of %s is evicted", k, h ? "the hash" : "the stream", channels[c].name);
        redis_evict(front(s), 0, h ? channels[c].h : channels[c].x);
    } else {
        say("store %d: %d keys are evicted", k, n);
        while (n--) redis_evict_any(front(s));
    }
    store_observe(s);
}

static void fault_foreign(store *s)
{
    int c = (int)between(0, (uint64_t)channel_count - 1), h = one_in(2);
    if (channels[c].store != (int)(s - stores) || s->mend != M_NOTHING) return;
    store_lose(s);
    say("store %d: a list stands for %s of %s", channels[c].store, h ? "the hash" : "the stream",
        channels[c].name);
    redis_foreign(front(s), 0, h ? channels[c].h : channels[c].x);
    s->mend = M_FOREIGN;
    s->mend_us = clock_us + between(0, 2000000);
    store_observe(s);
}

static void fault_flags(store *s)
{
    redis *r = front(s);
    if (s->mend != M_NOTHING) return;
    switch (between(0, 3)) {
    case 0: r->oom = 1; break;
    case 1: r->misconf = 1; break;
    case 2: r->no_replicas = 1; break;
    case 3: r->busy = 1; break;
    }
    say("store %d refuses: oom %d, misconf %d, no replicas %d, busy %d", (int)(s - stores), r->oom,
        r->misconf, r->no_replicas, r->busy);
    s->mend = M_FLAGS;
    s->mend_us = clock_us + between(0, 3000000);
}

static void mend_flags(redis *r) { r->oom = r->misconf = r->no_replicas = r->busy = 0; }

static void store_fault(store *s)
{
    redis *r = front(s);
    s->next_us = clock_us + between(100000, PICK(300000, 2000000, 8000000));
    if (s->mend != M_NOTHING && one_in(2)) return;
    counts.faults++;
    troubled_us = clock_us;
    switch (between(0, 13)) {
    case 0:
        if (s->mend == M_NOTHING) fault_crash(s);
        break;
    case 1:
        if (s->mend != M_NOTHING) break;
        store_unfollow(s);
        store_lose(s);
        say("store %d fails over", (int)(s - stores));
        redis_fail_over(r, earlier(r, 30));
        store_follow(s, 1000);
        store_observe(s);
        break;
    case 2: case 3: fault_switch(s); break;
    case 4: case 5: fault_demote(s); break;
    case 6: fault_evict(s); break;
    case 7: fault_foreign(s); break;
    case 8: fault_flags(s); break;
    case 9:
        say("store %d: subscribers are killed", (int)(s - stores));
        redis_kill_subscribers(r);
        break;
    case 10:
        say("store %d: the scripts are forgotten", (int)(s - stores));
        redis_forget_scripts(r);
        break;
    case 11:
        if (s->mend != M_NOTHING || r->down) break;
        say("store %d stands still", (int)(s - stores));
        redis_stop(r);
        s->mend = M_CONTINUE;
        s->mend_us = clock_us + between(0, PICK(1500000, 1500000, 1500000, 12000000));
        break;
    case 12: /* a first replica, or the backlog's end: another identity */
        if (s->has_replica || r->down) break;
        say("store %d: a replica %s", (int)(s - stores), r->replicas ? "goes" : "comes");
        if (r->replicas) redis_detach(r);
        else redis_attach(r);
        break;
    case 13:
        if (s->mend != M_NOTHING) break;
        r->output_bytes_max = between(100, 2000);
        s->mend = M_OUTPUT;
        s->mend_us = clock_us + between(0, 5000000);
        say("store %d: output of %zu bytes at most", (int)(s - stores), r->output_bytes_max);
        break;
    }
}

static void store_mend(store *s)
{
    int what = s->mend;
    s->mend = M_NOTHING;
    s->mend_us = UINT64_MAX;
    s->two_primaries = 0;
    troubled_us = clock_us;
    switch (what) {
    case M_RESTART: fault_restart(s); break;
    case M_CONTINUE:
        say("store %d goes on", (int)(s - stores));
        redis_continue(front(s));
        observe_dirty();
        break;
    case M_FLAGS: mend_flags(front(s)); break;
    case M_OLD_PRIMARY: fault_old_primary(s); break;
    case M_COME_BACK: fault_come_back(s); break;
    case M_FOREIGN: store_observe(s); break;
    case M_OUTPUT: front(s)->output_bytes_max = 32 << 20; break;
    }
}

static void path_mend(redis_path *p)
{
    p->held = p->held_back = p->refuses = 0;
}

static void path_fault(instance *in, int k)
{
    redis_path *p = in->paths[k];
    in->path_us[k] = clock_us + between(50000, PICK(500000, 5000000, 20000000));
    if (p->held || p->held_back || p->refuses) {
        path_mend(p);
        troubled_us = clock_us;
        return;
    }
    if (one_in(3)) return;
    troubled_us = clock_us;
    switch (between(0, 6)) {
    case 0:
        say("path %d-%d is cut", in->index, k);
        redis_path_cut(&net, p);
        break;
    case 1:
        p->held = 1;
        in->path_us[k] = clock_us + between(0, PICK(300000, 3000000, 12000000));
        say("path %d-%d is held", in->index, k);
        break;
    case 2:
        p->held_back = 1;
        in->path_us[k] = clock_us + between(0, PICK(300000, 3000000, 12000000));
        say("path %d-%d is held back", in->index, k);
        break;
    case 3:
        p->refuses = 1;
        in->path_us[k] = clock_us + between(0, 3000000);
        if (one_in(2)) redis_path_cut(&net, p);
        say("path %d-%d refuses", in->index, k);
        break;
    case 4: p->late_us = PICK(0, 100, 2000, 50000); break;
    case 5: p->late_more_us = PICK(0, 0, 1000, 20000); break;
    case 6: p->piece = PICK(0, 0, 1, 7, 100); break;
    }
}

static void instance_fault(instance *in)
{
    if (in->life == NONE) {
        instance_begin(in);
    } else if (in->life == RUNNING && !ending) {
        if (one_in(2)) instance_kill(in);
        else instance_stop(in);
        if (in->life == NONE) return;
    }
    in->next_us = clock_us + between(1000000, PICK(10000000, 60000000, 100000000));
}

/* ---- a world ---- */

static void world_choose(void)
{
    lp_config *cfg = &base_config;
    int quiet = one_in(8); /* hardly any faults */
    int i, k;
    memset(cfg, 0, sizeof *cfg);
    cfg->history_count = (uint32_t)PICK(1000, 1, 2, 5, 10, 30, 100);
    cfg->history_age_ms = (uint32_t)PICK(300000, 300000, 500, 3000, 20000, LP_UNLIMITED);
    cfg->redis_timeout_ms = (uint32_t)PICK(200, 1000, 1000, 5000);
    cfg->redis_keep_ms = (uint32_t)PICK(3600000, 3600000, 5000, 30000, LP_UNLIMITED);
    if (cfg->redis_keep_ms != LP_UNLIMITED && cfg->history_age_ms > cfg->redis_keep_ms)
        cfg->history_age_ms = 3000;
    cfg->redis_empty_ms = (uint32_t)PICK(0, 0, 1000, 10000);
    cfg->redis_retry_ms = (uint32_t)PICK(300000, 2000, 20000);
    cfg->redis_pending_max = (uint32_t)PICK(0, 0, 0, 3);
    cfg->reply_messages = (uint32_t)PICK(0, 0, 2, 10);
    cfg->reply_bytes_max = (uint32_t)PICK(0, 0, 300, 1000);
    cfg->admin_token = "secret";
    cfg->track_receipts = (uint32_t)PICK(0, 0, 3, 100);
    cfg->transient_ms = (uint32_t)PICK(2000, 50, 500, 10000);
    transients = PICK(0, 5, 30, 90);
    policies = one_in(3);
    deletes = PICK(0, 5, 30, 30);
    store_count = (int)between(1, STORES);
    instance_count = (int)between(1, INSTANCES);
    channel_count = (int)between(3, CHANNELS);
    client_count = (int)between(4, CLIENTS);
    memset(stores, 0, sizeof stores);
    for (k = 0; k < store_count; k++) {
        store *s = &stores[k];
        s->has_replica = !one_in(3);
        s->mend_us = UINT64_MAX;
        s->next_us = quiet ? UINT64_MAX : between(0, 10000000);
        for (i = 0; i < 2; i++) {
            if (i && !s->has_replica) break;
            s->servers[i] = redis_create(chance(), wall_us());
            s->servers[i]->on_effect = on_effect;
            s->servers[i]->log_units_max = 400;
            s->servers[i]->backlog_ttl_s = (int64_t)PICK(0, 3, 3600);
        }
        if (s->has_replica) store_follow(s, 0);
    }
    memset(channels, 0, sizeof channels);
    for (i = 0; i < channel_count; i++) {
        uint32_t slot;
        char name[16];
        sprintf(name, "c%d", i);
        strcpy(channels[i].name, name);
        channels[i].history_count = cfg->history_count;
        channels[i].history_age_ms = cfg->history_age_ms;
        if (policies) {
            channels[i].history_count = lpi_policy_cut((uint32_t)PICK(0, 1, 2, 20),
                                                       cfg->history_count);
            channels[i].history_age_ms = lpi_policy_cut((uint32_t)PICK(0, 300, 2000, 10000),
                                                        cfg->history_age_ms);
        }
        slot = (uint32_t)(lpi_store_hash(lp_s(channels[i].name)) >> 52);
        channels[i].store = (int)lpi_store_index(lp_s(channels[i].name), (uint32_t)store_count);
        sprintf(channels[i].h, "lp1:{%03x}h:%s", slot, name);
        sprintf(channels[i].x, "lp1:{%03x}x:%s", slot, name);
        sprintf(channels[i].p, "lp1:{%03x}:%s", slot, name);
    }
    memset(&net, 0, sizeof net);
    net.random = chance();
    for (i = 0; i < instance_count; i++) {
        instance *in = &all[i];
        in->index = i;
        in->life = NONE;
        in->next_us = clock_us + between(0, 1000000);
        for (k = 0; k < store_count; k++) {
            char host[32];
            sprintf(host, "10.0.0.%d", k + 1);
            in->paths[k] = redis_path_add(&net, host, 6379, front(&stores[k]));
            in->paths[k]->from = &in->k;
            in->paths[k]->late_us = PICK(0, 50, 500, 2000, 20000);
            in->paths[k]->late_more_us = PICK(0, 0, 500, 10000);
            in->path_us[k] = quiet ? UINT64_MAX : clock_us + between(0, 20000000);
        }
    }
    for (i = 0; i < client_count; i++) {
        client *c = &clients[i];
        memset(c, 0, sizeof *c);
        c->index = i;
        c->publishes = one_in(4);
        c->next_us = clock_us + between(0, 2000000);
        client_choose(c);
    }
    publish_us = clock_us + between(0, 1000000);
}

static uint64_t earliest(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Until nothing more happens without time passing. */
static void world_settle(void)
{
    int rounds = 0, ran;
    do {
        ran = 0;
        if (redis_net_due(&net) <= clock_us || !rounds) {
            redis_net_move(&net, clock_us);
            ran |= redis_net_due(&net) <= clock_us;
        }
        observe_dirty();
        ran |= fibers_run();
        note_troubles();
        clients_read();
        MUST(++rounds < 20000, "the world does not rest");
    } while (ran || redis_net_due(&net) <= clock_us);
}

static uint64_t world_next(void)
{
    uint64_t next = earliest(redis_net_due(&net), publish_us);
    int i, k;
    for (i = 0; i < instance_count; i++) {
        instance *in = &all[i];
        next = earliest(next, in->next_us);
        for (k = 0; k < store_count; k++) next = earliest(next, in->path_us[k]);
        if (in->life == NONE) continue;
        for (k = 0; k < (int)in->s->loop_count; k++)
            if (!in->fibers[k].ended) next = earliest(next, in->fibers[k].until_us);
    }
    for (i = 0; i < client_count; i++) next = earliest(next, clients[i].next_us);
    for (k = 0; k < store_count; k++)
        next = earliest(next, earliest(stores[k].next_us, stores[k].mend_us));
    return next;
}

static void world_act(void)
{
    int i, k;
    for (k = 0; k < store_count; k++) {
        store *s = &stores[k];
        for (i = 0; i < 2; i++)
            if (s->servers[i]) redis_clock(s->servers[i], wall_us());
        observe_dirty();
        if (s->catch_up_us <= clock_us) store_catch_up(s);
        if (s->mend_us <= clock_us) store_mend(s);
        if (s->next_us <= clock_us) store_fault(s);
    }
    for (i = 0; i < instance_count; i++) {
        instance *in = &all[i];
        for (k = 0; k < store_count; k++)
            if (in->path_us[k] <= clock_us) path_fault(in, k);
        if (in->life == STOPPING) instance_reap(in);
        if (in->life == STOPPING) in->next_us = clock_us + 10000;
        else if (in->next_us <= clock_us) instance_fault(in);
    }
    if (publish_us <= clock_us) publish_somewhere();
    for (i = 0; i < client_count; i++)
        if (clients[i].next_us <= clock_us) client_act(&clients[i]);
}

static void world_run(uint64_t until_us)
{
    while (clock_us < until_us) {
        uint64_t next;
        world_settle();
        next = earliest(world_next(), until_us);
        if (next > clock_us) clock_us = next;
        world_act();
    }
    world_settle();
}

/* Everything is mended. */
static void world_mend(void)
{
    int i, k;
    ending = 1;
    say("everything is mended");
    for (k = 0; k < store_count; k++) {
        store *s = &stores[k];
        while (s->mend != M_NOTHING) store_mend(s);
        s->next_us = UINT64_MAX;
        mend_flags(front(s));
        front(s)->output_bytes_max = 32 << 20;
        front(s)->backlog_ttl_s = 0;
        paths_lead(k, front(s));
        for (i = 0; i < instance_count; i++) {
            all[i].path_us[k] = UINT64_MAX;
            path_mend(all[i].paths[k]);
            all[i].paths[k]->late_us = 100;
            all[i].paths[k]->late_more_us = 100;
            all[i].paths[k]->piece = 0;
        }
    }
    for (i = 0; i < instance_count; i++) {
        if (all[i].life == RUNNING) all[i].next_us = UINT64_MAX;
        else if (all[i].life == NONE) all[i].next_us = clock_us;
    }
    troubled_us = clock_us;
}

/* A client may be far behind, and get one message a reply: in the basic dialect,
   or where there is no room for longer pages. */
static int all_are_done(void)
{
    int i;
    for (i = 0; i < client_count; i++)
        if (!clients[i].publishes && !clients[i].done) return 0;
    return 1;
}

/* One message more on each channel, of which everybody must hear. */
static void world_last(void)
{
    int i, rounds;
    publish_us = UINT64_MAX;
    for (i = 0; i < instance_count; i++) {
        MUST(all[i].life == RUNNING, "an instance is not there");
        MUST(all[i].s->hub.stats.redis_up == (uint32_t)store_count,
             "instance %d has %u of its stores, and all are well", i,
             all[i].s->hub.stats.redis_up);
        all[i].next_us = UINT64_MAX;
    }
    for (i = 0; i < client_count; i++)
        if (clients[i].publishes) clients[i].next_us = clients[i].waits ? clock_us : UINT64_MAX;
    world_run(clock_us + 2000000);
    for (i = 0; i < client_count; i++)
        if (clients[i].publishes) clients[i].next_us = UINT64_MAX;
    ending = 2;
    for (i = 0; i < channel_count; i++) {
        channels[i].final_n = publish_async(&all[between(0, (uint64_t)instance_count - 1)], i);
        world_run(clock_us + 20000); /* one at a time, for redis_pending_max */
    }
    world_run(clock_us + 2000000);
    for (i = 0; i < channel_count; i++)
        MUST(attempts[channels[i].final_n].outcome == PUBLISHED, "the last message of %s is not "
             "published", channels[i].name);
    world_run(clock_us + 13000000);
    for (rounds = 0; rounds < 20 && !all_are_done(); rounds++) world_run(clock_us + 20000000);
    for (i = 0; i < client_count; i++)
        MUST(clients[i].publishes || clients[i].done, "client %d never heard the last message",
             i);
}

static void world_end(void)
{
    int i, k, live;
    for (i = 0; i < client_count; i++) clients[i].next_us = UINT64_MAX;
    for (i = 0; i < instance_count; i++) {
        instance_stop(&all[i]);
        all[i].next_us = UINT64_MAX;
    }
    for (live = 1; live;) {
        live = 0;
        world_settle();
        for (i = 0; i < instance_count; i++) {
            if (all[i].life == STOPPING) instance_reap(&all[i]);
            all[i].next_us = UINT64_MAX;
            live |= all[i].life == STOPPING;
        }
        clock_us = earliest(world_next(), clock_us + 10000);
        for (i = 0; i < client_count; i++) clients[i].next_us = UINT64_MAX;
    }
    for (i = 0; i < instance_count; i++) MUST(all[i].life == NONE, "instance %d goes on", i);
    for (i = 0; i < client_count; i++) {
        client_leave(&clients[i]);
    }
    for (i = 0; i < instance_count; i++) gone_sweep(&all[i]);
    clock_us += 1000000;
    redis_net_move(&net, clock_us);
    redis_net_free(&net);
    for (k = 0; k < store_count; k++)
        for (i = 0; i < 2; i++)
            if (stores[k].servers[i]) redis_destroy(stores[k].servers[i]);
    for (i = 0; i < channel_count; i++)
        while (channels[i].eras) {
            era *next = channels[i].eras->next;
            free(channels[i].eras);
            channels[i].eras = next;
        }
    for (i = 0; i < BUCKETS; i++)
        while (buckets[i]) {
            message *next = buckets[i]->next;
            free(buckets[i]);
            buckets[i] = next;
        }
    attempt_count = 0;
}

static void world(void)
{
    random_state = world_seed * UINT64_C(0x2545F4914F6CDD1D) + 99;
    clock_us = 1000000000;
    ending = 0;
    troubled_us = clock_us;
    say("world %" PRIu64, world_seed);
    world_choose();
    world_run(clock_us + between(5000000, 120000000));
    world_mend();
    world_run(clock_us + 21000000);
    world_run(clock_us + between(0, 3000000));
    world_last();
    world_end();
    worlds++;
}

static void on_signal(int number)
{
    FAIL("signal %d", number);
}

int main(int argc, char **argv)
{
    uint64_t want = 1000000;
    int i;
    world_seed = 1;
    for (i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--events") && i + 1 < argc) want = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc) world_seed = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--trace")) tracing = 1;
        else {
            printf("usage: many [--events N] [--seed S] [--trace]\n");
            return 2;
        }
    }
#if !defined(__SANITIZE_ADDRESS__)
    signal(SIGSEGV, on_signal);
    signal(SIGBUS, on_signal);
    signal(SIGFPE, on_signal);
#else
    (void)on_signal;
#endif
    printf("seed %" PRIu64 "\n", world_seed);
    for (; event_count < want; world_seed++) world();
    printf("%" PRIu64 " events; %" PRIu64 " messages, %" PRIu64 " epochs; %" PRIu64
           " replies, of which %" PRIu64 " timeouts; resets: %" PRIu64 " epoch, %" PRIu64
           " evicted, %" PRIu64 " ahead; %" PRIu64 " polls refused\n",
           event_count, counts.messages, counts.epochs, counts.replies, counts.timeouts,
           counts.resets[0], counts.resets[1], counts.resets[2], counts.refused);
    printf("%" PRIu64 " publishes: %" PRIu64 " done, %" PRIu64 " away, %" PRIu64 " unknown; %" PRIu64
           " opens, %" PRIu64 " pages, %" PRIu64 " gaps, %" PRIu64 " connects; %" PRIu64
           " faults, %" PRIu64 " kills, %" PRIu64 " stops; since: %" PRIu64 ", evicted early: %"
           PRIu64 "; empty replies with more: %" PRIu64 "; since went back: %" PRIu64 "\n",
           counts.publishes, counts.published, counts.away, counts.unknown, counts.opens,
           counts.pages, counts.gaps, counts.connects, counts.faults, counts.kills, counts.stops,
           counts.since, counts.evicted_early, counts.empty_more, counts.since_back);
    printf("%" PRIu64 " arrays; %" PRIu64 " deletions, and %" PRIu64 " refused; %" PRIu64
           " messages told afterwards; %" PRIu64 " transient ones, given %" PRIu64
           " times and passed over %" PRIu64 " times\n", counts.arrays, counts.deletions,
           counts.deletions_away, counts.hook_told, counts.transients, counts.in_time,
           counts.marks_passed);
    printf("%" PRIu64 " passed, 0 failed, 0 skipped\n", worlds);
    return 0;
}
