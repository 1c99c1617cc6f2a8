/* redis.h: a Redis server in memory, for tests that run the library without sockets.

   It knows what the library says to Redis (RESP2: AUTH, SELECT, PING, INFO, SCRIPT LOAD,
   EVALSHA, HMGET, GET, SUBSCRIBE, UNSUBSCRIBE), the two scripts of the library, which are
   written here again in C, and a few more commands that tests use (SET, DEL, XADD and so
   on). redis/differential.c holds it to the real server, byte for byte.

   It is pure: no sockets, no threads, no clock. Time is what redis_clock() was last given,
   and all that is random comes from the seed. Nothing happens but within a call.

   Its life

       redis *s = redis_create(seed, now_us);
       redis_clock(s, now_us);         whenever time has passed, or was set back; keys expire
       redis_destroy(s);               and all of its connections with it

   Connections. Bytes may be cut anywhere, both ways. What is executed is executed within
   redis_receive(), and what it says then lies in the outputs: those of others too, if it
   publishes. So whoever has an `on_change` is told of each connection that has new output
   or was closed; it may look, but must not call functions that change the server.

       redis_conn *c = redis_connect(s);       NULL: refused, the server is down
       c->user = anything;
       redis_receive(c, bytes, n);             what the peer has sent
       const char *p = redis_output(c, &n);    what there is for it; valid until the next call
       redis_take(c, n);                       so much of it went to the peer
       c->closed                               by the server: what still lies in the output
                                               goes out first, then the end
       redis_close(c);                         the peer closes: always, once; frees it

   Whoever has an `on_effect` is told of each change, before it is made, those included that a
   replica takes from its primary.

   What can go wrong, a function each. A state is named by its position: how many commands
   and scripts have changed something until then. All that one script did is one unit, as
   in an AOF. States from redis_oldest(s) to redis_position(s) can be had again.

       redis_crash(s)                          connections, scripts, all that was not saved
       redis_restart(s, how, position, us)     with that state, after `us` of LOADING:
                                               REDIS_AOF, REDIS_RDB, REDIS_EMPTY
       redis_fail_over(s, position)            crash; another server takes over its address,
                                               a replica that was promoted in that state
       redis_set_back(s, position)             the state alone, within the process
       redis_stop(s), redis_continue(s)        stands still (SIGSTOP): input waits
       redis_attach(s), redis_detach(s)        a replica of this server comes, goes
       redis_demote(s)                         REPLICAOF: writes are READONLY, who is
                                               subscribed stays so
       redis_resync(s, primary, position, us)  it takes its primary's state and identity,
                                               after `us` of LOADING; 0: a partial one
       redis_catch_up(s, primary, position)    ... and what the primary did since, whose
                                               news its own subscribers hear too
       redis_promote(s)                        REPLICAOF NO ONE, in the state that it is in
       redis_evict(s, db, name), redis_evict_any(s), redis_flush(s)
       redis_foreign(s, db, name)              a list stands under the name
       redis_kill_subscribers(s)               CLIENT KILL TYPE pubsub
       redis_forget_scripts(s)                 SCRIPT FLUSH
       s->oom, s->misconf, s->no_replicas, s->busy, s->stale, s->replid_hidden
       s->denied, s->password, s->user, s->cluster_enabled, s->version     see there
       s->output_bytes_max                     a subscribed connection with more unread is
                                               closed

   What is used is bounded by what the tests store and by log_units_max, log_bytes_max. A
   program that runs out of memory, or uses a command in a way that is not known here, is
   told: the latter by an error that begins with "ERR not simulated". */

#ifndef TESTS_REDIS_H
#define TESTS_REDIS_H

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#define REDIS_UNUSED __attribute__((unused))
#define REDIS_FORMAT(a, b) __attribute__((format(printf, a, b)))
#else
#define REDIS_UNUSED
#define REDIS_FORMAT(a, b)
#endif

enum { REDIS_LINE_MAX = 64 * 1024, REDIS_REPLID = 41 };

typedef struct redis redis;
typedef struct redis_conn redis_conn;

typedef struct redis_slice {
    const char *at;
    size_t length;
} redis_slice;

/* Bytes that grow; those before `from` are taken. */
typedef struct redis_bytes {
    char *at;
    size_t from, length, capacity;
} redis_bytes;

/* ---- the keyspace ---- */

typedef enum redis_type {
    REDIS_NONE, REDIS_STRING, REDIS_HASH, REDIS_STREAM, REDIS_LIST
} redis_type;

typedef struct redis_id {
    uint64_t ms, seq;
} redis_id;

typedef struct redis_entry {
    redis_id id;
    char *text;
    size_t length;
} redis_entry;

typedef struct redis_field {
    redis_bytes name, value;
} redis_field;

typedef struct redis_key {
    struct redis_key *next;     /* in its bucket                                */
    redis_type type;
    int db;
    int64_t expires_ms;         /* by the clock; 0: never                       */
    redis_bytes name, string;
    redis_field *fields;        /* of a hash                                    */
    size_t field_count;
    redis_entry *entries;       /* of a stream: count of them, from `first` on  */
    size_t first, capacity;
    size_t count;               /* of entries, or of a list's elements          */
    redis_id last;              /* the highest ID that the stream ever had      */
} redis_key;

typedef struct redis_keyspace {
    redis_key **buckets;
    size_t bucket_count, key_count;
    uint64_t bytes;             /* of names, values and records                 */
} redis_keyspace;

/* What changes a keyspace. Commands and scripts only ever change it by these, so that they can
   be done again on another one: see the log below. */
typedef enum redis_op {
    REDIS_OP_SET, REDIS_OP_DEL, REDIS_OP_HSET, REDIS_OP_XADD, REDIS_OP_XTRIM, REDIS_OP_XDEL,
    REDIS_OP_EXPIRE, REDIS_OP_PUSH, REDIS_OP_FLUSH, REDIS_OP_PUBLISH
} redis_op;

typedef struct redis_effect {
    redis_op op;
    int db;
    int64_t number;             /* SET, EXPIRE: expires_ms. XADD: the most that stay,
                                   or -1                                        */
    redis_id id;                /* XADD: the new one. XTRIM: the lowest that stays */
    redis_slice key, field, value;
} redis_effect;

/* An effect in the log, its bytes behind it. */
typedef struct redis_logged {
    struct redis_logged *next;
    uint64_t unit;
    redis_effect effect;
} redis_logged;

/* ---- the server ---- */

typedef struct redis_name {
    struct redis_name *next;
    size_t length;
    char at[1];
} redis_name;

struct redis_conn {
    redis *redis;
    redis_conn *next, *previous;
    void *user;                 /* the caller's                                 */
    int closed;                 /* by the server                                */
    int peer_closed;            /* while the server stands still                */
    int authenticated, db;
    redis_bytes in, out;
    size_t parsed;              /* of `in`, from its `from` on                  */
    int64_t args_left;          /* of the command that is being read            */
    int64_t bulk;               /* length of the argument that is next, or -1   */
    redis_slice *args;          /* made of these when all have come             */
    size_t *arg_at, *arg_length; /* offsets from the command's begin             */
    size_t arg_count, arg_capacity;
    redis_name **names;         /* subscribed                                   */
    size_t name_count, name_buckets;
};

typedef struct redis_script {
    struct redis_script *next;
    char sha[41];
    int is_call;                /* or the heartbeat                             */
    char *text;
} redis_script;

struct redis {
    /* The caller's to set, at any time. */
    void (*on_change)(void *ctx, redis_conn *conn);
    void (*on_effect)(void *ctx, redis *s, const redis_effect *e); /* it has changed */
    void *ctx;
    const char *password;       /* NULL: none is needed                         */
    const char *user;           /* besides "default", with the same password    */
    const char *denied;         /* commands that nobody may run: " hset info "  */
    int oom;                    /* used memory > maxmemory                      */
    int misconf;                /* the last snapshot could not be written       */
    int no_replicas;            /* fewer than min-replicas-to-write             */
    int busy;                   /* a script of somebody else runs for ever      */
    int stale;                  /* replica-serve-stale-data no                  */
    int replid_hidden;          /* from scripts                                 */
    int expires_lazily;         /* no key goes before somebody asks for it      */
    int cluster_enabled;        /* in INFO; it behaves as before                */
    const char *version, *maxmemory_policy;
    size_t output_bytes_max;
    uint64_t log_units_max;
    size_t log_bytes_max;
    int64_t backlog_ttl_s;      /* 0: the backlog stays                         */

    /* Its own; to be read. */
    uint64_t random;
    uint64_t now_us, started_us, loading_until_us;
    int down, stopped;
    int replica, link_up;
    int replicas, backlog;
    uint64_t no_replicas_since_us, link_down_since_us;
    char replid[REDIS_REPLID], replid2[REDIS_REPLID], run_id[REDIS_REPLID];
    int64_t second_offset;
    redis_conn *conns;
    size_t conn_count, channel_count;
    redis_script *scripts;
    redis_keyspace keys;
    size_t expire_bucket;       /* where active expiry goes on                  */
    uint64_t commands, connected, expired;

    /* The log: `base` is the keyspace at base_position, and what happened since. */
    redis_keyspace base;
    uint64_t base_position, position;
    int unit_open;
    redis_logged *log, **log_end;
    size_t log_bytes;
};

typedef enum redis_how { REDIS_AOF, REDIS_RDB, REDIS_EMPTY } redis_how;

/* ---- memory and text ---- */

static void *redis_realloc(void *p, size_t size)
{
    p = realloc(p, size ? size : 1);
    if (!p) {
        fprintf(stderr, "redis.h: no memory\n");
        abort();
    }
    return p;
}

static void *redis_zeroed(size_t size) { return memset(redis_realloc(NULL, size), 0, size); }

static redis_slice redis_slice_of(const char *text)
{
    redis_slice s;
    s.at = text;
    s.length = strlen(text);
    return s;
}

static redis_slice redis_view(const redis_bytes *b)
{
    redis_slice s;
    s.at = b->at ? b->at + b->from : "";
    s.length = b->length - b->from;
    return s;
}

static int redis_same(redis_slice a, redis_slice b)
{
    return a.length == b.length && !memcmp(a.at, b.at, a.length);
}

static int redis_is(redis_slice a, const char *word)
{
    size_t i;
    for (i = 0; i < a.length && word[i]; i++)
        if (tolower((unsigned char)a.at[i]) != word[i]) return 0;
    return i == a.length && !word[i];
}

static void redis_append(redis_bytes *b, const void *bytes, size_t n)
{
    if (b->from && b->from == b->length) b->from = b->length = 0;
    if (b->length + n > b->capacity) {
        if (b->from) memmove(b->at, b->at + b->from, b->length - b->from);
        b->length -= b->from;
        b->from = 0;
        while (b->length + n > b->capacity) b->capacity = b->capacity ? b->capacity * 2 : 32;
        b->at = (char *)redis_realloc(b->at, b->capacity);
    }
    if (n) memcpy(b->at + b->length, bytes, n);
    b->length += n;
}

static void redis_assign(redis_bytes *b, redis_slice s)
{
    b->from = b->length = 0;
    redis_append(b, s.at, s.length);
}

static void redis_bytes_free(redis_bytes *b)
{
    free(b->at);
    memset(b, 0, sizeof *b);
}

static REDIS_FORMAT(2, 3) void redis_print(redis_bytes *b, const char *format, ...)
{
    char text[1024];
    va_list args;
    int n;
    va_start(args, format);
    n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0) n = 0;
    redis_append(b, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

/* As Redis reads a whole number: no spaces, no plus sign, no leading zero. */
static int redis_integer(redis_slice s, int64_t *out)
{
    uint64_t value = 0;
    size_t i = 0;
    int negative = s.length && *s.at == '-';
    if (negative) i = 1;
    if (i == s.length || s.length > 20) return -1;
    if (s.at[i] == '0' && s.length > 1) return -1;
    for (; i < s.length; i++) {
        unsigned digit = (unsigned)((unsigned char)s.at[i] - '0');
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) return -1;
        value = value * 10 + digit;
    }
    if (value > (uint64_t)INT64_MAX + (uint64_t)negative) return -1;
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return 0;
}

static uint64_t redis_random(redis *s)
{
    uint64_t z = (s->random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void redis_random_hex(redis *s, char out[REDIS_REPLID])
{
    int i;
    for (i = 0; i < REDIS_REPLID - 1; i++) out[i] = "0123456789abcdef"[redis_random(s) >> 60];
    out[i] = 0;
}

static int64_t redis_ms(const redis *s) { return (int64_t)(s->now_us / 1000); }

static uint64_t redis_hash(redis_slice s)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    size_t i;
    for (i = 0; i < s.length; i++) h = (h ^ (unsigned char)s.at[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 29;
}

static int redis_id_compare(redis_id a, redis_id b)
{
    if (a.ms != b.ms) return a.ms < b.ms ? -1 : 1;
    return a.seq < b.seq ? -1 : a.seq > b.seq;
}

static int redis_digits(const char **at, const char *end, uint64_t *out)
{
    const char *p = *at;
    *out = 0;
    for (; p < end && isdigit((unsigned char)*p); p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (*out > (UINT64_MAX - digit) / 10) return -1;
        *out = *out * 10 + digit;
    }
    if (p == *at) return -1;
    *at = p;
    return 0;
}

/* An ID: "ms-seq" or "ms", for which `seq` stands in; and "-" and "+" in a range. */
static int redis_id_parse(redis_slice s, uint64_t seq, int range, redis_id *out)
{
    const char *p = s.at, *end = s.at + s.length;
    if (range && s.length == 1 && (*p == '-' || *p == '+')) {
        out->ms = out->seq = *p == '-' ? 0 : UINT64_MAX;
        return 0;
    }
    if (redis_digits(&p, end, &out->ms)) return -1;
    out->seq = seq;
    if (p == end) return 0;
    if (*p++ != '-' || redis_digits(&p, end, &out->seq)) return -1;
    return p == end ? 0 : -1;
}

/* ---- the keyspace ---- */

static size_t redis_keyspace_bucket(const redis_keyspace *ks, int db, redis_slice name)
{
    return (size_t)(redis_hash(name) + (uint64_t)db) & (ks->bucket_count - 1);
}

static redis_key *redis_keyspace_find(const redis_keyspace *ks, int db, redis_slice name)
{
    redis_key *key = ks->bucket_count ? ks->buckets[redis_keyspace_bucket(ks, db, name)] : NULL;
    while (key && (key->db != db || !redis_same(redis_view(&key->name), name))) key = key->next;
    return key;
}

static void redis_keyspace_grow(redis_keyspace *ks)
{
    redis_key **was = ks->buckets;
    size_t i, count = ks->bucket_count;
    ks->bucket_count = count ? count * 2 : 16;
    ks->buckets = (redis_key **)redis_zeroed(ks->bucket_count * sizeof *ks->buckets);
    for (i = 0; i < count; i++) {
        redis_key *key = was[i];
        while (key) {
            redis_key *next = key->next;
            size_t at = redis_keyspace_bucket(ks, key->db, redis_view(&key->name));
            key->next = ks->buckets[at];
            ks->buckets[at] = key;
            key = next;
        }
    }
    free(was);
}

/* The key, made if it is not there. */
static redis_key *redis_keyspace_make(redis_keyspace *ks, int db, redis_slice name,
                                      redis_type type)
{
    redis_key *key = redis_keyspace_find(ks, db, name);
    size_t at;
    if (key) return key;
    if (ks->key_count >= ks->bucket_count) redis_keyspace_grow(ks);
    at = redis_keyspace_bucket(ks, db, name);
    key = (redis_key *)redis_zeroed(sizeof *key);
    key->type = type;
    key->db = db;
    redis_assign(&key->name, name);
    key->next = ks->buckets[at];
    ks->buckets[at] = key;
    ks->key_count++;
    ks->bytes += sizeof *key + name.length;
    return key;
}

/* Drop a stream's `n` oldest entries. */
static void redis_stream_drop(redis_keyspace *ks, redis_key *key, size_t n)
{
    for (; n; n--) {
        redis_entry *entry = &key->entries[key->first++];
        ks->bytes -= sizeof *entry + entry->length;
        free(entry->text);
        key->count--;
    }
}

/* Delete the entry at that index. */
static void redis_stream_delete(redis_keyspace *ks, redis_key *key, size_t index)
{
    redis_entry *entry = &key->entries[key->first + index];
    ks->bytes -= sizeof *entry + entry->length;
    free(entry->text);
    memmove(entry, entry + 1, (key->count - index - 1) * sizeof *entry);
    key->count--;
}

static void redis_stream_push(redis_keyspace *ks, redis_key *key, redis_id id, redis_slice text)
{
    redis_entry *entry;
    if (key->first + key->count == key->capacity) {
        if (key->first > key->capacity / 2) {
            memmove(key->entries, key->entries + key->first, key->count * sizeof *key->entries);
        } else {
            redis_entry *grown;
            key->capacity = key->capacity ? key->capacity * 2 : 8;
            grown = (redis_entry *)redis_realloc(NULL, key->capacity * sizeof *grown);
            if (key->count) memcpy(grown, key->entries + key->first, key->count * sizeof *grown);
            free(key->entries);
            key->entries = grown;
        }
        key->first = 0;
    }
    entry = &key->entries[key->first + key->count++];
    entry->id = key->last = id;
    entry->length = text.length;
    entry->text = (char *)redis_realloc(NULL, text.length);
    memcpy(entry->text, text.at, text.length);
    ks->bytes += sizeof *entry + text.length;
}

static const redis_entry *redis_stream_entry(const redis_key *key, size_t index)
{
    return &key->entries[key->first + index];
}

/* The index of the first entry whose ID is at least that. */
static size_t redis_stream_find(const redis_key *key, redis_id id)
{
    size_t low = 0, high = key->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (redis_id_compare(redis_stream_entry(key, middle)->id, id) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

static redis_field *redis_hash_find(const redis_key *key, redis_slice name)
{
    size_t i;
    for (i = 0; i < key->field_count; i++)
        if (redis_same(redis_view(&key->fields[i].name), name)) return &key->fields[i];
    return NULL;
}

static void redis_hash_set(redis_keyspace *ks, redis_key *key, redis_slice name,
                           redis_slice value)
{
    redis_field *field = redis_hash_find(key, name);
    if (!field) {
        key->fields = (redis_field *)redis_realloc(key->fields,
                                                   (key->field_count + 1) * sizeof *field);
        field = &key->fields[key->field_count++];
        memset(field, 0, sizeof *field);
        redis_assign(&field->name, name);
        ks->bytes += sizeof *field + name.length;
    }
    ks->bytes -= field->value.length;
    redis_assign(&field->value, value);
    ks->bytes += value.length;
}

/* Drop what a key holds. */
static void redis_keyspace_clear(redis_keyspace *ks, redis_key *key)
{
    size_t i;
    if (key->type == REDIS_STREAM) redis_stream_drop(ks, key, key->count);
    for (i = 0; i < key->field_count; i++) {
        ks->bytes -= sizeof *key->fields + key->fields[i].name.length +
                     key->fields[i].value.length;
        redis_bytes_free(&key->fields[i].name);
        redis_bytes_free(&key->fields[i].value);
    }
    ks->bytes -= key->string.length;
    redis_bytes_free(&key->string);
    free(key->fields);
    free(key->entries);
    key->fields = NULL;
    key->entries = NULL;
    key->field_count = key->first = key->capacity = key->count = 0;
    key->expires_ms = 0;
    key->last.ms = key->last.seq = 0;
}

static void redis_keyspace_delete(redis_keyspace *ks, redis_key *key)
{
    redis_key **at = &ks->buckets[redis_keyspace_bucket(ks, key->db, redis_view(&key->name))];
    while (*at != key) at = &(*at)->next;
    *at = key->next;
    redis_keyspace_clear(ks, key);
    ks->bytes -= sizeof *key + key->name.length;
    ks->key_count--;
    redis_bytes_free(&key->name);
    free(key);
}

static void redis_keyspace_free(redis_keyspace *ks)
{
    size_t i;
    for (i = 0; i < ks->bucket_count; i++)
        while (ks->buckets[i]) redis_keyspace_delete(ks, ks->buckets[i]);
    free(ks->buckets);
    memset(ks, 0, sizeof *ks);
}

static void redis_keyspace_copy_key(redis_keyspace *to, const redis_key *from)
{
    redis_key *key = redis_keyspace_make(to, from->db, redis_view(&from->name), from->type);
    size_t i;
    key->expires_ms = from->expires_ms;
    redis_assign(&key->string, redis_view(&from->string));
    to->bytes += from->string.length;
    for (i = 0; i < from->field_count; i++)
        redis_hash_set(to, key, redis_view(&from->fields[i].name),
                       redis_view(&from->fields[i].value));
    if (from->type == REDIS_STREAM) {
        for (i = 0; i < from->count; i++) {
            const redis_entry *entry = redis_stream_entry(from, i);
            redis_slice text;
            text.at = entry->text;
            text.length = entry->length;
            redis_stream_push(to, key, entry->id, text);
        }
    }
    key->count = from->count;
    key->last = from->last;
}

static redis_keyspace redis_keyspace_copy(const redis_keyspace *from)
{
    redis_keyspace to;
    const redis_key *key;
    size_t i;
    memset(&to, 0, sizeof to);
    for (i = 0; i < from->bucket_count; i++)
        for (key = from->buckets[i]; key; key = key->next) redis_keyspace_copy_key(&to, key);
    return to;
}

static void redis_keyspace_apply(redis_keyspace *ks, const redis_effect *e)
{
    redis_key *key;
    switch (e->op) {
    case REDIS_OP_SET:
        key = redis_keyspace_make(ks, e->db, e->key, REDIS_STRING);
        redis_keyspace_clear(ks, key);
        key->type = REDIS_STRING;
        key->expires_ms = e->number;
        redis_assign(&key->string, e->value);
        ks->bytes += e->value.length;
        break;
    case REDIS_OP_DEL:
        key = redis_keyspace_find(ks, e->db, e->key);
        if (key) redis_keyspace_delete(ks, key);
        break;
    case REDIS_OP_HSET:
        redis_hash_set(ks, redis_keyspace_make(ks, e->db, e->key, REDIS_HASH), e->field,
                       e->value);
        break;
    case REDIS_OP_XADD:
        key = redis_keyspace_make(ks, e->db, e->key, REDIS_STREAM);
        redis_stream_push(ks, key, e->id, e->value);
        if (e->number >= 0 && key->count > (size_t)e->number)
            redis_stream_drop(ks, key, key->count - (size_t)e->number);
        break;
    case REDIS_OP_XTRIM:
        key = redis_keyspace_find(ks, e->db, e->key);
        if (key) redis_stream_drop(ks, key, redis_stream_find(key, e->id));
        break;
    case REDIS_OP_XDEL:
        key = redis_keyspace_find(ks, e->db, e->key);
        if (key) redis_stream_delete(ks, key, redis_stream_find(key, e->id));
        break;
    case REDIS_OP_EXPIRE:
        key = redis_keyspace_find(ks, e->db, e->key);
        if (key) key->expires_ms = e->number;
        break;
    case REDIS_OP_PUSH: redis_keyspace_make(ks, e->db, e->key, REDIS_LIST)->count++; break;
    case REDIS_OP_FLUSH: redis_keyspace_free(ks); break;
    case REDIS_OP_PUBLISH: break;
    }
}

/* ---- the log: earlier states, and what replicas are sent ---- */

static redis_slice redis_log_copy(char **to, redis_slice from)
{
    redis_slice s;
    s.at = *to;
    s.length = from.length;
    if (from.length) memcpy(*to, from.at, from.length);
    *to += from.length;
    return s;
}

static size_t redis_log_size(const redis_effect *e)
{
    return sizeof(redis_logged) + e->key.length + e->field.length + e->value.length;
}

static void redis_log_append(redis *s, const redis_effect *e)
{
    redis_logged *entry = (redis_logged *)redis_realloc(NULL, redis_log_size(e));
    char *to = (char *)(entry + 1);
    entry->next = NULL;
    entry->unit = s->position;
    entry->effect = *e;
    entry->effect.key = redis_log_copy(&to, e->key);
    entry->effect.field = redis_log_copy(&to, e->field);
    entry->effect.value = redis_log_copy(&to, e->value);
    *s->log_end = entry;
    s->log_end = &entry->next;
    s->log_bytes += redis_log_size(e);
}

/* The oldest unit becomes part of the base. */
static void redis_log_fold(redis *s)
{
    s->base_position++;
    while (s->log && s->log->unit <= s->base_position) {
        redis_logged *entry = s->log;
        redis_keyspace_apply(&s->base, &entry->effect);
        s->log = entry->next;
        s->log_bytes -= redis_log_size(&entry->effect);
        free(entry);
    }
    if (!s->log) s->log_end = &s->log;
}

static void redis_log_forget_after(redis *s, uint64_t position)
{
    redis_logged **at = &s->log;
    while (*at && (*at)->unit <= position) at = &(*at)->next;
    s->log_end = at;
    while (*at) {
        redis_logged *entry = *at;
        *at = entry->next;
        s->log_bytes -= redis_log_size(&entry->effect);
        free(entry);
    }
    s->position = position;
}

/* What happens until the next call of this is one unit. */
static void redis_unit_begin(redis *s)
{
    s->unit_open = 0;
    while (s->position - s->base_position > s->log_units_max ||
           (s->log_bytes > s->log_bytes_max && s->base_position < s->position))
        redis_log_fold(s);
}

static void redis_do(redis *s, const redis_effect *e)
{
    if (!s->unit_open) s->position++;
    s->unit_open = 1;
    redis_log_append(s, e);
    if (s->on_effect) s->on_effect(s->ctx, s, e);
    redis_keyspace_apply(&s->keys, e); /* the effect may name a key by its own bytes */
}

static redis_effect redis_effect_of(redis_op op, int db, redis_slice key)
{
    redis_effect e;
    memset(&e, 0, sizeof e);
    e.op = op;
    e.db = db;
    e.key = key;
    e.field.at = e.value.at = "";
    return e;
}

static void redis_delete(redis *s, int db, redis_slice name)
{
    redis_effect e = redis_effect_of(REDIS_OP_DEL, db, name);
    redis_do(s, &e);
}

/* The key of that name, if there is one that has not expired. A replica deletes none by itself;
   it does not show it either. */
static redis_key *redis_look(redis *s, int db, redis_slice name)
{
    redis_key *key = redis_keyspace_find(&s->keys, db, name);
    if (!key || !key->expires_ms || redis_ms(s) <= key->expires_ms) return key;
    if (!s->replica) {
        s->expired++;
        redis_delete(s, db, name);
    }
    return NULL;
}

REDIS_UNUSED static uint64_t redis_position(const redis *s) { return s->position; }
REDIS_UNUSED static uint64_t redis_oldest(const redis *s) { return s->base_position; }

/* The keyspace as it was. */
static redis_keyspace redis_state(const redis *s, uint64_t position)
{
    redis_keyspace ks = redis_keyspace_copy(&s->base);
    const redis_logged *entry;
    for (entry = s->log; entry && entry->unit <= position; entry = entry->next)
        redis_keyspace_apply(&ks, &entry->effect);
    return ks;
}

/* ---- connections ---- */

static void redis_conn_changed(redis_conn *c)
{
    if (c->redis->on_change) c->redis->on_change(c->redis->ctx, c);
}

/* Returns 1 if it has that name. */
static int redis_conn_has(const redis_conn *c, redis_slice name)
{
    const redis_name *n;
    if (!c->name_count) return 0;
    n = c->names[(size_t)redis_hash(name) & (c->name_buckets - 1)];
    while (n && (n->length != name.length || memcmp(n->at, name.at, n->length))) n = n->next;
    return n != NULL;
}

static void redis_conn_grow_names(redis_conn *c)
{
    redis_name **was = c->names;
    size_t i, count = c->name_buckets;
    c->name_buckets = count ? count * 2 : 8;
    c->names = (redis_name **)redis_zeroed(c->name_buckets * sizeof *c->names);
    for (i = 0; i < count; i++) {
        while (was[i]) {
            redis_name *n = was[i], **to;
            redis_slice name;
            name.at = n->at;
            name.length = n->length;
            to = &c->names[(size_t)redis_hash(name) & (c->name_buckets - 1)];
            was[i] = n->next;
            n->next = *to;
            *to = n;
        }
    }
    free(was);
}

static void redis_conn_add_name(redis_conn *c, redis_slice name)
{
    redis_name *n, **to;
    if (redis_conn_has(c, name)) return;
    if (c->name_count == c->name_buckets) redis_conn_grow_names(c);
    to = &c->names[(size_t)redis_hash(name) & (c->name_buckets - 1)];
    n = (redis_name *)redis_realloc(NULL, sizeof *n + name.length);
    n->length = name.length;
    memcpy(n->at, name.at, name.length);
    n->next = *to;
    *to = n;
    c->name_count++;
}

static void redis_conn_remove_name(redis_conn *c, redis_slice name)
{
    redis_name **at, *n;
    if (!redis_conn_has(c, name)) return;
    at = &c->names[(size_t)redis_hash(name) & (c->name_buckets - 1)];
    while ((*at)->length != name.length || memcmp((*at)->at, name.at, name.length))
        at = &(*at)->next;
    n = *at;
    *at = n->next;
    free(n);
    c->name_count--;
}

static void redis_conn_free_names(redis_conn *c)
{
    size_t i;
    for (i = 0; i < c->name_buckets; i++) {
        while (c->names[i]) {
            redis_name *n = c->names[i];
            c->names[i] = n->next;
            free(n);
        }
    }
    free(c->names);
    c->names = NULL;
    c->name_count = c->name_buckets = 0;
}

/* It says nothing more, and hears nothing. */
static void redis_conn_end(redis_conn *c)
{
    c->closed = 1;
    redis_conn_free_names(c);
    redis_bytes_free(&c->in);
    c->parsed = c->arg_count = 0;
}

static void redis_conn_kill(redis_conn *c)
{
    if (c->closed && c->out.from == c->out.length) return;
    redis_conn_end(c);
    redis_bytes_free(&c->out);
    redis_conn_changed(c);
}

static void redis_conn_write(redis_conn *c, const void *bytes, size_t n)
{
    if (!c->closed) redis_append(&c->out, bytes, n);
}

static REDIS_FORMAT(2, 3) void redis_conn_print(redis_conn *c, const char *format, ...)
{
    char text[1024];
    va_list args;
    int n;
    va_start(args, format);
    n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0) n = 0;
    redis_conn_write(c, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

/* An error, of one line whatever it quotes. */
static void redis_conn_fail(redis_conn *c, redis_slice text)
{
    char *copy = (char *)redis_realloc(NULL, text.length);
    size_t i;
    for (i = 0; i < text.length; i++)
        copy[i] = text.at[i] == '\r' || text.at[i] == '\n' ? ' ' : text.at[i];
    redis_conn_write(c, "-", 1);
    redis_conn_write(c, copy, text.length);
    redis_conn_write(c, "\r\n", 2);
    free(copy);
}

static void redis_conn_error(redis_conn *c, const char *text)
{
    redis_conn_fail(c, redis_slice_of(text));
}

static void redis_conn_bulk(redis_conn *c, redis_slice s)
{
    redis_conn_print(c, "$%zu\r\n", s.length);
    redis_conn_write(c, s.at, s.length);
    redis_conn_write(c, "\r\n", 2);
}

static void redis_conn_number(redis_conn *c, int64_t n)
{
    redis_conn_print(c, ":%" PRId64 "\r\n", n);
}
static void redis_conn_array(redis_conn *c, size_t n) { redis_conn_print(c, "*%zu\r\n", n); }
static void redis_conn_null(redis_conn *c) { redis_conn_print(c, "$-1\r\n"); }
static void redis_conn_ok(redis_conn *c) { redis_conn_print(c, "+OK\r\n"); }

/* More than it may leave unread ends a subscribed connection. */
static void redis_conn_limit(redis_conn *c)
{
    if (c->name_count && c->out.length - c->out.from > c->redis->output_bytes_max)
        redis_conn_kill(c);
}

static int64_t redis_deliver(redis *s, redis_slice name, redis_slice text)
{
    redis_conn *c;
    int64_t n = 0;
    for (c = s->conns; c; c = c->next) {
        if (!redis_conn_has(c, name)) continue;
        n++;
        redis_conn_print(c, "*3\r\n$7\r\nmessage\r\n");
        redis_conn_bulk(c, name);
        redis_conn_bulk(c, text);
        redis_conn_limit(c);
        if (!c->closed) redis_conn_changed(c);
    }
    return n;
}

/* Replicas are sent it too, and tell their own subscribers. */
static int64_t redis_publish(redis *s, redis_slice name, redis_slice text)
{
    redis_effect e = redis_effect_of(REDIS_OP_PUBLISH, 0, name);
    e.value = text;
    if (!s->replica) redis_do(s, &e); /* what a replica publishes is no write, and goes no further */
    return redis_deliver(s, name, text);
}

/* ---- SHA-1, by which scripts are called ---- */

static uint32_t redis_sha_rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void redis_sha_block(uint32_t h[5], const unsigned char *p)
{
    uint32_t w[80], v[5], f, k, next;
    int i;
    for (i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (; i < 80; i++) w[i] = redis_sha_rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    memcpy(v, h, sizeof v);
    for (i = 0; i < 80; i++) {
        if (i < 20) f = (v[1] & v[2]) | (~v[1] & v[3]), k = 0x5a827999u;
        else if (i < 40) f = v[1] ^ v[2] ^ v[3], k = 0x6ed9eba1u;
        else if (i < 60) f = (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]), k = 0x8f1bbcdcu;
        else f = v[1] ^ v[2] ^ v[3], k = 0xca62c1d6u;
        next = redis_sha_rotate(v[0], 5) + f + v[4] + k + w[i];
        v[4] = v[3];
        v[3] = v[2];
        v[2] = redis_sha_rotate(v[1], 30);
        v[1] = v[0];
        v[0] = next;
    }
    for (i = 0; i < 5; i++) h[i] += v[i];
}

static void redis_sha_hex(redis_slice text, char out[41])
{
    uint32_t h[5] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};
    size_t size = (text.length + 8) / 64 * 64 + 64;
    unsigned char *padded = (unsigned char *)redis_zeroed(size);
    size_t i;
    memcpy(padded, text.at, text.length);
    padded[text.length] = 0x80;
    for (i = 0; i < 8; i++)
        padded[size - 1 - i] = (unsigned char)((uint64_t)text.length * 8 >> 8 * i);
    for (i = 0; i < size; i += 64) redis_sha_block(h, padded + i);
    free(padded);
    for (i = 0; i < 5; i++) snprintf(out + 8 * i, 9, "%08x", (unsigned)h[i]);
}

/* ---- INFO ---- */

static int redis_loading(const redis *s) { return s->now_us < s->loading_until_us; }

/* Of the fields that the real server has, those that tell something here, in its order. */
static void redis_info_replication(const redis *s, redis_bytes *b, int in_script)
{
    redis_print(b, "# Replication\r\nrole:%s\r\n", s->replica ? "slave" : "master");
    if (s->replica) {
        redis_print(b,
                    "master_host:127.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:%s\r\n"
                    "master_last_io_seconds_ago:%d\r\nmaster_sync_in_progress:%d\r\n"
                    "slave_read_repl_offset:%" PRIu64 "\r\nslave_repl_offset:%" PRIu64 "\r\n",
                    s->link_up ? "up" : "down", s->link_up ? 0 : -1, redis_loading(s),
                    s->position, s->position);
        if (!s->link_up)
            redis_print(b, "master_link_down_since_seconds:%" PRIu64 "\r\n",
                        (s->now_us - s->link_down_since_us) / 1000000);
        redis_print(b, "slave_priority:100\r\nslave_read_only:1\r\nreplica_announced:1\r\n");
    }
    redis_print(b, "connected_slaves:%d\r\nmaster_failover_state:no-failover\r\n", s->replicas);
    if (!in_script || !s->replid_hidden) redis_print(b, "master_replid:%s\r\n", s->replid);
    redis_print(b,
                "master_replid2:%s\r\nmaster_repl_offset:%" PRIu64 "\r\n"
                "second_repl_offset:%" PRId64 "\r\nrepl_backlog_active:%d\r\n"
                "repl_backlog_size:1048576\r\n",
                s->replid2, s->position, s->second_offset, s->backlog);
}

static void redis_info_section(redis *s, redis_bytes *b, const char *name)
{
    if (b->length) redis_print(b, "\r\n");
    if (!strcmp(name, "server"))
        redis_print(b,
                    "# Server\r\nredis_version:%s\r\nredis_mode:%s\r\n"
                    "run_id:%s\r\ntcp_port:6379\r\nserver_time_usec:%" PRIu64 "\r\n"
                    "uptime_in_seconds:%" PRIu64 "\r\n",
                    s->version, s->cluster_enabled ? "cluster" : "standalone", s->run_id,
                    s->now_us, (s->now_us - s->started_us) / 1000000);
    else if (!strcmp(name, "clients"))
        redis_print(b, "# Clients\r\nconnected_clients:%zu\r\nmaxclients:10000\r\n",
                    s->conn_count);
    else if (!strcmp(name, "memory"))
        redis_print(b,
                    "# Memory\r\nused_memory:%" PRIu64 "\r\nmaxmemory:%d\r\n"
                    "maxmemory_policy:%s\r\n",
                    s->keys.bytes, s->oom, s->maxmemory_policy);
    else if (!strcmp(name, "persistence"))
        redis_print(b,
                    "# Persistence\r\nloading:%d\r\nasync_loading:0\r\n"
                    "rdb_last_bgsave_status:%s\r\naof_enabled:0\r\naof_last_write_status:ok\r\n",
                    redis_loading(s), s->misconf ? "err" : "ok");
    else if (!strcmp(name, "stats"))
        redis_print(b,
                    "# Stats\r\ntotal_connections_received:%" PRIu64 "\r\n"
                    "total_commands_processed:%" PRIu64 "\r\nexpired_keys:%" PRIu64 "\r\n",
                    s->connected, s->commands, s->expired);
    else if (!strcmp(name, "replication")) redis_info_replication(s, b, 0);
    else if (!strcmp(name, "cpu"))
        redis_print(b, "# CPU\r\nused_cpu_sys:0.000000\r\nused_cpu_user:0.000000\r\n");
    else if (!strcmp(name, "cluster"))
        redis_print(b, "# Cluster\r\ncluster_enabled:%d\r\n", s->cluster_enabled);
    else redis_print(b, "# Keyspace\r\n");
}

static const char *const redis_info_sections[] = {"server",      "clients", "memory",
                                                  "persistence", "stats",   "replication",
                                                  "cpu",         "cluster", "keyspace"};

static void redis_command_info(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_bytes b;
    size_t i, k;
    memset(&b, 0, sizeof b);
    for (i = 0; i < sizeof redis_info_sections / sizeof *redis_info_sections; i++) {
        int wanted = n == 1;
        for (k = 1; k < n; k++)
            wanted |= redis_is(args[k], redis_info_sections[i]) || redis_is(args[k], "all") ||
                      redis_is(args[k], "default") || redis_is(args[k], "everything");
        if (wanted) redis_info_section(c->redis, &b, redis_info_sections[i]);
    }
    redis_conn_bulk(c, redis_view(&b));
    redis_bytes_free(&b);
}

/* ---- commands: what each one is, and when it is refused ---- */

enum {
    REDIS_WRITE = 1, REDIS_DENYOOM = 2, REDIS_IN_LOADING = 4, REDIS_IN_STALE = 8,
    REDIS_NO_AUTH = 16, REDIS_IN_BUSY = 32, REDIS_IN_PUBSUB = 64
};

typedef struct redis_command {
    const char *name;
    int arity;                  /* with its name; negative: at least so many    */
    unsigned flags;
    void (*run)(redis_conn *c, const redis_slice *args, size_t n);
} redis_command;

static const char redis_wrong_type[] =
    "WRONGTYPE Operation against a key holding the wrong kind of value";
static const char redis_not_integer[] = "ERR value is not an integer or out of range";
static const char redis_bad_id[] = "ERR Invalid stream ID specified as stream command argument";
static const char redis_oom_text[] = "OOM command not allowed when used memory > 'maxmemory'.";
static const char redis_readonly_text[] = "READONLY You can't write against a read only replica.";
static const char redis_no_replicas_text[] = "NOREPLICAS Not enough good replicas to write.";
static const char redis_masterdown_text[] =
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
static const char redis_misconf_text[] =
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to "
    "disk. Commands that may modify the data set are disabled, because this instance is "
    "configured to report errors during writes if RDB snapshotting fails "
    "(stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB "
    "error.";

/* The key, of that type or missing. Returns -1 with the error told. */
static int redis_command_look(redis_conn *c, redis_slice name, redis_type type, redis_key **out)
{
    *out = redis_look(c->redis, c->db, name);
    if (!*out || (*out)->type == type) return 0;
    redis_conn_error(c, redis_wrong_type);
    return -1;
}

/* A replica that may not answer, since its primary is not there. */
static int redis_is_stale(const redis *s) { return s->stale && s->replica && !s->link_up; }

/* That nobody may run it is for tests of a server's ACL. */
static int redis_is_denied(const redis *s, const char *name)
{
    char word[32];
    snprintf(word, sizeof word, " %.28s ", name);
    return s->denied && strstr(s->denied, word);
}

static void redis_command_auth(redis_conn *c, const redis_slice *args, size_t n)
{
    const redis *s = c->redis;
    int known = n == 2 || redis_is(args[1], "default") ||
                (s->user && s->password && redis_same(args[1], redis_slice_of(s->user)));
    if (n > 3) {
        redis_conn_error(c, "ERR syntax error");
    } else if (n == 2 && !s->password) {
        redis_conn_error(
            c, "ERR AUTH <password> called without any password configured for the default "
               "user. Are you sure your configuration is correct?");
    } else if (!known || (s->password && !redis_same(args[n - 1], redis_slice_of(s->password)))) {
        redis_conn_error(c, "WRONGPASS invalid username-password pair or user is disabled.");
    } else {
        c->authenticated = 1;
        redis_conn_ok(c);
    }
}

static void redis_command_select(redis_conn *c, const redis_slice *args, size_t n)
{
    int64_t db;
    (void)n;
    if (redis_integer(args[1], &db)) redis_conn_error(c, redis_not_integer);
    else if (db != (int32_t)db)
        redis_conn_error(
            c, "ERR value is out of range, value must between -2147483648 and 2147483647");
    else if (db < 0 || db > 15) redis_conn_error(c, "ERR DB index is out of range");
    else {
        c->db = (int)db;
        redis_conn_ok(c);
    }
}

static void redis_command_ping(redis_conn *c, const redis_slice *args, size_t n)
{
    if (n > 2) {
        redis_conn_error(c, "ERR wrong number of arguments for 'ping' command");
    } else if (c->name_count) {
        redis_conn_print(c, "*2\r\n$4\r\npong\r\n");
        redis_conn_bulk(c, n == 2 ? args[1] : redis_slice_of(""));
    } else if (n == 2) {
        redis_conn_bulk(c, args[1]);
    } else {
        redis_conn_print(c, "+PONG\r\n");
    }
}

static redis_script *redis_script_find(const redis *s, redis_slice sha)
{
    redis_script *script = s->scripts;
    while (script && !redis_is(sha, script->sha)) script = script->next;
    return script;
}

static void redis_command_script_load(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_script *script;
    char sha[41];
    (void)n;
    redis_sha_hex(args[2], sha);
    if (!redis_script_find(c->redis, redis_slice_of(sha))) {
        script = (redis_script *)redis_zeroed(sizeof *script);
        memcpy(script->sha, sha, sizeof sha);
        script->text = (char *)redis_zeroed(args[2].length + 1);
        memcpy(script->text, args[2].at, args[2].length);
        script->is_call = strstr(script->text, "'XADD'") != NULL;
        script->next = c->redis->scripts;
        c->redis->scripts = script;
    }
    redis_conn_bulk(c, redis_slice_of(sha));
}

static void redis_forget_scripts(redis *s)
{
    while (s->scripts) {
        redis_script *script = s->scripts;
        s->scripts = script->next;
        free(script->text);
        free(script);
    }
}

static void redis_command_script_flush(redis_conn *c, const redis_slice *args, size_t n)
{
    (void)args, (void)n;
    redis_forget_scripts(c->redis);
    redis_conn_ok(c);
}

static void redis_command_get(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_key *key;
    (void)n;
    if (redis_command_look(c, args[1], REDIS_STRING, &key)) return;
    if (key) redis_conn_bulk(c, redis_view(&key->string));
    else redis_conn_null(c);
}

static void redis_command_hmget(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_key *key;
    size_t i;
    if (redis_command_look(c, args[1], REDIS_HASH, &key)) return;
    redis_conn_array(c, n - 2);
    for (i = 2; i < n; i++) {
        const redis_field *field = key ? redis_hash_find(key, args[i]) : NULL;
        if (field) redis_conn_bulk(c, redis_view(&field->value));
        else redis_conn_null(c);
    }
}

static void redis_command_subscribe(redis_conn *c, const redis_slice *args, size_t n)
{
    size_t i;
    for (i = 1; i < n; i++) {
        redis_conn_add_name(c, args[i]);
        redis_conn_print(c, "*3\r\n$9\r\nsubscribe\r\n");
        redis_conn_bulk(c, args[i]);
        redis_conn_number(c, (int64_t)c->name_count);
    }
}

static void redis_conn_unsubscribe(redis_conn *c, redis_slice name)
{
    redis_conn_print(c, "*3\r\n$11\r\nunsubscribe\r\n");
    redis_conn_bulk(c, name);
    redis_conn_remove_name(c, name);
    redis_conn_number(c, (int64_t)c->name_count);
}

static void redis_command_unsubscribe(redis_conn *c, const redis_slice *args, size_t n)
{
    size_t i;
    for (i = 1; i < n; i++) redis_conn_unsubscribe(c, args[i]);
    if (n > 1) return;
    if (!c->name_count) redis_conn_print(c, "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n");
    for (i = 0; i < c->name_buckets; i++) {
        while (c->names && c->names[i]) {
            redis_bytes copy;
            memset(&copy, 0, sizeof copy);
            redis_append(&copy, c->names[i]->at, c->names[i]->length);
            redis_conn_unsubscribe(c, redis_view(&copy));
            redis_bytes_free(&copy);
        }
    }
}

static void redis_command_quit(redis_conn *c, const redis_slice *args, size_t n)
{
    (void)args, (void)n;
    redis_conn_ok(c);
    redis_conn_end(c);
}

/* ---- those that tests use ---- */

static void redis_command_set(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_effect e = redis_effect_of(REDIS_OP_SET, c->db, args[1]);
    int64_t ms = 0;
    e.value = args[2];
    if (n != 3 && (n != 5 || !redis_is(args[3], "px"))) {
        redis_conn_error(c, "ERR not simulated: an option of SET");
        return;
    }
    if (n == 5 && redis_integer(args[4], &ms)) {
        redis_conn_error(c, redis_not_integer);
        return;
    }
    if (n == 5 && ms <= 0) {
        redis_conn_error(c, "ERR invalid expire time in 'set' command");
        return;
    }
    e.number = ms ? redis_ms(c->redis) + ms : 0;
    redis_do(c->redis, &e);
    redis_conn_ok(c);
}

static void redis_command_del(redis_conn *c, const redis_slice *args, size_t n)
{
    int64_t count = 0;
    size_t i;
    for (i = 1; i < n; i++) {
        if (!redis_look(c->redis, c->db, args[i])) continue;
        redis_delete(c->redis, c->db, args[i]);
        count++;
    }
    redis_conn_number(c, count);
}

static void redis_command_pttl(redis_conn *c, const redis_slice *args, size_t n)
{
    const redis_key *key = redis_look(c->redis, c->db, args[1]);
    (void)n;
    if (!key) redis_conn_number(c, -2);
    else redis_conn_number(c, key->expires_ms ? key->expires_ms - redis_ms(c->redis) : -1);
}

static void redis_command_type(redis_conn *c, const redis_slice *args, size_t n)
{
    static const char *const types[] = {"none", "string", "hash", "stream", "list"};
    const redis_key *key = redis_look(c->redis, c->db, args[1]);
    (void)n;
    redis_conn_print(c, "+%s\r\n", types[key ? key->type : REDIS_NONE]);
}

static void redis_command_exists(redis_conn *c, const redis_slice *args, size_t n)
{
    int64_t count = 0;
    size_t i;
    for (i = 1; i < n; i++) count += redis_look(c->redis, c->db, args[i]) != NULL;
    redis_conn_number(c, count);
}

static void redis_command_hset(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_effect e = redis_effect_of(REDIS_OP_HSET, c->db, args[1]);
    redis_key *key;
    int64_t added = 0;
    size_t i;
    if (n % 2) {
        redis_conn_error(c, "ERR wrong number of arguments for 'hset' command");
        return;
    }
    if (redis_command_look(c, args[1], REDIS_HASH, &key)) return;
    for (i = 2; i < n; i += 2) {
        key = redis_look(c->redis, c->db, args[1]);
        added += !key || !redis_hash_find(key, args[i]);
        e.field = args[i];
        e.value = args[i + 1];
        redis_do(c->redis, &e);
    }
    redis_conn_number(c, added);
}

/* Add to a stream. Returns NULL or the error. */
static const char *redis_stream_add(redis *s, int db, redis_slice name, int64_t max,
                                    redis_slice id, redis_slice text)
{
    redis_effect e = redis_effect_of(REDIS_OP_XADD, db, name);
    const redis_key *key;
    e.number = max;
    e.value = text;
    if (redis_id_parse(id, 0, 0, &e.id)) return redis_bad_id;
    if (!e.id.ms && !e.id.seq) return "ERR The ID specified in XADD must be greater than 0-0";
    key = redis_look(s, db, name);
    if (key && key->type != REDIS_STREAM) return redis_wrong_type;
    if (key && redis_id_compare(e.id, key->last) <= 0)
        return "ERR The ID specified in XADD is equal or smaller than the target stream top item";
    redis_do(s, &e);
    return NULL;
}

static void redis_command_xadd(redis_conn *c, const redis_slice *args, size_t n)
{
    int64_t max = -1;
    size_t id = 2;
    const char *error;
    if (redis_is(args[2], "maxlen")) {
        if (redis_integer(args[3], &max)) {
            redis_conn_error(c, redis_not_integer);
            return;
        }
        if (max < 0) {
            redis_conn_error(c, "ERR The MAXLEN argument must be >= 0.");
            return;
        }
        id = 4;
    }
    if (n != id + 3 || !redis_is(args[id + 1], "m")) {
        redis_conn_error(c, "ERR not simulated: entries of other than one field, m");
        return;
    }
    error = redis_stream_add(c->redis, c->db, args[1], max, args[id], args[id + 2]);
    if (error) redis_conn_error(c, error);
    else {
        redis_id written = redis_keyspace_find(&c->redis->keys, c->db, args[1])->last;
        char text[48];
        snprintf(text, sizeof text, "%" PRIu64 "-%" PRIu64, written.ms, written.seq);
        redis_conn_bulk(c, redis_slice_of(text));
    }
}

static void redis_command_xdel(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_effect e = redis_effect_of(REDIS_OP_XDEL, c->db, args[1]);
    redis_key *key;
    size_t index;
    if (n > 3) {
        redis_conn_error(c, "ERR not simulated: XDEL of several");
        return;
    }
    if (redis_command_look(c, args[1], REDIS_STREAM, &key)) return;
    if (key && redis_id_parse(args[2], 0, 0, &e.id)) {
        redis_conn_error(c, redis_bad_id);
        return;
    }
    index = key ? redis_stream_find(key, e.id) : 0;
    if (!key || index == key->count || redis_id_compare(redis_stream_entry(key, index)->id, e.id)) {
        redis_conn_number(c, 0);
        return;
    }
    redis_do(c->redis, &e);
    redis_conn_number(c, 1);
}

static void redis_command_xlen(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_key *key;
    (void)n;
    if (redis_command_look(c, args[1], REDIS_STREAM, &key)) return;
    redis_conn_number(c, key ? (int64_t)key->count : 0);
}

/* The indices [*from, *to) of the entries from `low` to `high`, `max` at most. */
static void redis_stream_range(const redis_key *key, redis_id low, redis_id high, int64_t max,
                               int reverse, size_t *from, size_t *to)
{
    *from = redis_stream_find(key, low);
    *to = redis_stream_find(key, high);
    if (*to < key->count && !redis_id_compare(redis_stream_entry(key, *to)->id, high)) ++*to;
    if (*to < *from) *to = *from;
    if (max < 0 || *to - *from <= (uint64_t)max) return;
    if (reverse) *from = *to - (size_t)max;
    else *to = *from + (size_t)max;
}

static redis_slice redis_entry_text(const redis_entry *entry)
{
    redis_slice s;
    s.at = entry->text;
    s.length = entry->length;
    return s;
}

static void redis_conn_entry(redis_conn *c, const redis_entry *entry)
{
    char id[48];
    snprintf(id, sizeof id, "%" PRIu64 "-%" PRIu64, entry->id.ms, entry->id.seq);
    redis_conn_array(c, 2);
    redis_conn_bulk(c, redis_slice_of(id));
    redis_conn_print(c, "*2\r\n$1\r\nm\r\n");
    redis_conn_bulk(c, redis_entry_text(entry));
}

static void redis_command_range(redis_conn *c, const redis_slice *args, size_t n, int reverse)
{
    redis_id low, high;
    redis_key *key;
    int64_t max = -1;
    size_t from, to, i;
    if (redis_id_parse(args[2 + reverse], 0, 1, &low) ||
        redis_id_parse(args[3 - reverse], UINT64_MAX, 1, &high)) {
        redis_conn_error(c, redis_bad_id);
        return;
    }
    if (n != 4 && (n != 6 || !redis_is(args[4], "count"))) {
        redis_conn_error(c, "ERR syntax error");
        return;
    }
    if (n == 6 && redis_integer(args[5], &max)) {
        redis_conn_error(c, redis_not_integer);
        return;
    }
    if (n == 6 && max < 0) max = 0;
    if (redis_command_look(c, args[1], REDIS_STREAM, &key)) return;
    if (!key) {
        redis_conn_array(c, 0);
    } else if (!max) {
        redis_conn_print(c, "*-1\r\n");
    } else {
        redis_stream_range(key, low, high, max, reverse, &from, &to);
        redis_conn_array(c, to - from);
        for (i = from; i < to; i++)
            redis_conn_entry(c, redis_stream_entry(key, reverse ? to - 1 - (i - from) : i));
    }
}

static void redis_command_xrange(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_command_range(c, args, n, 0);
}

static void redis_command_xrevrange(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_command_range(c, args, n, 1);
}

static void redis_command_lpush(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_effect e = redis_effect_of(REDIS_OP_PUSH, c->db, args[1]);
    redis_key *key;
    size_t i;
    if (redis_command_look(c, args[1], REDIS_LIST, &key)) return;
    for (i = 2; i < n; i++) redis_do(c->redis, &e);
    redis_conn_number(c, (int64_t)redis_keyspace_find(&c->redis->keys, c->db, args[1])->count);
}

/* Let a key expire. Returns whether there is one. */
static int redis_expire(redis *s, int db, redis_slice name, int64_t ms)
{
    redis_effect e = redis_effect_of(ms > 0 ? REDIS_OP_EXPIRE : REDIS_OP_DEL, db, name);
    if (!redis_look(s, db, name)) return 0;
    e.number = redis_ms(s) + ms;
    redis_do(s, &e);
    return 1;
}

static void redis_command_pexpire(redis_conn *c, const redis_slice *args, size_t n)
{
    int64_t ms;
    if (n > 3) redis_conn_error(c, "ERR not simulated: an option of PEXPIRE");
    else if (redis_integer(args[2], &ms)) redis_conn_error(c, redis_not_integer);
    else if (ms > INT64_MAX - redis_ms(c->redis))
        redis_conn_error(c, "ERR invalid expire time in 'pexpire' command");
    else redis_conn_number(c, redis_expire(c->redis, c->db, args[1], ms));
}

static void redis_command_publish(redis_conn *c, const redis_slice *args, size_t n)
{
    (void)n;
    redis_conn_number(c, redis_publish(c->redis, args[1], args[2]));
}

static void redis_command_time(redis_conn *c, const redis_slice *args, size_t n)
{
    char text[24];
    (void)args, (void)n;
    redis_conn_array(c, 2);
    snprintf(text, sizeof text, "%" PRIu64, c->redis->now_us / 1000000);
    redis_conn_bulk(c, redis_slice_of(text));
    snprintf(text, sizeof text, "%" PRIu64, c->redis->now_us % 1000000);
    redis_conn_bulk(c, redis_slice_of(text));
}

static void redis_flush(redis *s)
{
    redis_effect e = redis_effect_of(REDIS_OP_FLUSH, 0, redis_slice_of(""));
    redis_unit_begin(s);
    redis_do(s, &e);
}

static void redis_command_flushall(redis_conn *c, const redis_slice *args, size_t n)
{
    (void)args, (void)n;
    redis_flush(c->redis);
    redis_conn_ok(c);
}

/* ---- the library's scripts ---- */

/* One call of a script. Its redis.call()s are refused one by one: by whom nothing is known to
   the script before it calls. A runtime error names the line of the script that was loaded. */
typedef struct redis_run {
    redis *redis;
    redis_conn *conn;
    const redis_script *script;
    const redis_slice *keys, *args; /* of which the first is args[1], as in Lua  */
    size_t key_count, arg_count;
    int wrote;                      /* a write came through: none is refused now */
} redis_run;

/* The line of the nth place where it stands. */
static int redis_run_line(const redis_run *x, const char *what, int nth)
{
    const char *at = x->script->text, *p;
    int line = 1;
    for (at = strstr(at, what); at && --nth; at = strstr(at + 1, what)) {}
    if (!at) return 0;
    for (p = x->script->text; p < at; p++) line += *p == '\n';
    return line;
}

/* Returns -1, with the error told. */
static int redis_run_fail(const redis_run *x, const char *what, int nth, const char *text)
{
    redis_bytes b;
    memset(&b, 0, sizeof b);
    redis_append(&b, text, strlen(text));
    redis_print(&b, " script: %s, on @user_script:%d.", x->script->sha,
                redis_run_line(x, what, nth));
    redis_conn_fail(x->conn, redis_view(&b));
    redis_bytes_free(&b);
    return -1;
}

/* An error of Lua's own. */
static int redis_run_break(const redis_run *x, const char *what, int nth, const char *text)
{
    char line[160];
    snprintf(line, sizeof line, "ERR user_script:%d: %s", redis_run_line(x, what, nth), text);
    return redis_run_fail(x, what, nth, line);
}

static const redis_command *redis_command_find(const char *name);

/* May it call the command, which in its text is the nth of that name in quotes? */
static int redis_run_may(redis_run *x, const char *quoted, int nth)
{
    const redis *s = x->redis;
    char name[16];
    size_t i, n = strlen(quoted) - 2;
    unsigned flags;
    const char *error = NULL;
    for (i = 0; i < n; i++) name[i] = (char)tolower((unsigned char)quoted[i + 1]);
    name[n] = 0;
    flags = redis_command_find(name)->flags;
    if (redis_is_denied(s, name))
        error = "ERR The user executing the script can't run this command or subcommand";
    else if (flags & REDIS_WRITE && !x->wrote && s->replica) error = redis_readonly_text;
    else if (flags & REDIS_WRITE && !x->wrote && s->misconf) error = redis_misconf_text;
    else if (flags & REDIS_WRITE && !x->wrote && s->no_replicas) error = redis_no_replicas_text;
    else if (flags & REDIS_DENYOOM && !x->wrote && s->oom) error = redis_oom_text;
    if (error) return redis_run_fail(x, quoted, nth, error);
    if (flags & REDIS_WRITE) x->wrote = 1;
    return 0;
}

static int redis_run_look(redis_run *x, const char *quoted, int nth, size_t which,
                          redis_type type, redis_key **out)
{
    if (which > x->key_count)
        return redis_run_fail(x, quoted, nth,
                              "ERR Lua redis lib command arguments must be strings or integers");
    if (redis_run_may(x, quoted, nth)) return -1;
    *out = redis_look(x->redis, x->conn->db, x->keys[which]);
    if (*out && (*out)->type != type) return redis_run_fail(x, quoted, nth, redis_wrong_type);
    return 0;
}

/* As Lua makes a number of a string. */
static int redis_run_number(redis_slice s, double *out)
{
    char text[1024], *end;
    if (s.length >= sizeof text) return -1;
    memcpy(text, s.at, s.length);
    text[s.length] = 0;
    *out = strtod(text, &end);
    if (end == text) return -1;
    while (isspace((unsigned char)*end)) end++;
    return end == text + s.length ? 0 : -1;
}

/* ARGV[i] + 0 */
static int redis_run_argument(const redis_run *x, size_t i, double *out)
{
    char what[24];
    snprintf(what, sizeof what, "ARGV[%d]+0", (int)i);
    if (i > x->arg_count)
        return redis_run_break(x, what, 1,
                               "attempt to perform arithmetic on field '?' (a nil value)");
    if (redis_run_number(x->args[i], out))
        return redis_run_break(x, what, 1,
                               "attempt to perform arithmetic on field '?' (a string value)");
    return 0;
}

static int redis_run_set(redis_run *x, redis_slice name, redis_slice value, redis_slice ms_text)
{
    redis_effect e = redis_effect_of(REDIS_OP_SET, x->conn->db, name);
    int64_t ms;
    if (redis_run_may(x, "'SET'", 1)) return -1;
    if (redis_integer(ms_text, &ms)) return redis_run_fail(x, "'SET'", 1, redis_not_integer);
    if (ms <= 0) return redis_run_fail(x, "'SET'", 1, "ERR invalid expire time in 'set' command");
    e.value = value;
    e.number = redis_ms(x->redis) + ms;
    redis_do(x->redis, &e);
    return 0;
}

/* What the script knows of a channel: its variables, by their names. */
typedef struct redis_call {
    double wb, ws, wt, seen, age;
    double now, n, s, t, b, ps, o;
    redis_bytes e, pe, r0;      /* copies, since what the keys hold changes     */
    int has_e, has_r0, has_n;
    redis_bytes dup;
    int has_i, has_dup;
    int renewed;                /* when the hash expires was set in this second */
    redis_slice h, x;
} redis_call;

static void redis_call_str(char out[400], double v) { snprintf(out, 400, "%.0f", v); }

static double redis_call_max(double a, double b) { return b > a ? b : a; }

static int redis_call_field(redis_run *run, const redis_key *h, const char *name, double *out)
{
    const redis_field *field = h ? redis_hash_find(h, redis_slice_of(name)) : NULL;
    *out = 0;
    if (!field || !redis_run_number(redis_view(&field->value), out)) return 0;
    return redis_run_break(run, "v+0", 1,
                           "attempt to perform arithmetic on local 'v' (a string value)");
}

static int redis_call_text(const redis_key *h, const char *name, redis_bytes *out)
{
    const redis_field *field = h ? redis_hash_find(h, redis_slice_of(name)) : NULL;
    if (field) redis_append(out, redis_view(&field->value).at, field->value.length);
    return field != NULL;
}

static int redis_call_publishes(const redis_run *run)
{
    return run->args[9].length && run->arg_count >= 11;
}

static int redis_call_count(redis_run *run, redis_call *d, int nth)
{
    redis_key *x;
    if (d->has_n) return 0;
    if (redis_run_look(run, "'XLEN'", nth, 2, REDIS_STREAM, &x)) return -1;
    d->n = x ? (double)x->count : 0;
    d->has_n = 1;
    return 0;
}

/* Was the last message published in this second? */
static int redis_call_is_this_second(const redis_run *run, const redis_key *h)
{
    redis_bytes t;
    char now[24];
    int is;
    memset(&t, 0, sizeof t);
    redis_call_text(h, "t", &t);
    snprintf(now, sizeof now, "%" PRIu64, run->redis->now_us / 1000000);
    is = t.length == strlen(now) + 6 && !memcmp(t.at, now, strlen(now));
    redis_bytes_free(&t);
    return is;
}

/* What it reads in any case, before all that it writes. */
static int redis_call_read(redis_run *run, redis_call *d)
{
    redis_key *h, *dup;
    if (redis_run_argument(run, 2, &d->wb) || redis_run_argument(run, 3, &d->ws) ||
        redis_run_argument(run, 4, &d->wt) || redis_run_argument(run, 5, &d->seen) ||
        redis_run_argument(run, 7, &d->age))
        return -1;
    if (redis_run_may(run, "'INFO'", 1)) return -1;
    if (redis_run_look(run, "'HMGET'", 1, 1, REDIS_HASH, &h)) return -1;
    d->has_e = redis_call_text(h, "e", &d->e);
    d->has_r0 = redis_call_text(h, "r", &d->r0);
    if (!redis_call_publishes(run) && redis_call_count(run, d, 1)) return -1;
    d->has_i = run->key_count >= 3;
    if (d->has_i) {
        if (redis_run_look(run, "'GET'", 1, 3, REDIS_STRING, &dup)) return -1;
        d->has_dup = dup != NULL;
        if (dup) redis_append(&d->dup, redis_view(&dup->string).at, dup->string.length);
    }
    if (redis_run_may(run, "'TIME'", 1)) return -1;
    d->now = (double)run->redis->now_us;
    h = redis_look(run->redis, run->conn->db, run->keys[1]);
    if (redis_call_field(run, h, "s", &d->s) || redis_call_field(run, h, "t", &d->t) ||
        redis_call_field(run, h, "b", &d->b))
        return -1;
    if (redis_call_field(run, h, "o", &d->o)) return -1;
    d->renewed = d->s > 0 && redis_call_is_this_second(run, h);
    d->h = run->keys[1];
    d->x = run->keys[2];
    return 0;
}

static void redis_call_hset(redis_run *run, const redis_call *d, const char *field,
                            redis_slice value)
{
    redis_effect e = redis_effect_of(REDIS_OP_HSET, run->conn->db, d->h);
    e.field = redis_slice_of(field);
    e.value = value;
    redis_do(run->redis, &e);
}

static void redis_call_hset_number(redis_run *run, const redis_call *d, const char *field,
                                   double v)
{
    char text[400];
    redis_call_str(text, v);
    redis_call_hset(run, d, field, redis_slice_of(text));
}

/* Does the channel begin a new life? */
static int redis_call_is_new(const redis_run *run, const redis_call *d)
{
    return !d->has_e || !d->has_r0 || run->redis->replid_hidden ||
           !redis_same(redis_view(&d->r0), redis_slice_of(run->redis->replid)) || d->wb > d->b ||
           (d->wb == d->b && d->ws > d->s) || (0 < d->wb && d->wb < d->b && d->b <= d->wt);
}

static int redis_call_begin_epoch(redis_run *run, redis_call *d)
{
    if (redis_call_count(run, d, 2)) return -1;
    if (d->n > 0) {
        const redis_key *x = redis_look(run->redis, run->conn->db, d->x);
        redis_id last = redis_stream_entry(x, x->count - 1)->id;
        if (redis_run_may(run, "'XREVRANGE'", 1)) return -1;
        if (!d->has_e) {
            d->s = (double)last.ms;
            d->t = (double)last.seq;
        } else if ((double)last.ms != d->s) {
            if (redis_run_may(run, "'DEL'", 1)) return -1;
            redis_delete(run->redis, run->conn->db, d->x);
            d->n = 0;
        }
    }
    d->t = redis_call_max(d->now, redis_call_max(d->t + 1, d->seen + 1));
    d->b = d->t;
    if (run->redis->replid_hidden)
        return redis_run_fail(run, "'HSET'", 1,
                              "ERR Lua redis lib command arguments must be strings or integers");
    if (redis_run_may(run, "'HSET'", 1)) return -1;
    d->renewed = 0;
    redis_call_hset(run, d, "e", run->args[1]);
    redis_call_hset(run, d, "r", redis_slice_of(run->redis->replid));
    redis_call_hset_number(run, d, "s", d->s);
    redis_call_hset_number(run, d, "t", d->t);
    redis_call_hset_number(run, d, "b", d->b);
    redis_call_hset(run, d, "pe", redis_view(&d->e));
    redis_call_hset_number(run, d, "ps", d->s);
    redis_call_hset_number(run, d, "o", d->o);
    redis_assign(&d->e, run->args[1]);
    return 0;
}

/* Drop what is too old, `max` at most. Returns 1 if there may be more, 0, or -1. */
static int redis_call_trim(redis_run *run, redis_call *d, size_t max)
{
    double cut = d->now - d->age * 1000;
    redis_effect e = redis_effect_of(REDIS_OP_XTRIM, run->conn->db, d->x);
    const redis_key *x;
    size_t k = 0, count;
    if (d->age == 0 || d->o >= cut) return 0;
    if (redis_run_may(run, "'XRANGE'", 1)) return -1;
    x = redis_look(run->redis, run->conn->db, d->x);
    count = x ? x->count : 0;
    if (count > max + 1) count = max + 1;
    while (k < max && k < count && (double)redis_stream_entry(x, k)->id.seq < cut) k++;
    d->n -= (double)k;
    if (k == count) {
        if (redis_run_may(run, "'DEL'", 2)) return -1;
        if (x) redis_delete(run->redis, run->conn->db, d->x);
        d->o = d->t;
        return 1;
    }
    e.id = redis_stream_entry(x, k)->id;
    if (k) {
        if (redis_run_may(run, "'XTRIM'", 1)) return -1;
        redis_do(run->redis, &e);
    }
    d->o = (double)e.id.seq;
    return k >= max;
}

static int redis_run_expire(redis_run *run, redis_slice name, redis_slice ms_text)
{
    int64_t ms;
    if (redis_run_may(run, "'PEXPIRE'", 1)) return -1;
    if (redis_integer(ms_text, &ms))
        return redis_run_fail(run, "'PEXPIRE'", 1, redis_not_integer);
    redis_expire(run->redis, run->conn->db, name, ms);
    return 0;
}

static int redis_call_expire(redis_run *run, redis_slice name, redis_slice ms_text)
{
    if (ms_text.length == 1 && *ms_text.at == '0') return 0;
    return redis_run_expire(run, name, ms_text);
}

static int redis_call_xadd(redis_run *run, const redis_call *d, const char *s, const char *t,
                           redis_slice text)
{
    char id[808];
    int64_t max;
    const char *error;
    if (redis_run_may(run, "'XADD'", 1)) return -1;
    if (redis_integer(run->args[6], &max))
        return redis_run_fail(run, "'XADD'", 1, redis_not_integer);
    if (max < 0) return redis_run_fail(run, "'XADD'", 1, "ERR The MAXLEN argument must be >= 0.");
    snprintf(id, sizeof id, "%s-%s", s, t);
    error = redis_stream_add(run->redis, run->conn->db, d->x, max, redis_slice_of(id), text);
    return error ? redis_run_fail(run, "'XADD'", 1, error) : 0;
}

static void redis_call_told(redis_run *run, const redis_call *d, int64_t k)
{
    char text[400];
    redis_conn_array(run->conn, 5);
    redis_conn_bulk(run->conn, redis_slice_of(run->redis->replid));
    redis_conn_bulk(run->conn, redis_view(&d->e));
    redis_call_str(text, d->s);
    redis_conn_bulk(run->conn, redis_slice_of(text));
    redis_call_str(text, d->t);
    redis_conn_bulk(run->conn, redis_slice_of(text));
    redis_conn_number(run->conn, k);
}

static int redis_call_is_transient(const redis_run *run)
{
    return run->args[11].length && *run->args[11].at == '~';
}

/* Does a mark of a transient message stand there? */
static int redis_call_is_mark(const redis_entry *entry)
{
    return entry->length && entry->text[entry->length - 1] == '~';
}

/* Store `text`, of which the first `id` bytes are its epoch, SEQ and timestamp; of a transient
   message a mark. */
static int redis_call_store(redis_run *run, const redis_call *d, const char *s, const char *t,
                            const redis_bytes *text, size_t id)
{
    redis_bytes mark;
    int failed;
    if (!redis_call_is_transient(run)) return redis_call_xadd(run, d, s, t, redis_view(text));
    memset(&mark, 0, sizeof mark);
    redis_append(&mark, text->at, id);
    redis_append(&mark, " ~", 2);
    failed = redis_call_xadd(run, d, s, t, redis_view(&mark));
    redis_bytes_free(&mark);
    return failed;
}

/* Publish ARGV[a]; its epoch, SEQ and timestamp are left in `text`. Returns -1 after an error. */
static int redis_call_publish_text(redis_run *run, redis_call *d, size_t a, redis_bytes *text,
                                   int64_t *k)
{
    char s[400], t[400];
    size_t id;
    redis_call_str(s, ++d->s);
    d->t = redis_call_max(d->now, d->t + 1);
    redis_call_str(t, d->t);
    text->length = 0;
    redis_append(text, redis_view(&d->e).at, d->e.length);
    redis_print(text, " %s %s", s, t);
    id = text->length;
    redis_append(text, " ", 1);
    redis_append(text, run->args[a].at, run->args[a].length);
    if (redis_call_store(run, d, s, t, text, id)) return -1;
    if (redis_run_may(run, "'PUBLISH'", 1)) return -1;
    *k = redis_publish(run->redis, run->args[9], redis_view(text));
    text->length = id;
    return 0;
}

static void redis_call_publish_texts(redis_run *run, redis_call *d, redis_bytes *text)
{
    const double was = d->o;
    int64_t k = 0;
    size_t a;
    int trimmed;
    if (redis_call_is_transient(run) && redis_call_count(run, d, 3)) return;
    for (a = 11; a <= run->arg_count; a++)
        if (redis_call_publish_text(run, d, a, text, &k)) return;
    if (redis_call_is_transient(run) && d->n == 0) {
        if (redis_run_may(run, "'DEL'", 3)) return;
        redis_delete(run->redis, run->conn->db, d->x);
    }
    if (redis_call_trim(run, d, 8) < 0) return;
    trimmed = d->o < was || d->o > was;
    if (redis_run_may(run, "'HSET'", trimmed ? 2 : 3)) return;
    redis_call_hset_number(run, d, "s", d->s);
    redis_call_hset_number(run, d, "t", d->t);
    if (trimmed) redis_call_hset_number(run, d, "o", d->o);
    if (redis_call_expire(run, d->x, run->args[7])) return;
    if (!d->renewed && redis_call_expire(run, d->h, run->args[8])) return;
    redis_print(text, " %u", (unsigned)(run->arg_count - 10));
    if (d->has_i && redis_run_set(run, run->keys[3], redis_view(text), run->args[10])) return;
    redis_call_told(run, d, k);
}

/* Drop the history, by a new epoch. */
static void redis_call_drop(redis_run *run, redis_call *d)
{
    redis_bytes text;
    if (!redis_same(redis_view(&d->e), run->args[1])) {
        redis_assign(&d->e, run->args[1]);
        d->t = redis_call_max(d->now, redis_call_max(d->t + 1, d->seen + 1));
    }
    if (redis_run_may(run, "'DEL'", 4)) return;
    redis_delete(run->redis, run->conn->db, d->x);
    if (redis_run_may(run, "'HSET'", 4)) return;
    redis_call_hset(run, d, "e", redis_view(&d->e));
    redis_call_hset_number(run, d, "t", d->t);
    redis_call_hset_number(run, d, "b", d->t);
    redis_call_hset(run, d, "pe", redis_slice_of(""));
    redis_call_hset_number(run, d, "ps", 0);
    redis_call_hset_number(run, d, "o", d->t);
    if (redis_call_expire(run, d->h, run->args[8])) return;
    if (redis_run_may(run, "'PUBLISH'", 2)) return;
    memset(&text, 0, sizeof text);
    redis_append(&text, redis_view(&d->e).at, d->e.length);
    redis_print(&text, " 0 %.0f {}", d->t);
    redis_call_told(run, d, redis_publish(run->redis, run->args[9], redis_view(&text)));
    redis_bytes_free(&text);
}

static void redis_call_publish(redis_run *run, redis_call *d)
{
    redis_bytes text;
    if (run->arg_count < 11) {
        redis_call_drop(run, d);
        return;
    }
    if (d->has_dup) {
        if (redis_call_expire(run, d->h, run->args[8])) return;
        redis_conn_array(run->conn, 2);
        redis_conn_bulk(run->conn, redis_slice_of(run->redis->replid));
        redis_conn_bulk(run->conn, redis_view(&d->dup));
        return;
    }
    memset(&text, 0, sizeof text);
    redis_call_publish_texts(run, d, &text);
    redis_bytes_free(&text);
}

/* Drop the marks that nothing is before. Returns -1 after an error. */
static int redis_call_drop_marks(redis_run *run, redis_call *d)
{
    redis_effect e = redis_effect_of(REDIS_OP_XTRIM, run->conn->db, d->x);
    const redis_key *x;
    size_t k, head;
    if (redis_run_may(run, "'XRANGE'", 2)) return -1;
    for (;;) {
        x = redis_look(run->redis, run->conn->db, d->x);
        if (!x || !x->count || !redis_call_is_mark(redis_stream_entry(x, 0))) return 0;
        if (redis_run_may(run, "'XRANGE'", 2)) return -1;
        head = x->count < 64 ? x->count : 64;
        for (k = 1; k < head && redis_call_is_mark(redis_stream_entry(x, k)); k++) {}
        d->n -= (double)k;
        if (redis_run_may(run, d->n > 0 ? "'XTRIM'" : "'DEL'", d->n > 0 ? 2 : 5)) return -1;
        e.id = redis_stream_entry(x, k - 1)->id;
        e.id.seq++;
        if (!e.id.seq) e.id.ms++;
        if (d->n > 0) redis_do(run->redis, &e);
        else redis_delete(run->redis, run->conn->db, d->x);
        if (k == head && redis_run_may(run, "'XRANGE'", 2)) return -1;
    }
}

/* Where the page ends that begins at entry `from`: with so many entries; or with more, if all of
   those are marks. */
static size_t redis_call_page_end(const redis_key *x, size_t from, size_t max)
{
    size_t to = from, next;
    int seen = 0;
    do {
        next = x->count - to < max ? x->count : to + max;
        if (next == to) break;
        for (; to < next; to++) seen |= !redis_call_is_mark(redis_stream_entry(x, to));
    } while (!seen && to - from < 1024);
    return to;
}

/* The page: from an ID on, or the newest. Returns -1 after an error. */
static int redis_call_page(redis_run *run, const redis_call *d, const redis_key **x, size_t *from,
                           size_t *to)
{
    const int newest = !run->args[10].length;
    const char *what = newest ? "'XREVRANGE'" : "'XRANGE'";
    const int nth = 2;
    redis_id low = {0, 0}, high = {UINT64_MAX, UINT64_MAX};
    int64_t max;
    *from = *to = 0;
    if (redis_run_may(run, what, nth)) return -1;
    *x = redis_look(run->redis, run->conn->db, d->x);
    if (!newest && redis_id_parse(run->args[10], 0, 1, &low))
        return redis_run_fail(run, what, nth, redis_bad_id);
    if (redis_integer(run->args[11], &max))
        return redis_run_fail(run, what, nth, redis_not_integer);
    if (*x && max <= 0)
        return redis_run_break(run, "#got", newest ? 2 : 1,
                               "attempt to get length of local 'got' (a boolean value)");
    if (!*x) return 0;
    redis_stream_range(*x, low, high, max, newest, from, to);
    if (!newest && *to > *from) *to = redis_call_page_end(*x, *from, (size_t)max);
    return 0;
}

static void redis_call_open(redis_run *run, redis_call *d)
{
    redis_conn *c = run->conn;
    const double numbers[] = {d->s, d->t, d->b};
    const redis_key *x = NULL;
    redis_key *h;
    char text[400];
    size_t from, to, i;
    const double was = d->o;
    int more;
    do more = d->n > 0 ? redis_call_trim(run, d, 64) : 0;
    while (more > 0);
    if (more < 0) return;
    if (d->o < was || d->o > was) {
        if (redis_run_may(run, "'HSET'", 5)) return;
        redis_call_hset_number(run, d, "o", d->o);
    }
    if (redis_call_expire(run, d->h, d->s > 0 ? run->args[8] : run->args[12])) return;
    if (redis_call_drop_marks(run, d) || redis_call_page(run, d, &x, &from, &to)) return;
    if (redis_run_look(run, "'HMGET'", 2, 1, REDIS_HASH, &h)) return;
    redis_call_text(h, "pe", &d->pe);
    if (redis_call_field(run, h, "ps", &d->ps)) return;
    redis_conn_array(c, 11);
    redis_conn_bulk(c, redis_slice_of(run->redis->replid));
    redis_conn_bulk(c, redis_view(&d->e));
    for (i = 0; i < 3; i++) {
        redis_call_str(text, numbers[i]);
        redis_conn_bulk(c, redis_slice_of(text));
    }
    redis_conn_bulk(c, redis_view(&d->pe));
    redis_call_str(text, d->ps);
    redis_conn_bulk(c, redis_slice_of(text));
    redis_call_str(text, d->n);
    redis_conn_bulk(c, redis_slice_of(text));
    redis_call_str(text, d->now);
    redis_conn_bulk(c, redis_slice_of(text));
    *text = 0;
    if (x && x->count) {
        redis_id first = redis_stream_entry(x, 0)->id;
        snprintf(text, sizeof text, "%" PRIu64 "-%" PRIu64, first.ms, first.seq);
    }
    redis_conn_bulk(c, redis_slice_of(text));
    redis_conn_array(c, to - from);
    for (i = from; i < to; i++) redis_conn_bulk(c, redis_entry_text(redis_stream_entry(x, i)));
}

static void redis_run_call(redis_run *run)
{
    redis_call d;
    const size_t wanted = run->arg_count >= 9 && run->args[9].length ? 10 : 12;
    memset(&d, 0, sizeof d);
    if (run->arg_count < wanted) {
        redis_conn_error(run->conn, "ERR not simulated: a script with too few arguments");
        return;
    }
    if (!redis_call_read(run, &d) &&
        (!redis_call_is_new(run, &d) || !redis_call_begin_epoch(run, &d))) {
        if (run->args[9].length) redis_call_publish(run, &d);
        else redis_call_open(run, &d);
    }
    redis_bytes_free(&d.e);
    redis_bytes_free(&d.pe);
    redis_bytes_free(&d.r0);
    redis_bytes_free(&d.dup);
}

static void redis_run_beat(redis_run *run)
{
    redis_conn *c = run->conn;
    redis_bytes was;
    redis_key *key;
    if (run->arg_count < 3) {
        redis_conn_error(c, "ERR not simulated: a script with too few arguments");
        return;
    }
    if (redis_run_may(run, "'INFO'", 1) || redis_run_look(run, "'GET'", 1, 1, REDIS_STRING, &key))
        return;
    memset(&was, 0, sizeof was);
    redis_assign(&was, key ? redis_view(&key->string) : run->args[1]);
    if (redis_run_may(run, "'PUBLISH'", 1)) {
        redis_bytes_free(&was);
        return;
    }
    redis_publish(run->redis, run->args[3], redis_slice_of(""));
    if (key ? redis_same(redis_view(&was), run->args[1]) &&
                  redis_run_expire(run, run->keys[1], run->args[2])
            : redis_run_set(run, run->keys[1], run->args[1], run->args[2])) {
        redis_bytes_free(&was);
        return;
    }
    redis_conn_array(c, run->redis->replid_hidden ? 0 : 2);
    if (!run->redis->replid_hidden) {
        redis_conn_bulk(c, redis_slice_of(run->redis->replid));
        redis_conn_bulk(c, redis_view(&was));
    }
    redis_bytes_free(&was);
}

static void redis_command_evalsha(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_run run;
    int64_t keys;
    memset(&run, 0, sizeof run);
    run.redis = c->redis;
    run.conn = c;
    run.script = redis_script_find(c->redis, args[1]);
    if (args[1].length != 40) {
        redis_conn_error(c, "NOSCRIPT No matching script. Please use EVAL.");
        return;
    }
    if (redis_integer(args[2], &keys)) {
        redis_conn_error(c, redis_not_integer);
        return;
    }
    if (keys > (int64_t)n - 3 || keys < 0) {
        redis_conn_error(c, keys < 0 ? "ERR Number of keys can't be negative"
                                     : "ERR Number of keys can't be greater than number of args");
        return;
    }
    if (!run.script) {
        redis_conn_error(c, "NOSCRIPT No matching script. Please use EVAL.");
        return;
    }
    if (redis_is_stale(c->redis)) {
        redis_conn_error(c, redis_masterdown_text);
        return;
    }
    run.keys = args + 2;
    run.key_count = (size_t)keys;
    run.args = args + 2 + keys;
    run.arg_count = n - 3 - (size_t)keys;
    if (run.script->is_call) redis_run_call(&run);
    else redis_run_beat(&run);
}

/* ---- a command is executed ---- */

static const redis_command redis_commands[] = {
    {"auth", -2, REDIS_IN_LOADING | REDIS_IN_STALE | REDIS_NO_AUTH | REDIS_IN_BUSY,
     redis_command_auth},
    {"select", 2, REDIS_IN_LOADING | REDIS_IN_STALE, redis_command_select},
    {"ping", -1, REDIS_IN_PUBSUB, redis_command_ping},
    {"info", -1, REDIS_IN_LOADING | REDIS_IN_STALE, redis_command_info},
    {"script|load", 3, REDIS_IN_STALE, redis_command_script_load},
    {"script|flush", -2, 0, redis_command_script_flush},
    {"evalsha", -3, REDIS_IN_STALE, redis_command_evalsha},
    {"hmget", -3, 0, redis_command_hmget},
    {"get", 2, 0, redis_command_get},
    {"subscribe", -2, REDIS_IN_LOADING | REDIS_IN_STALE | REDIS_IN_PUBSUB, redis_command_subscribe},
    {"unsubscribe", -1, REDIS_IN_LOADING | REDIS_IN_STALE | REDIS_IN_PUBSUB,
     redis_command_unsubscribe},
    {"quit", -1,
     REDIS_IN_LOADING | REDIS_IN_STALE | REDIS_NO_AUTH | REDIS_IN_BUSY | REDIS_IN_PUBSUB,
     redis_command_quit},
    {"set", -3, REDIS_WRITE | REDIS_DENYOOM, redis_command_set},
    {"del", -2, REDIS_WRITE, redis_command_del},
    {"pttl", 2, 0, redis_command_pttl},
    {"type", 2, 0, redis_command_type},
    {"exists", -2, 0, redis_command_exists},
    {"hset", -4, REDIS_WRITE | REDIS_DENYOOM, redis_command_hset},
    {"xadd", -5, REDIS_WRITE | REDIS_DENYOOM, redis_command_xadd},
    {"xlen", 2, 0, redis_command_xlen},
    {"xtrim", -4, REDIS_WRITE, NULL},
    {"xdel", -3, REDIS_WRITE, redis_command_xdel},
    {"xrange", -4, 0, redis_command_xrange},
    {"xrevrange", -4, 0, redis_command_xrevrange},
    {"lpush", -3, REDIS_WRITE | REDIS_DENYOOM, redis_command_lpush},
    {"pexpire", -3, REDIS_WRITE, redis_command_pexpire},
    {"publish", 3, REDIS_IN_LOADING | REDIS_IN_STALE, redis_command_publish},
    {"time", 1, REDIS_IN_LOADING | REDIS_IN_STALE, redis_command_time},
    {"flushall", -1, REDIS_WRITE, redis_command_flushall}};

static const redis_command *redis_command_find(const char *name)
{
    size_t i;
    for (i = 0; i < sizeof redis_commands / sizeof *redis_commands; i++)
        if (!strcmp(redis_commands[i].name, name)) return &redis_commands[i];
    return NULL;
}

/* It is none that is known. */
static void redis_command_unknown(redis_conn *c, const redis_slice *args, size_t n)
{
    redis_bytes b;
    size_t i, begin;
    memset(&b, 0, sizeof b);
    if (redis_is(args[0], "script") && n > 1) {
        redis_print(&b, "ERR unknown subcommand '%.*s'. Try SCRIPT HELP.",
                    args[1].length < 128 ? (int)args[1].length : 128, args[1].at);
    } else if (redis_is(args[0], "script")) {
        redis_print(&b, "ERR wrong number of arguments for 'script' command");
    } else {
        redis_print(&b, "ERR unknown command '%.*s', with args beginning with: ",
                    args[0].length < 128 ? (int)args[0].length : 128, args[0].at);
        begin = b.length;
        for (i = 1; i < n && b.length - begin < 128; i++) {
            size_t left = 128 - (b.length - begin);
            redis_print(&b, "'%.*s' ", (int)(args[i].length < left ? args[i].length : left),
                        args[i].at);
        }
    }
    redis_conn_fail(c, redis_view(&b));
    redis_bytes_free(&b);
}

/* The error that it is refused with now, or NULL. The order is Redis's. */
static const char *redis_command_refused(const redis_conn *c, const redis_command *command,
                                         char text[256])
{
    const redis *s = c->redis;
    const unsigned flags = command->flags;
    const int ping = command->run == redis_command_ping;
    if (s->password && !c->authenticated && !(flags & REDIS_NO_AUTH))
        return "NOAUTH Authentication required.";
    if (redis_is_denied(s, command->name)) {
        snprintf(text, 256, "NOPERM this user has no permissions to run the '%s' command",
                 command->name);
        return text;
    }
    if (s->oom && flags & REDIS_DENYOOM) return redis_oom_text;
    if (s->misconf && !s->replica && (flags & REDIS_WRITE || ping)) return redis_misconf_text;
    if (s->no_replicas && !s->replica && flags & REDIS_WRITE) return redis_no_replicas_text;
    if (s->replica && flags & REDIS_WRITE) return redis_readonly_text;
    if (c->name_count && !(flags & REDIS_IN_PUBSUB)) {
        snprintf(text, 256,
                 "ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "
                 "PING / QUIT / RESET are allowed in this context",
                 command->name);
        return text;
    }
    if (redis_is_stale(s) && !(flags & REDIS_IN_STALE)) return redis_masterdown_text;
    if (redis_loading(s) && !(flags & REDIS_IN_LOADING))
        return "LOADING Redis is loading the dataset in memory";
    if (s->busy && !(flags & REDIS_IN_BUSY))
        return "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN "
               "NOSAVE.";
    return NULL;
}

static void redis_conn_execute(redis_conn *c, const redis_slice *args, size_t n)
{
    const redis_command *command = NULL;
    char name[32], text[256];
    size_t i;
    for (i = 0; i < sizeof redis_commands / sizeof *redis_commands && !command; i++) {
        const char *bar = strchr(redis_commands[i].name, '|');
        if (!bar && redis_is(args[0], redis_commands[i].name)) command = &redis_commands[i];
        if (bar && n > 1 && redis_is(args[0], "script") && redis_is(args[1], bar + 1))
            command = &redis_commands[i];
    }
    redis_unit_begin(c->redis);
    c->redis->commands++;
    if (!command || !command->run) {
        redis_command_unknown(c, args, n);
    } else if (command->arity > 0 ? n != (size_t)command->arity : n < (size_t)-command->arity) {
        snprintf(name, sizeof name, "%s", command->name);
        snprintf(text, sizeof text, "ERR wrong number of arguments for '%s' command", name);
        redis_conn_error(c, text);
    } else {
        const char *error = redis_command_refused(c, command, text);
        if (error) redis_conn_error(c, error);
        else command->run(c, args, n);
    }
    redis_conn_limit(c);
}

/* ---- bytes become commands ---- */

static void redis_conn_protocol_error(redis_conn *c, const char *what)
{
    redis_conn_print(c, "-ERR Protocol error: %s\r\n", what);
    redis_conn_end(c);
}

/* A line at the place where reading is: its end, or NULL. */
static const char *redis_conn_line(redis_conn *c, size_t *length)
{
    const char *begin = c->in.at + c->in.from + c->parsed;
    const char *end = (const char *)memchr(begin, '\r', c->in.length - c->in.from - c->parsed);
    if (!end || end + 1 == c->in.at + c->in.length) return NULL;
    *length = (size_t)(end - begin);
    c->parsed += *length + 2;
    return begin;
}

/* Words on a line, as a person types them. */
static int redis_conn_read_inline(redis_conn *c)
{
    const char *at = c->in.at + c->in.from;
    size_t left = c->in.length - c->in.from, length, i = 0;
    redis_slice words[16];
    size_t n = 0;
    const char *end = (const char *)memchr(at, '\n', left);
    if (!end) {
        if (left > REDIS_LINE_MAX) redis_conn_protocol_error(c, "too big inline request");
        return 0;
    }
    length = (size_t)(end - at);
    while (i < length && n < 16) {
        while (i < length && isspace((unsigned char)at[i])) i++;
        words[n].at = at + i;
        while (i < length && !isspace((unsigned char)at[i])) i++;
        words[n].length = (size_t)(at + i - words[n].at);
        n += words[n].length != 0;
    }
    if (n) redis_conn_execute(c, words, n);
    if (!c->closed) c->in.from += length + 1;
    return 1;
}

static void redis_conn_add_arg(redis_conn *c, size_t at, size_t length)
{
    if (c->arg_count == c->arg_capacity) {
        c->arg_capacity = c->arg_capacity ? c->arg_capacity * 2 : 16;
        c->args = (redis_slice *)redis_realloc(c->args, c->arg_capacity * sizeof *c->args);
        c->arg_at = (size_t *)redis_realloc(c->arg_at, c->arg_capacity * sizeof *c->arg_at);
        c->arg_length = (size_t *)redis_realloc(c->arg_length,
                                                c->arg_capacity * sizeof *c->arg_length);
    }
    c->arg_at[c->arg_count] = at;
    c->arg_length[c->arg_count++] = length;
}

/* Read one argument. Returns 1, or 0: it has not come, or is none. */
static int redis_conn_read_arg(redis_conn *c)
{
    size_t length, left;
    if (c->bulk < 0) {
        const char *line = redis_conn_line(c, &length);
        redis_slice number;
        char text[64];
        if (!line) {
            if (c->in.length - c->in.from - c->parsed > REDIS_LINE_MAX)
                redis_conn_protocol_error(c, "too big bulk count string");
            return 0;
        }
        if (*line != '$') {
            snprintf(text, sizeof text, "expected '$', got '%c'", *line);
            redis_conn_protocol_error(c, text);
            return 0;
        }
        number.at = line + 1;
        number.length = length - 1;
        if (redis_integer(number, &c->bulk) || c->bulk < 0 || c->bulk > 512 * 1024 * 1024) {
            redis_conn_protocol_error(c, "invalid bulk length");
            return 0;
        }
        if (c->bulk > 16384 && c->redis->password && !c->authenticated) {
            redis_conn_protocol_error(c, "unauthenticated bulk length");
            return 0;
        }
    }
    left = c->in.length - c->in.from - c->parsed;
    if (left < (size_t)c->bulk + 2) return 0;
    redis_conn_add_arg(c, c->parsed, (size_t)c->bulk);
    c->parsed += (size_t)c->bulk + 2;
    c->bulk = -1;
    c->args_left--;
    return 1;
}

/* Read the number of arguments. Returns 1, or 0 as above. */
static int redis_conn_read_count(redis_conn *c)
{
    size_t length;
    const char *line = redis_conn_line(c, &length);
    redis_slice number;
    if (!line) {
        if (c->in.length - c->in.from > REDIS_LINE_MAX)
            redis_conn_protocol_error(c, "too big mbulk count string");
        return 0;
    }
    number.at = line + 1;
    number.length = length - 1;
    if (redis_integer(number, &c->args_left) || c->args_left > INT32_MAX) {
        redis_conn_protocol_error(c, "invalid multibulk length");
        return 0;
    }
    if (c->args_left > 10 && c->redis->password && !c->authenticated) {
        redis_conn_protocol_error(c, "unauthenticated multibulk length");
        return 0;
    }
    if (c->args_left <= 0) {
        c->in.from += c->parsed;
        c->parsed = 0;
    }
    return 1;
}

/* Read and execute what has come. */
static void redis_conn_process(redis_conn *c)
{
    while (!c->closed && c->in.from != c->in.length) {
        size_t i;
        if (c->args_left <= 0) {
            if (c->in.at[c->in.from] != '*') {
                if (!redis_conn_read_inline(c)) return;
                continue;
            }
            if (!redis_conn_read_count(c)) return;
            if (c->args_left <= 0) continue;
            c->arg_count = 0;
            c->bulk = -1;
        }
        while (c->args_left > 0)
            if (!redis_conn_read_arg(c)) return;
        for (i = 0; i < c->arg_count; i++) {
            c->args[i].at = c->in.at + c->in.from + c->arg_at[i];
            c->args[i].length = c->arg_length[i];
        }
        redis_conn_execute(c, c->args, c->arg_count);
        if (c->closed) return;
        c->in.from += c->parsed;
        c->parsed = 0;
    }
}

/* ---- connections, as the caller sees them ---- */

REDIS_UNUSED static redis_conn *redis_connect(redis *s)
{
    redis_conn *c;
    if (s->down) return NULL;
    c = (redis_conn *)redis_zeroed(sizeof *c);
    c->redis = s;
    c->bulk = -1;
    c->authenticated = !s->password;
    c->next = s->conns;
    if (c->next) c->next->previous = c;
    s->conns = c;
    s->conn_count++;
    s->connected++;
    return c;
}

static void redis_conn_free(redis_conn *c)
{
    redis *s = c->redis;
    if (c->next) c->next->previous = c->previous;
    if (c->previous) c->previous->next = c->next;
    else s->conns = c->next;
    s->conn_count--;
    redis_conn_free_names(c);
    redis_bytes_free(&c->in);
    redis_bytes_free(&c->out);
    free(c->args);
    free(c->arg_at);
    free(c->arg_length);
    free(c);
}

REDIS_UNUSED static void redis_receive(redis_conn *c, const void *bytes, size_t n)
{
    if (c->closed) return;
    redis_append(&c->in, bytes, n);
    if (c->redis->stopped) return;
    redis_conn_process(c);
    redis_conn_changed(c);
}

REDIS_UNUSED static const char *redis_output(const redis_conn *c, size_t *n)
{
    redis_slice s = redis_view(&c->out);
    *n = s.length;
    return s.at;
}

REDIS_UNUSED static void redis_take(redis_conn *c, size_t n) { c->out.from += n; }

/* What was sent before is executed still, if the server stands still. */
REDIS_UNUSED static void redis_close(redis_conn *c)
{
    if (c->redis->stopped && !c->closed) c->peer_closed = 1;
    else redis_conn_free(c);
}

/* ---- time ---- */

static void redis_new_identity(redis *s, int keep_old)
{
    if (keep_old) {
        memcpy(s->replid2, s->replid, sizeof s->replid);
        s->second_offset = (int64_t)s->position + 1;
    } else {
        memset(s->replid2, '0', sizeof s->replid2 - 1);
        s->second_offset = -1;
    }
    redis_random_hex(s, s->replid);
}

/* Some of what has expired goes without being asked for. */
static void redis_expire_some(redis *s)
{
    size_t n = s->keys.bucket_count < 16 ? s->keys.bucket_count : 16;
    for (; n; n--) {
        redis_key *key, *next;
        s->expire_bucket = (s->expire_bucket + 1) & (s->keys.bucket_count - 1);
        for (key = s->keys.buckets[s->expire_bucket]; key; key = next) {
            next = key->next;
            redis_unit_begin(s);
            redis_look(s, key->db, redis_view(&key->name));
        }
    }
}

REDIS_UNUSED static void redis_clock(redis *s, uint64_t now_us)
{
    s->now_us = now_us;
    if (s->down || s->stopped || s->replica) return;
    if (s->backlog && !s->replicas && s->backlog_ttl_s &&
        now_us > s->no_replicas_since_us + (uint64_t)s->backlog_ttl_s * 1000000) {
        redis_new_identity(s, 0);
        s->backlog = 0;
    }
    if (!s->expires_lazily && !redis_loading(s)) redis_expire_some(s);
}

/* ---- what can go wrong ---- */

/* The keyspace becomes that one; what came after that position never happened. */
static void redis_become(redis *s, uint64_t position)
{
    redis_keyspace ks;
    if (position > s->position) position = s->position;
    if (position < s->base_position) position = s->base_position;
    ks = redis_state(s, position);
    redis_keyspace_free(&s->keys);
    s->keys = ks;
    s->unit_open = 0;
    redis_log_forget_after(s, position);
}

REDIS_UNUSED static void redis_set_back(redis *s, uint64_t position)
{
    redis_become(s, position);
}

REDIS_UNUSED static void redis_crash(redis *s)
{
    redis_conn *c, *next;
    s->down = 1;
    s->stopped = 0;
    for (c = s->conns; c; c = next) {
        next = c->next;
        if (c->peer_closed) redis_conn_free(c);
        else redis_conn_kill(c);
    }
    redis_forget_scripts(s);
}

/* Of an RDB file a primary learns what it was, if it had a backlog. */
REDIS_UNUSED static void redis_restart(redis *s, redis_how how, uint64_t position, uint64_t us)
{
    const int was = how == REDIS_RDB && (s->backlog || s->replica);
    if (!s->down) redis_crash(s);
    redis_become(s, position);
    if (how == REDIS_EMPTY) redis_flush(s);
    s->down = s->replicas = 0;
    s->replica = 0;
    s->backlog = was;
    s->started_us = s->no_replicas_since_us = s->now_us;
    s->loading_until_us = s->now_us + us;
    redis_new_identity(s, was);
    redis_random_hex(s, s->run_id);
}

REDIS_UNUSED static void redis_fail_over(redis *s, uint64_t position)
{
    redis_crash(s);
    redis_become(s, position);
    s->down = s->replicas = s->replica = 0;
    s->backlog = 1;
    s->no_replicas_since_us = s->now_us;
    redis_new_identity(s, 1);
    redis_random_hex(s, s->run_id);
}

REDIS_UNUSED static void redis_stop(redis *s) { s->stopped = 1; }

/* All that has come meanwhile is executed, connection by connection, in an order that the seed
   decides. */
REDIS_UNUSED static void redis_continue(redis *s)
{
    redis_conn *c, *next, **all;
    size_t i, n = 0;
    if (!s->stopped) return;
    s->stopped = 0;
    redis_clock(s, s->now_us);
    all = (redis_conn **)redis_realloc(NULL, s->conn_count * sizeof *all);
    for (c = s->conns; c; c = c->next) all[n++] = c;
    for (i = n; i > 1; i--) {
        size_t k = (size_t)(redis_random(s) % i);
        c = all[i - 1];
        all[i - 1] = all[k];
        all[k] = c;
    }
    for (i = 0; i < n; i++) {
        if (all[i]->closed) continue;
        redis_conn_process(all[i]);
        if (!all[i]->peer_closed) redis_conn_changed(all[i]);
    }
    free(all);
    for (c = s->conns; c; c = next) {
        next = c->next;
        if (c->peer_closed) redis_conn_free(c);
    }
}

/* The first replica of a server that has no backlog makes it another one. */
REDIS_UNUSED static void redis_attach(redis *s)
{
    s->replicas++;
    if (s->backlog) return;
    redis_new_identity(s, 0);
    s->backlog = 1;
}

REDIS_UNUSED static void redis_detach(redis *s)
{
    if (--s->replicas == 0) s->no_replicas_since_us = s->now_us;
}

REDIS_UNUSED static void redis_demote(redis *s)
{
    s->replica = 1;
    s->link_up = 0;
    s->link_down_since_us = s->now_us;
}

REDIS_UNUSED static void redis_resync(redis *s, const redis *primary, uint64_t position,
                                      uint64_t us)
{
    redis_keyspace ks;
    const int same = !strcmp(s->replid, primary->replid);
    if (position > primary->position) position = primary->position;
    if (position < primary->base_position) position = primary->base_position;
    ks = redis_state(primary, position);
    redis_log_forget_after(s, 0);
    redis_keyspace_free(&s->keys);
    redis_keyspace_free(&s->base);
    s->keys = ks;
    s->base = redis_keyspace_copy(&ks);
    s->base_position = s->position = position;
    s->unit_open = 0;
    if (us || same) redis_new_identity(s, 0);
    else redis_new_identity(s, 1);
    memcpy(s->replid, primary->replid, sizeof s->replid);
    s->replica = s->link_up = s->backlog = 1;
    s->loading_until_us = s->now_us + us;
}

/* It must be its primary still: with the same identity, and not set back. Returns -1 if what it
   lacks is no longer in the log; then it takes a resync. */
REDIS_UNUSED static int redis_catch_up(redis *s, const redis *primary, uint64_t position)
{
    const redis_logged *entry;
    uint64_t from = s->position;
    if (from < primary->base_position) return -1;
    for (entry = primary->log; entry && entry->unit <= position; entry = entry->next) {
        if (entry->unit <= from) continue;
        if (entry->unit != s->position) redis_unit_begin(s);
        s->position = entry->unit;
        s->unit_open = 1;
        redis_do(s, &entry->effect);
        if (entry->effect.op == REDIS_OP_PUBLISH)
            redis_deliver(s, entry->effect.key, entry->effect.value);
    }
    return 0;
}

REDIS_UNUSED static void redis_promote(redis *s)
{
    if (!s->replica) return;
    s->replica = s->link_up = 0;
    s->no_replicas_since_us = s->now_us;
    redis_new_identity(s, 1);
}

REDIS_UNUSED static void redis_evict(redis *s, int db, const char *name)
{
    redis_unit_begin(s);
    if (redis_keyspace_find(&s->keys, db, redis_slice_of(name)))
        redis_delete(s, db, redis_slice_of(name));
}

/* Returns 0 if there is none. */
REDIS_UNUSED static int redis_evict_any(redis *s)
{
    size_t i, from;
    if (!s->keys.key_count) return 0;
    from = (size_t)redis_random(s);
    for (i = 0;; i++) {
        redis_key *key = s->keys.buckets[(from + i) & (s->keys.bucket_count - 1)];
        if (!key) continue;
        redis_unit_begin(s);
        redis_delete(s, key->db, redis_view(&key->name));
        return 1;
    }
}

REDIS_UNUSED static void redis_foreign(redis *s, int db, const char *name)
{
    redis_effect e = redis_effect_of(REDIS_OP_PUSH, db, redis_slice_of(name));
    redis_evict(s, db, name);
    redis_do(s, &e);
}

REDIS_UNUSED static void redis_kill_subscribers(redis *s)
{
    redis_conn *c;
    for (c = s->conns; c; c = c->next)
        if (c->name_count) redis_conn_kill(c);
}

/* ---- its life ---- */

REDIS_UNUSED static redis *redis_create(uint64_t seed, uint64_t now_us)
{
    redis *s = (redis *)redis_zeroed(sizeof *s);
    s->random = seed;
    s->now_us = s->started_us = now_us;
    s->version = "7.0.15";
    s->maxmemory_policy = "noeviction";
    s->output_bytes_max = 32 * 1024 * 1024;
    s->log_units_max = 4096;
    s->log_bytes_max = 4 * 1024 * 1024;
    s->backlog_ttl_s = 3600;
    s->log_end = &s->log;
    redis_new_identity(s, 0);
    redis_random_hex(s, s->run_id);
    return s;
}

REDIS_UNUSED static void redis_destroy(redis *s)
{
    while (s->conns) redis_conn_free(s->conns);
    redis_forget_scripts(s);
    redis_log_forget_after(s, 0);
    redis_keyspace_free(&s->keys);
    redis_keyspace_free(&s->base);
    free(s);
}

#endif /* TESTS_REDIS_H */
