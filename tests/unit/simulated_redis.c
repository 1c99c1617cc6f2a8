/* The simulated Redis of tests/redis.h: what can go wrong with it, and its earlier states. What
   it answers is held to the real one by tests/redis/differential.c. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

#include "../redis.h"


/* Say a line of words; an empty one is written "". */
static void redis_say(redis_conn *c, const char *line) {
    redis_bytes b = {0}, words = {0};
    int n = 0;
    while (*line) {
        size_t length = strcspn(line, " ");
        int empty = length == 2 && !memcmp(line, "\"\"", 2);
        redis_print(&words, "$%d\r\n%.*s\r\n", empty ? 0 : (int)length,
                    empty ? 0 : (int)length, line);
        line += length + (line[length] == ' ');
        n++;
    }
    redis_print(&b, "*%d\r\n", n);
    redis_append(&b, words.at, words.length);
    redis_receive(c, b.at, b.length);
    redis_bytes_free(&b);
    redis_bytes_free(&words);
}

/* What it has said since; one buffer for all. */
static const char *redis_heard(redis_conn *c) {
    static char text[65536];
    size_t n;
    const char *at = redis_output(c, &n);
    CHECK(n < sizeof text);
    memcpy(text, at, n);
    text[n] = 0;
    redis_take(c, n);
    return text;
}

#define HEARD(c, what)                                                       \
    do {                                                                     \
        const char *heard = redis_heard(c);                                  \
        CHECK_BYTES(heard, strlen(heard), what, strlen(what));               \
    } while (0)

#define HEARD_IN(c, what)                                                    \
    do {                                                                     \
        const char *heard = redis_heard(c);                                  \
        if (!strstr(heard, what))                                            \
            unit_fail(__FILE__, __LINE__, "%s is not in %s", what, heard);   \
    } while (0)

/* The call script, as far as it is recognised here. Its name is what the server says. */
static char redis_sha[41];

static void redis_load(redis_conn *c) {
    redis_say(c, "SCRIPT LOAD --'XADD'");
    memcpy(redis_sha, redis_heard(c) + 5, 40);
}

static void redis_say_publish(redis_conn *c, int channel, const char *body) {
    char line[256];
    snprintf(line, sizeof line, "EVALSHA %s 2 h%d x%d epoch 0 0 0 0 10 1000 5000 c%d 0 %s",
             redis_sha, channel, channel, channel, body);
    redis_say(c, line);
}

static void redis_say_open(redis_conn *c, int channel) {
    char line[256];
    snprintf(line, sizeof line, "EVALSHA %s 2 h%d x%d other 0 0 0 0 10 1000 5000 \"\" \"\" 16 1000",
             redis_sha, channel, channel);
    redis_say(c, line);
}

/* Of all that a keyspace holds, in whatever order. */
static uint64_t redis_digest(const redis_keyspace *ks) {
    uint64_t sum = 0;
    size_t i, k;
    for (i = 0; i < ks->bucket_count; i++) {
        const redis_key *key;
        for (key = ks->buckets[i]; key; key = key->next) {
            uint64_t h = redis_hash(redis_view(&key->name)) * 31 + (uint64_t)key->db;
            h = h * 31 + (uint64_t)key->expires_ms + key->count * 7 + (uint64_t)key->type;
            h = h * 31 + redis_hash(redis_view(&key->string)) + key->last.seq;
            for (k = 0; k < key->field_count; k++)
                h = h * 31 + redis_hash(redis_view(&key->fields[k].value));
            for (k = 0; key->type == REDIS_STREAM && k < key->count; k++)
                h = h * 31 + redis_hash(redis_entry_text(redis_stream_entry(key, k)));
            sum += h * h;
        }
    }
    return sum;
}

TEST(redis_earlier_states_can_be_had_again) {
    enum { KEPT = 64 };
    uint64_t kept[KEPT] = {0}, at[KEPT] = {0}, compared = 0;
    redis *s = redis_create(unit_seed, 1000000000);
    redis_conn *c = redis_connect(s);
    int i, rounds = (int)unit_rounds(20000);
    s->log_units_max = 100;
    redis_load(c);
    for (i = 0; i < rounds; i++) {
        char line[64];
        const int n = (int)unit_below(5), slot = (int)unit_below(KEPT);
        switch (unit_below(8)) {
        case 0: snprintf(line, sizeof line, "DEL h%d x%d", n, n); redis_say(c, line); break;
        case 1: snprintf(line, sizeof line, "SET k%d %d PX 50", n, i); redis_say(c, line); break;
        case 2: if (!unit_below(20)) redis_say(c, "FLUSHALL"); break;
        case 3: if (!unit_below(5)) redis_foreign(s, 0, "h1"); break;
        case 4: redis_evict_any(s); break;
        case 5: redis_clock(s, s->now_us + unit_below(100000)); break;
        default: redis_say_publish(c, n, "a-body");
        }
        redis_heard(c);
        if (at[slot] >= redis_oldest(s) && at[slot] && unit_below(2)) {
            redis_keyspace ks = redis_state(s, at[slot]);
            CHECK(redis_digest(&ks) == kept[slot]);
            redis_keyspace_free(&ks);
            compared++;
        }
        kept[slot] = redis_digest(&s->keys);
        at[slot] = redis_position(s);
        if (!unit_below(500)) {
            uint32_t held = (uint32_t)(redis_position(s) - redis_oldest(s));
            uint64_t to = redis_oldest(s) + unit_below(held + 1);
            redis_keyspace ks = redis_state(s, to);
            redis_set_back(s, to);
            CHECK(redis_digest(&s->keys) == redis_digest(&ks));
            CHECK(s->keys.bytes == ks.bytes);
            redis_keyspace_free(&ks);
            memset(at, 0, sizeof at);
        }
        CHECK(redis_position(s) - redis_oldest(s) <= 110);
    }
    CHECK(compared > (uint64_t)rounds / 20);
    redis_destroy(s);
}

TEST(redis_restart_keeps_a_prefix) {
    redis *s = redis_create(unit_seed, 1000000000);
    redis_conn *c = redis_connect(s), *other = redis_connect(s);
    char was[REDIS_REPLID];
    uint64_t position;
    memcpy(was, s->replid, sizeof was);
    redis_load(c);
    redis_say(c, "SET a 1");
    position = redis_position(s);
    redis_say(c, "SET a 2");
    redis_say_publish(c, 1, "body");
    redis_say(other, "SUBSCRIBE c1");
    redis_crash(s);
    CHECK(c->closed && other->closed);
    HEARD(c, "");
    CHECK(!redis_connect(s));
    redis_restart(s, REDIS_AOF, position, 1000000);
    CHECK(memcmp(was, s->replid, sizeof was) != 0);
    redis_close(c);
    redis_close(other);
    c = redis_connect(s);
    redis_say(c, "GET a");
    HEARD(c, "-LOADING Redis is loading the dataset in memory\r\n");
    redis_say(c, "INFO persistence");
    HEARD_IN(c, "\nloading:1");
    redis_clock(s, s->now_us + 1000000);
    redis_say(c, "GET a");
    HEARD(c, "$1\r\n1\r\n");
    redis_say(c, "EXISTS h1 x1");
    HEARD(c, ":0\r\n");
    redis_say_publish(c, 1, "body");
    HEARD(c, "-NOSCRIPT No matching script. Please use EVAL.\r\n");
    CHECK_INT(redis_position(s), position);
    redis_restart(s, REDIS_EMPTY, position, 0);
    redis_close(c);
    c = redis_connect(s);
    redis_say(c, "GET a");
    HEARD(c, "$-1\r\n");
    redis_close(c);
    redis_destroy(s);
}

/* All of a script or nothing. */
TEST(redis_restart_cuts_between_scripts) {
    redis *s = redis_create(unit_seed, 1000000000);
    redis_conn *c = redis_connect(s);
    uint64_t position;
    redis_load(c);
    redis_say_publish(c, 1, "one");
    position = redis_position(s);
    redis_say_publish(c, 1, "two");
    CHECK_INT(redis_position(s), position + 1);
    redis_restart(s, REDIS_AOF, position, 0);
    redis_close(c);
    c = redis_connect(s);
    redis_say(c, "HMGET h1 s");
    HEARD(c, "*1\r\n$1\r\n1\r\n");
    redis_say(c, "XLEN x1");
    HEARD(c, ":1\r\n");
    redis_destroy(s);
}

TEST(redis_identity_is_new_when_redis_says_so) {
    redis *s = redis_create(unit_seed, 1000000000);
    char was[REDIS_REPLID];
    memcpy(was, s->replid, sizeof was);
    redis_attach(s);
    CHECK(strcmp(was, s->replid));
    memcpy(was, s->replid, sizeof was);
    redis_attach(s);
    redis_detach(s);
    redis_detach(s);
    redis_attach(s);
    redis_detach(s);
    CHECK(!strcmp(was, s->replid));
    redis_clock(s, s->now_us + UINT64_C(3601000000));
    CHECK(strcmp(was, s->replid));
    memcpy(was, s->replid, sizeof was);
    redis_demote(s);
    CHECK(!strcmp(was, s->replid));
    redis_promote(s);
    CHECK(strcmp(was, s->replid) && !strcmp(was, s->replid2));
    memcpy(was, s->replid, sizeof was);
    redis_fail_over(s, redis_position(s));
    CHECK(strcmp(was, s->replid) && !strcmp(was, s->replid2));
    memcpy(was, s->replid, sizeof was);
    redis_restart(s, REDIS_AOF, redis_position(s), 0);  /* a new one, that knows of none */
    CHECK(strcmp(was, s->replid) && strcmp(was, s->replid2) && !s->backlog);
    redis_attach(s);
    memcpy(was, s->replid, sizeof was);
    redis_restart(s, REDIS_RDB, redis_position(s), 0);
    CHECK(strcmp(was, s->replid) && !strcmp(was, s->replid2) && s->backlog);
    redis_destroy(s);
}

TEST(redis_stopped_executes_later) {
    redis *s = redis_create(unit_seed, 1000000000);
    redis_conn *a = redis_connect(s), *b = redis_connect(s), *gone = redis_connect(s), *late;
    redis_say(b, "SUBSCRIBE c");
    redis_heard(b);
    redis_stop(s);
    redis_say(a, "GET k");
    redis_say(gone, "SET k last");
    redis_say(gone, "PUBLISH c words");
    redis_close(gone);
    late = redis_connect(s);
    redis_say(late, "PING");
    HEARD(a, "");
    HEARD(b, "");
    HEARD(late, "");
    CHECK_INT(s->conn_count, 4);
    redis_continue(s);
    CHECK_INT(s->conn_count, 3);
    HEARD_IN(a, "$");
    HEARD(b, "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nwords\r\n");
    HEARD(late, "+PONG\r\n");
    redis_say(a, "GET k");
    HEARD(a, "$4\r\nlast\r\n");
    redis_destroy(s);
}

TEST(redis_replica_follows_and_is_promoted) {
    redis *s = redis_create(unit_seed, 1000000000), *r = redis_create(unit_seed + 1, 1000000000);
    redis_conn *c = redis_connect(s), *d = redis_connect(r), *hears = redis_connect(r);
    uint64_t position;
    char was[REDIS_REPLID];
    redis_load(c);
    redis_say(d, "SET mine 1");
    redis_heard(d);
    redis_say_publish(c, 1, "one");
    redis_attach(s);
    redis_demote(r);
    redis_say(d, "SET mine 2");
    HEARD(d, "-READONLY You can't write against a read only replica.\r\n");
    redis_resync(r, s, redis_position(s), 5000);
    redis_say(d, "GET mine");
    HEARD(d, "-LOADING Redis is loading the dataset in memory\r\n");
    redis_clock(r, r->now_us + 5000);
    redis_say(d, "GET mine");
    HEARD(d, "$-1\r\n");
    CHECK(!strcmp(r->replid, s->replid) && r->replica);
    redis_say(hears, "SUBSCRIBE c1");
    redis_heard(hears);
    redis_say_publish(c, 1, "two");
    position = redis_position(s);
    redis_say_publish(c, 1, "three");
    CHECK(!redis_catch_up(r, s, position));
    CHECK_INT(redis_position(r), position);
    HEARD_IN(hears, " two\r\n");
    HEARD(hears, "");
    redis_say(d, "HMGET h1 s");
    HEARD(d, "*1\r\n$1\r\n2\r\n");
    CHECK(!redis_catch_up(r, s, redis_position(s)));
    CHECK(redis_digest(&r->keys) == redis_digest(&s->keys));
    memcpy(was, r->replid, sizeof was);
    redis_promote(r);
    CHECK(strcmp(was, r->replid) && !strcmp(was, r->replid2));
    redis_load(d);
    redis_say_publish(d, 1, "four");
    HEARD_IN(hears, " four\r\n");
    redis_set_back(r, position);
    redis_say(d, "HMGET h1 s");
    HEARD_IN(d, "$1\r\n2\r\n");
    s->log_units_max = 1;
    for (position = 0; position < 10; position++) redis_say_publish(c, 1, "more");
    CHECK_INT(redis_catch_up(r, s, redis_position(s)), -1);
    redis_destroy(s);
    redis_destroy(r);
}

TEST(redis_closes_who_reads_too_slowly) {
    redis *s = redis_create(unit_seed, 1000000000);
    redis_conn *c = redis_connect(s), *slow = redis_connect(s);
    int i;
    s->output_bytes_max = 200;
    redis_say(slow, "SUBSCRIBE c");
    redis_heard(slow);
    for (i = 0; i < 4; i++) {
        CHECK(!slow->closed);
        redis_say(c, "PUBLISH c words-of-some-length");
    }
    CHECK(slow->closed);
    HEARD(slow, "");
    HEARD_IN(c, ":1\r\n");
    redis_say(c, "PUBLISH c words");
    HEARD(c, ":0\r\n");
    redis_close(slow);
    slow = redis_connect(s);
    redis_say(slow, "SUBSCRIBE c");
    redis_kill_subscribers(s);
    CHECK(slow->closed && !c->closed);
    redis_destroy(s);
}

static int redis_told;
static void redis_on_change(void *ctx, redis_conn *c) { redis_told += ctx == c->user; }

TEST(redis_tells_of_output) {
    redis *s = redis_create(unit_seed, 1000000000);
    redis_conn *c = redis_connect(s), *b = redis_connect(s);
    s->on_change = redis_on_change;
    s->ctx = b->user = &redis_told;
    redis_told = 0;
    redis_say(b, "SUBSCRIBE c");
    CHECK_INT(redis_told, 1);
    redis_say(c, "PUBLISH c words");
    CHECK_INT(redis_told, 2);
    redis_crash(s);
    CHECK_INT(redis_told, 3);
    redis_destroy(s);
}

TEST(redis_forgets_what_has_expired) {
    redis *s = redis_create(unit_seed, 1000000000);
    redis_conn *c = redis_connect(s);
    int i;
    redis_load(c);
    for (i = 0; i < 1000; i++) redis_say_publish(c, i, "body");
    CHECK(s->keys.bytes > 100000);
    for (i = 0; i < 1000; i++) redis_clock(s, s->now_us + 10000);
    CHECK_INT(s->keys.key_count, 0);
    CHECK_INT(s->keys.bytes, 0);
    redis_destroy(s);
}

TEST(redis_reads_bytes_however_they_are_cut) {
    static const char text[] = "*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n"
                               "*0\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nQUIT\r\n";
    static const char want[] = "+PONG\r\n+OK\r\n+PONG\r\n$4\r\n\r\n\r\n\r\n+OK\r\n";
    size_t a, b, n = sizeof text - 1;
    for (a = 0; a <= n; a++) {
        for (b = a; b <= n; b += 7) {
            redis *s = redis_create(unit_seed, 1);
            redis_conn *c = redis_connect(s);
            redis_receive(c, text, a);
            redis_receive(c, text + a, b - a);
            redis_receive(c, text + b, n - b);
            HEARD(c, want);
            CHECK(c->closed);
            redis_close(c);
            redis_destroy(s);
        }
    }
}

/* ---- everything at once ---- */

enum { REDIS_WORLD_CONNS = 8 };

/* Two servers, either of which may be the other's replica. */
static struct {
    redis *of[2];
    redis_conn *conns[2][REDIS_WORLD_CONNS];
    uint64_t now_us;
} redis_world;

static void redis_world_speak(redis_conn *c) {
    static const char *const lines[] = {
        "PING", "GET k1", "SET k1 text PX 20", "SUBSCRIBE c0 c1 c2", "UNSUBSCRIBE c1",
        "UNSUBSCRIBE", "INFO", "SELECT 1", "SELECT 0", "SCRIPT LOAD --'XADD'", "PUBLISH c1 words", "QUIT",
        "XRANGE x1 - +", "DEL h1 x2", "HMGET h0 s t", "NOSUCH", "LPUSH h2 1", "FLUSHALL",
        "SCRIPT FLUSH", "AUTH secret"};
    if (c->peer_closed) return;
    if (unit_below(3)) redis_say_publish(c, (int)unit_below(3), "some-body");
    else if (unit_one_in(3)) redis_say_open(c, (int)unit_below(3));
    else if (unit_one_in(20)) redis_receive(c, "*2\r\n$3\r\nGE", unit_below(11));
    else redis_say(c, lines[unit_below(sizeof lines / sizeof *lines)]);
}

static void redis_world_move(int which) {
    redis *s = redis_world.of[which], *other = redis_world.of[!which];
    uint64_t held = redis_position(s) - redis_oldest(s);
    uint64_t position = redis_oldest(s) + unit_below((uint32_t)held + 1);
    uint64_t us = unit_below(2) * (uint64_t)unit_below(20000);
    switch (unit_below(26)) {
    case 0: redis_crash(s); break;
    case 1: case 22: redis_restart(s, (redis_how)unit_below(3), position, us); break;
    case 2: redis_fail_over(s, position); break;
    case 3: redis_set_back(s, position); break;
    case 4: redis_stop(s); break;
    case 5: case 6: case 7: redis_continue(s); break;
    case 8: redis_attach(s); break;
    case 9: if (s->replicas) redis_detach(s); break;
    case 10: redis_demote(s); break;
    case 11: redis_resync(s, other, redis_position(other) - unit_below(3), us); break;
    case 12:
        if (s->replica && !strcmp(s->replid, other->replid) && s->position <= other->position)
            redis_catch_up(s, other, redis_position(other));
        break;
    case 13: case 14: redis_promote(s); break;
    case 15: if (!s->replica) redis_evict_any(s); break;
    case 16: if (!s->replica) redis_foreign(s, 0, "x1"); break;
    case 17: redis_kill_subscribers(s); break;
    case 18: s->oom = !s->oom; break;
    case 19: s->busy = unit_one_in(8); break;
    case 20: s->password = unit_one_in(4) ? "secret" : NULL; break;
    case 21: if (!s->replica) redis_flush(s); break;
    default: redis_world.now_us += unit_below(30000); redis_clock(s, redis_world.now_us);
    }
}

static void redis_world_check(const redis *s) {
    redis_keyspace ks = redis_state(s, redis_position(s));
    const redis_conn *c;
    size_t conns = 0;
    for (c = s->conns; c; c = c->next) conns++;
    CHECK_INT(conns, s->conn_count);
    CHECK(redis_digest(&ks) == redis_digest(&s->keys));
    CHECK_INT(ks.bytes, s->keys.bytes);
    CHECK_INT(ks.key_count, s->keys.key_count);
    CHECK(redis_position(s) - redis_oldest(s) <= s->log_units_max + 1);
    redis_keyspace_free(&ks);
}

TEST(redis_whatever_happens_it_stays_whole) {
    int i, k, rounds = (int)unit_rounds(60000);
    redis_world.now_us = 1000000000;
    memset(redis_world.conns, 0, sizeof redis_world.conns);
    for (i = 0; i < 2; i++) {
        redis_world.of[i] = redis_create(unit_random(), redis_world.now_us);
        redis_world.of[i]->log_units_max = 50;
        redis_world.of[i]->output_bytes_max = 4000;
    }
    memcpy(redis_sha, "0000000000000000000000000000000000000000", 40);
    redis_load(redis_connect(redis_world.of[0]));
    for (i = 0; i < rounds; i++) {
        int which = (int)unit_below(2);
        redis_conn **slot = &redis_world.conns[which][unit_below(REDIS_WORLD_CONNS)], *c = *slot;
        if (!c) {
            *slot = c = redis_connect(redis_world.of[which]);
            if (c) redis_say(c, "AUTH secret");
            if (c) redis_say(c, "SCRIPT LOAD --'XADD'");
        } else if (c->closed || unit_one_in(50)) {
            redis_close(c);
            *slot = NULL;
        } else if (unit_below(8)) {
            redis_world_speak(c);
        }
        if (*slot) {
            size_t n;
            redis_output(*slot, &n);
            if (n) redis_take(*slot, unit_below((uint32_t)n + 1));
        }
        if (redis_world.of[which]->down ? unit_one_in(4) : unit_one_in(40)) redis_world_move(which);
        if (unit_one_in(30))
            for (k = 0; k < 2; k++) redis_world_check(redis_world.of[k]);
    }
    for (i = 0; i < 2; i++) redis_destroy(redis_world.of[i]);
}
