/* C6 and F, remote and redis, through the public API: a server whose channels live in the
   simulated Redis of tests/redis.h, or that talks to a store whose answers the test writes. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"
#include "../redis_kernel.h"

static world w;
static redis *store;        /* the one that all is in                                     */
static redis_net net;
static redis_path *path;    /* from the server to it                                      */
static redis_conn *another; /* a client of the store's that is no instance                */

/* ---- the world ---- */

static uint64_t move_net(kernel *k) {
    redis_clock(store, k->wall_us + k->now_us);
    redis_net_move(&net, k->now_us);
    return redis_net_due(&net);
}

/* Before open_world(), which fills in what is still zero. */
static void prepare_redis(void) {
    w.k.now_us = 1000 * UINT64_C(1000000);
    w.k.wall_us = UINT64_C(1732412345123456) - w.k.now_us;
    memset(&net, 0, sizeof net);
    net.random = unit_seed;
    store = redis_create(unit_seed, w.k.wall_us + w.k.now_us);
    path = redis_path_add(&net, "127.0.0.1", 6379, store);
    another = redis_connect(store);
    w.k.net = &redis_kernel_net;
    w.k.net_ctx = &net;
    w.k.outside = move_net;
    if (!w.cfg.redis) w.cfg.redis = "redis://127.0.0.1:6379";
}

static lpi_store *the_store(void) { return &w.s->stores[0]; }

static int is_up(void) { return stats_of(&w).redis_up == 1; }

/* Until the store is connected, or for so long. */
static void wait_up(uint64_t ms) {
    uint64_t end = now_ms(&w) + ms;
    settle(&w);
    while (!is_up() && now_ms(&w) < end) pass(&w, 1);
}

static void open_redis(void) {
    prepare_redis();
    open_world(&w);
    wait_up(100);
    CHECK(is_up());
}

static void close_redis(void) {
    if (another) redis_close(another);
    another = NULL;
    if (w.s) close_world(&w);
    else free_world(&w);
    redis_net_free(&net);
    redis_destroy(store);
    memset(&w, 0, sizeof w);
}

/* ---- another client of the store's ---- */

/* The words stand with '|' between. The reply is taken, up to its end. */
static const char *store_tell(const char *words) {
    static char reply[2][4096];
    static int turn_of;
    char *to = reply[turn_of++ & 1];
    lp_slice rest = lp_s(words), word;
    lp_text text;
    const char *bytes;
    size_t n = 1;
    const char *c;
    for (c = words; *c; c++) n += *c == '|';
    lpi_text_init(&text, &lpi_libc_memory);
    lpi_resp_command(&text, n);
    while (lpi_split(&rest, '|', &word)) lpi_resp_word(&text, word);
    redis_receive(another, text.bytes, text.length);
    lpi_text_free(&text);
    bytes = redis_output(another, &n);
    CHECK(n < sizeof reply[0]);
    memcpy(to, bytes, n);
    to[n] = 0;
    redis_take(another, n);
    return to;
}

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
static const char *store_tellf(const char *format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    CHECK(vsnprintf(text, sizeof text, format, args) < (int)sizeof text);
    va_end(args);
    return store_tell(text);
}

/* ---- publishing ---- */

static void post_key(peer *c, const char *target, const char *json, const char *key) {
    sayf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Idempotency-Key: %s\r\nContent-Length: %lu\r\n\r\n%s", target, key,
         (unsigned long)strlen(json), json);
}

/* How many subscriptions there are. */
static int subscriptions(void) {
    const redis_conn *c;
    size_t n = 0;
    for (c = store->conns; c; c = c->next) n += c->name_count;
    return (int)n;
}

static answer *publish_here(const char *channel, const char *json) {
    peer *c = dial(&w);
    char target[300];
    sprintf(target, "/api/publish/%s", channel);
    post(c, target, json);
    settle(&w);
    return take(c);
}

/* {"n":N}, which goes well. */
static answer *publish_number(const char *channel, int n) {
    char json[40];
    answer *a;
    sprintf(json, "{\"n\":%d}", n);
    a = publish_here(channel, json);
    CHECK_INT(a->status, 200);
    return a;
}

/* All of the channel, in as many replies as it takes: the numbers with ',' between. */
static const char *all_of(const char *channel, const char *cursor) {
    static char all[20000];
    char at[100];
    int replies = 0;
    strcpy(at, cursor);
    all[0] = 0;
    for (;;) {
        answer *a = look(&w, channel, at);
        const char *ns = ns_of(a);
        CHECK_INT(a->status, 200);
        CHECK(strlen(all) + strlen(ns) + 2 < sizeof all);
        if (*all && *ns) strcat(all, ",");
        strcat(all, ns);
        strcpy(at, text_of(a->body, "last_id"));
        CHECK(++replies < 1000);
        if (!has(a->body, "\"more\":true")) return all;
        CHECK(*ns);
    }
}

static answer *publish_and_look(const char *channel, int n) {
    publish_number(channel, n);
    return look(&w, channel, "0");
}

typedef struct told_once {
    int times;
    lp_result result;
    lp_published published;
} told_once;

static void on_published(void *ctx, lp_result result, const lp_published *published) {
    told_once *t = (told_once *)ctx;
    t->times++;
    t->result = result;
    CHECK(!published == (result != LP_OK));
    if (published) t->published = *published;
}

#define CHECK_TOLD(t, want)                                                                    \
    do {                                                                                       \
        CHECK_INT((t).times, 1);                                                               \
        CHECK_INT((t).result, want);                                                           \
    } while (0)

static lp_result publish_async(const char *channel, const char *json, told_once *t) {
    memset(t, 0, sizeof *t);
    return lp_publish_async(w.s, lp_s(channel), lp_s(json), on_published, t);
}

/* The channel's epoch, from a message of it. */
static const char *store_epoch_of(const answer *a) {
    static char epoch[17];
    memcpy(epoch, text_of(a->body, "last_id"), 16);
    epoch[16] = 0;
    return epoch;
}

/* ---- connecting ---- */

TEST(redis_comes_up) {
    open_redis();
    CHECK_INT(path->dialled, 2);
    CHECK_INT(store->conn_count, 3);
    CHECK_INT(stats_of(&w).redis_connects, 1);
    CHECK_STR(lp_s(w.log), "redis 127.0.0.1:6379: up");
    CHECK_INT(w.log_lines[LP_LOG_ERROR] + w.log_lines[LP_LOG_WARN], 0);
    close_redis();
}

TEST(redis_comes_up_over_every_kind_of_path) {
    static const char *const urls[] = {"redis://localhost", "redis://[::1]:7", "unix:/run/r",
                                       "redis://127.0.0.1/9", " redis://127.0.0.1 "};
    size_t i;
    for (i = 0; i < LPI_COUNT(urls); i++) {
        w.cfg.redis = urls[i];
        prepare_redis();
        redis_path_add(&net, "::1", 7, store);
        redis_path_add(&net, "0.0.0.0", 1, store)->unix_path = "/run/r";
        open_world(&w);
        wait_up(100);
        if (!is_up()) unit_fail(__FILE__, __LINE__, "%s: not up", urls[i]);
        publish_number("a", 1);
        CHECK_STR(lp_s(all_of("a", "0")), "1");
        CHECK_INT(strcmp(store_tell("SELECT|9"), "+OK\r\n"), 0);
        CHECK_STR(lp_s(store_tell("XLEN|lp1:{af6}x:a")), i == 3 ? ":1\r\n" : ":0\r\n");
        close_redis();
    }
}

TEST(redis_password_and_user) {
    static const struct {
        const char *url, *user, *password;
        int up;
    } known[] = {{"redis://:secret@127.0.0.1", NULL, "secret", 1},
                 {"redis://ann:secret@127.0.0.1", "ann", "secret", 1},
                 {"redis://default:secret@127.0.0.1", NULL, "secret", 1},
                 {"redis://:wrong@127.0.0.1", NULL, "secret", 0},
                 {"redis://bob:secret@127.0.0.1", "ann", "secret", 0},
                 {"redis://127.0.0.1", NULL, "secret", 0},
                 {"redis://:secret@127.0.0.1", NULL, NULL, 0}};
    size_t i;
    for (i = 0; i < LPI_COUNT(known); i++) {
        w.cfg.redis = known[i].url;
        prepare_redis();
        store->user = known[i].user;
        store->password = known[i].password;
        open_world(&w);
        wait_up(100);
        if (is_up() != known[i].up) unit_fail(__FILE__, __LINE__, "%s", known[i].url);
        if (!is_up()) {
            CHECK(memmem(w.log, strlen(w.log), "refused", 7) != NULL);
            CHECK(!strstr(w.log, "secret"));
            CHECK_INT(path->dialled, 2);
            pass(&w, 9800);
            CHECK_INT(path->dialled, 2);
            pass(&w, 400); /* after 10 s it is tried again */
            CHECK_INT(path->dialled, 4);
            CHECK(pass(&w, 60000) < 200);
            CHECK_INT(path->dialled, 16);
            CHECK_INT(w.log_lines[LP_LOG_ERROR], 1); /* and not once for each attempt */
            store->user = NULL;
            store->password = NULL;
        }
        close_redis();
    }
}

/* What is refused is told once, and tried again in peace. */
static void check_store_refused(const char *why, uint32_t pause_ms) {
    uint32_t dialled = path->dialled;
    int steps, lines = w.log_lines[LP_LOG_ERROR] + w.log_lines[LP_LOG_WARN];
    CHECK(!is_up());
    CHECK_INT(dialled, 2);
    if (!strstr(w.log, why)) unit_fail(__FILE__, __LINE__, "%s, and not %s", w.log, why);
    CHECK(lines <= 2);
    pass(&w, pause_ms - 20);
    CHECK_INT(path->dialled, 2);
    steps = pass(&w, 60000);
    CHECK(steps < 400);
    CHECK(path->dialled > 8);
    CHECK_INT(w.log_lines[LP_LOG_ERROR] + w.log_lines[LP_LOG_WARN], lines);
}

TEST(redis_refuses_a_cluster) {
    prepare_redis();
    store->cluster_enabled = 1;
    open_world(&w);
    settle(&w);
    check_store_refused("Redis Cluster", 10000);
    store->cluster_enabled = 0;
    wait_up(20000);
    CHECK(is_up());
    close_redis();
}

TEST(redis_refuses_a_replica) {
    prepare_redis();
    redis_demote(store);
    open_world(&w);
    settle(&w);
    check_store_refused("replica", 1000);
    redis_promote(store);
    wait_up(20000);
    CHECK(is_up());
    close_redis();
}

TEST(redis_refuses_another_layout) {
    prepare_redis();
    CHECK_STR(lp_s(store_tell("SET|lp1:layout|0/2 1000 300000")), "+OK\r\n");
    open_world(&w);
    settle(&w);
    check_store_refused("another layout", 1000);
    CHECK_STR(lp_s(store_tell("GET|lp1:layout")), "$15\r\n0/2 1000 300000\r\n"); /* it is left alone */
    store_tell("DEL|lp1:layout");
    wait_up(20000);
    CHECK(is_up());
    CHECK_STR(lp_s(store_tell("GET|lp1:layout")), "$15\r\n0/1 1000 300000\r\n");
    close_redis();
}

TEST(redis_refuses_scripts_without_info) {
    prepare_redis();
    store->replid_hidden = 1;
    open_world(&w);
    settle(&w);
    CHECK(!is_up());
    CHECK(pass(&w, 60000) < 400);
    CHECK(w.log_lines[LP_LOG_ERROR] <= 2);
    close_redis();
}

TEST(redis_warns_of_eviction) {
    prepare_redis();
    store->maxmemory_policy = "allkeys-lru";
    open_world(&w);
    wait_up(100);
    CHECK(is_up());
    CHECK_INT(w.log_lines[LP_LOG_WARN], 1);
    close_redis();
}

/* Nobody there: attempts come at longer and longer intervals, and never in a spin. */
TEST(redis_back_off_grows) {
    uint64_t last, gap = 0;
    uint32_t n, dialled;
    prepare_redis();
    path->refuses = 1;
    open_world(&w);
    settle(&w);
    last = now_ms(&w);
    dialled = path->dialled;
    CHECK_INT(dialled, 2);
    for (n = 0; n < 12; n++) {
        uint64_t most = 10 + ((uint64_t)100 << (n < 7 ? n : 7));
        if (most > 10010) most = 10010;
        while (path->dialled == dialled) {
            pass(&w, 1);
            CHECK(now_ms(&w) - last <= most + TICK_MS);
        }
        CHECK(now_ms(&w) - last >= 10);
        gap += n >= 7 ? now_ms(&w) - last : 0;
        last = now_ms(&w);
        dialled = path->dialled;
    }
    CHECK(gap > 5000);
    CHECK_INT(w.log_lines[LP_LOG_ERROR], 1);
    CHECK(strstr(w.log, "cannot connect"));
    CHECK(pass(&w, 600000) < 1000);
    CHECK_INT(w.log_lines[LP_LOG_ERROR], 1);
    path->refuses = 0;
    wait_up(20000);
    CHECK(is_up());
    CHECK_STR(lp_s(w.log), "redis 127.0.0.1:6379: up again");
    close_redis();
}

TEST(redis_gives_up_a_silent_connection) {
    prepare_redis();
    path->held = 1;
    open_world(&w);
    settle(&w);
    CHECK(pass(&w, 4990) < 20);
    CHECK_INT(kernel_open_count(&w.k, K_SOCKET), 2);
    pass(&w, 15);
    CHECK_INT(kernel_open_count(&w.k, K_SOCKET), 0);
    CHECK_INT(w.log_lines[LP_LOG_ERROR], 1);
    CHECK(strstr(w.log, "no answer in time"));
    path->held = 0;
    wait_up(2000);
    CHECK(is_up());
    close_redis();
}

/* connect and poller_set may fail at once, and in any order. */
TEST(redis_connect_fails_at_once) {
    static const kernel_call calls[] = {K_CONNECT, K_CONNECTED, K_POLLER_SET, K_RECV, K_SEND};
    size_t i;
    uint32_t skip;
    for (i = 0; i < LPI_COUNT(calls); i++)
        for (skip = 0; skip < 4; skip++) {
            prepare_redis();
            open_world(&w);
            fault(&w, calls[i], ECONNREFUSED, skip, 1);
            wait_up(3000);
            CHECK(is_up());
            CHECK_INT(kernel_open_count(&w.k, K_SOCKET), 2);
            close_redis();
        }
}

/* ---- the heartbeat ---- */

TEST(redis_beats_every_two_seconds) {
    uint64_t commands;
    open_redis();
    pass(&w, 1000);
    commands = store->commands;
    CHECK(pass(&w, 20000) < 100);
    CHECK_INT(store->commands - commands, 10);
    CHECK_INT(stats_of(&w).redis_connects, 1);
    CHECK_STR(lp_s(store_tell("GET|lp1:layout")), "$15\r\n0/1 1000 300000\r\n");
    path->late_us = 3000;
    pass(&w, 10000);
    CHECK_INT(stats_of(&w).redis_round_trip_us, 6000);
    close_redis();
}

/* What lets the connections down, and what the log says of it. Then all is well again. */
static void check_down(uint64_t from_ms, uint64_t to_ms, const char *why) {
    CHECK_INT(w.log_lines[LP_LOG_ERROR], 0);
    if (from_ms) pass(&w, from_ms);
    CHECK(is_up());
    pass(&w, to_ms - from_ms);
    CHECK_INT(w.log_lines[LP_LOG_ERROR] > 0, 1);
    if (why && !strstr(w.log, why) && w.log_lines[LP_LOG_WARN] == 0)
        unit_fail(__FILE__, __LINE__, "%s, and not %s", w.log, why);
}

TEST(redis_silence_is_a_loss) {
    open_redis();
    path->held = 1;
    check_down(2000 + 4990, 2000 + 5010, "no answer in time");
    CHECK(!is_up());
    path->held = 0;
    wait_up(3000);
    CHECK(is_up());
    CHECK_INT(stats_of(&w).redis_connects, 2);
    close_redis();
}

TEST(redis_a_lost_connection_is_made_anew) {
    open_redis();
    redis_path_cut(&net, path);
    check_down(0, 200, NULL);
    wait_up(1000);
    CHECK(is_up());
    CHECK_INT(stats_of(&w).redis_connects, 2);
    close_redis();
}

/* After each time that it was up for a while the first attempt comes soon. */
TEST(redis_back_off_begins_anew) {
    int i;
    open_redis();
    for (i = 0; i < 12; i++) {
        pass(&w, 3000);
        redis_path_cut(&net, path);
        pass(&w, 110 + TICK_MS);
        CHECK(is_up());
        CHECK_INT(stats_of(&w).redis_connects, i + 2);
    }
    close_redis();
}

TEST(redis_without_news_both_are_made_anew) {
    open_redis();
    redis_kill_subscribers(store);
    check_down(0, 200, NULL);
    wait_up(1000);
    CHECK(is_up());
    CHECK_INT(path->dialled, 4);
    close_redis();
}

TEST(redis_another_identity_is_greeted_anew) {
    open_redis();
    redis_attach(store); /* the first replica: a new replid */
    check_down(0, 2200, "replication id");
    wait_up(1000);
    CHECK(is_up());
    CHECK_INT(stats_of(&w).redis_connects, 2);
    CHECK_STR(lp_s(w.log), "redis 127.0.0.1:6379: up again");
    close_redis();
}

TEST(redis_demoted_it_is_left) {
    open_redis();
    redis_demote(store);
    pass(&w, 2200);
    CHECK(!is_up());
    CHECK(pass(&w, 30000) < 400);
    CHECK(!is_up());
    redis_promote(store);
    wait_up(12000);
    CHECK(is_up());
    close_redis();
}

TEST(redis_lost_scripts_are_loaded_again) {
    open_redis();
    redis_forget_scripts(store);
    check_down(0, 2200, "NOSCRIPT");
    wait_up(1000);
    CHECK(is_up());
    publish_number("a", 1);
    close_redis();
}

TEST(redis_without_memory_stays_up) {
    told_once t;
    answer *a;
    open_redis();
    publish_number("a", 1);
    store->oom = 1;
    CHECK(pass(&w, 9000) < 200);
    CHECK(is_up());
    CHECK_INT(stats_of(&w).redis_connects, 1);
    a = publish_here("a", "{}");
    CHECK_INT(a->status, 503);
    CHECK_STR(heading(a, "Retry-After"), "5");
    CHECK_INT(publish_async("a", "{}", &t), LP_OK);
    settle(&w);
    CHECK_TOLD(t, LP_ERR_AWAY);
    CHECK_INT(w.log_lines[LP_LOG_WARN], 2); /* once, and that somebody was refused */
    store->oom = 0;
    publish_number("a", 2);
    CHECK_STR(lp_s(all_of("a", "0")), "1,2");
    CHECK_INT(stats_of(&w).redis_connects, 1);
    close_redis();
}

/* ---- publishing over HTTP ---- */

TEST(redis_publish_answers_with_the_id) {
    answer *a, *b;
    peer *c;
    open_redis();
    a = publish_number("news", 1);
    CHECK_STR(member(a->body, "status"), "published");
    CHECK_STR(member(a->body, "waiters"), "0");
    CHECK_STR(member(a->body, "instances"), "0");
    CHECK_INT(member(a->body, "message_id").length, 18);
    c = park_new(&w, "/api/poll/news?last_id=now");
    b = publish_number("news", 2);
    CHECK_STR(member(b->body, "waiters"), "1");
    CHECK_STR(member(b->body, "instances"), "1");
    a = take(c);
    CHECK_STR(lp_s(ns_of(a)), "2");
    CHECK_STR(lp_s(text_of(a->body, "last_id")), text_of(b->body, "message_id"));
    CHECK_STR(lp_s(text_of(a->body, "id")), text_of(b->body, "message_id"));
    close_redis();
}

TEST(redis_publish_is_checked_here) {
    uint64_t commands;
    answer *a;
    open_redis();
    commands = store->commands;
    a = publish_here("news", "{\"a\":}");
    CHECK_INT(a->status, 400);
    CHECK_STR(member(a->body, "error"), "Not a JSON object, at byte 5");
    CHECK_INT(publish_here("news", "[]")->status, 400);
    CHECK_INT(publish_here("%01", "{}")->status, 400);
    CHECK_INT(store->commands, commands);
    close_redis();
}

TEST(redis_publish_while_away) {
    answer *a;
    lp_published out;
    told_once t;
    prepare_redis();
    path->refuses = 1;
    open_world(&w);
    settle(&w);
    a = publish_here("news", "{}");
    CHECK_INT(a->status, 503);
    CHECK_STR(heading(a, "Retry-After"), "5");
    CHECK_STR(member(a->body, "error"), "Redis not available");
    memset(&out, 0x55, sizeof out);
    CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s("{}"), &out), LP_ERR_AWAY);
    CHECK_INT(out.waiters, 0x55555555);
    CHECK_INT(publish_async("news", "{}", &t), LP_OK);
    CHECK_INT(t.times, 0); /* not within the call */
    settle(&w);
    CHECK_TOLD(t, LP_ERR_AWAY);
    close_redis();
}

/* ---- what an operator is told ---- */

static answer *health(void) {
    peer *c = dial(&w);
    answer *a = ask(&w, c, "/healthz");
    leave(&w, c);
    return a;
}

/* Redis away is told, and never makes the instance one to be left out. */
TEST(redis_in_healthz_and_metrics) {
    answer *a;
    peer *c;
    prepare_redis();
    path->refuses = 1;
    open_world(&w);
    settle(&w);
    a = health();
    CHECK_INT(a->status, 200);
    CHECK_STR(a->body, "{\"status\":\"ok\",\"redis\":\"down\"}");
    path->refuses = 0;
    wait_up(3000);
    CHECK_STR(health()->body, "{\"status\":\"ok\",\"redis\":\"up\"}");
    publish_number("news", 1);
    c = dial(&w);
    a = ask(&w, c, "/metrics");
    CHECK(has(a->body, "\nlongpoll_redis_up 1\n"));
    CHECK(has(a->body, "\nlongpoll_redis_connects_total 1\n"));
    CHECK(has(a->body, "\nlongpoll_redis_round_trip_seconds 0."));
    CHECK_STR(member(ask(&w, c, "/api/stats")->body, "redis_up"), "1");
    close_redis();
}

/* Who has no token is not told. */
TEST(redis_in_healthz_with_a_token) {
    peer *c;
    w.cfg.admin_token = "secret";
    open_redis();
    CHECK_STR(health()->body, "{\"status\":\"ok\"}");
    c = dial(&w);
    say(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n\r\n");
    settle(&w);
    CHECK_STR(take(c)->body, "{\"status\":\"ok\",\"redis\":\"up\"}");
    close_redis();
}

static char publish_told[200];

static void tell_publish(void *ctx, const lp_access *a) {
    (void)ctx;
    sprintf(publish_told + strlen(publish_told), "%.*s %d;", (int)a->path.length, a->path.bytes,
            a->status);
}

/* A publish is told when it is answered; and if its client has gone by then, as it goes. */
TEST(redis_publish_in_the_access_log) {
    peer *c;
    w.cfg.access_log.write = tell_publish;
    open_redis();
    publish_told[0] = 0;
    c = dial(&w);
    path->held_back = 1;
    post(c, "/api/publish/news", "{\"n\":1}");
    settle(&w);
    CHECK_STR(lp_s(publish_told), "");
    path->held_back = 0;
    pass(&w, 100);
    CHECK_STR(lp_s(publish_told), "/api/publish/news 200;");
    take(c);
    path->held_back = 1;
    post(c, "/api/publish/last", "{\"n\":1}");
    settle(&w);
    reset(c);
    settle(&w);
    CHECK(c->closed);
    CHECK_STR(lp_s(publish_told), "/api/publish/news 200;/api/publish/last 499;");
    path->held_back = 0;
    pass(&w, 100);
    CHECK_INT(strlen(publish_told), 44);
    close_redis();
}

/* The store is silent: whether it was published is not known. */
TEST(redis_publish_of_unknown_outcome) {
    peer *c;
    answer *a;
    told_once t;
    uint64_t from;
    open_redis();
    c = dial(&w);
    path->held_back = 1;
    from = now_ms(&w);
    post(c, "/api/publish/news", "{\"n\":1}");
    settle(&w);
    CHECK_INT(publish_async("news", "{\"n\":2}", &t), LP_OK);
    pass(&w, 4990);
    CHECK_SILENT(c);
    CHECK_INT(t.times, 0);
    pass(&w, 15);
    CHECK(now_ms(&w) - from < 5010);
    a = take(c);
    CHECK_INT(a->status, 504);
    CHECK_STR(member(a->body, "error"), "Outcome unknown");
    CHECK_INT(heading(a, "Retry-After").length, 0);
    CHECK_TOLD(t, LP_ERR_UNKNOWN);
    CHECK_INT(stats_of(&w).redis_unknown, 2);
    CHECK(!is_up());
    path->held_back = 0;
    wait_up(3000);
    CHECK_STR(lp_s(all_of("news", "0")), "1,2"); /* it was */
    CHECK(!c->closed);
    CHECK_INT(ask(&w, c, "/api/poll/news?timeout=0&last_id=0")->status, 200);
    close_redis();
}

/* Of several that were sent at once too. */
TEST(redis_publishes_lost_together) {
    told_once t[3];
    int i;
    open_redis();
    path->held_back = 1;
    for (i = 0; i < 3; i++) CHECK_INT(publish_async("news", "{}", &t[i]), LP_OK);
    settle(&w);
    redis_path_cut(&net, path);
    settle(&w);
    for (i = 0; i < 3; i++) CHECK_TOLD(t[i], LP_ERR_UNKNOWN);
    close_redis();
}

/* What was not sent yet was not published. */
TEST(redis_publish_that_was_never_sent) {
    peer *c;
    answer *a;
    redis_link *l;
    open_redis();
    for (l = net.links; l; l = l->next) l->s->window = 0;
    c = dial(&w);
    post(c, "/api/publish/news", "{\"n\":1}");
    settle(&w);
    CHECK_SILENT(c);
    redis_path_cut(&net, path);
    settle(&w);
    a = take(c);
    CHECK_INT(a->status, 503);
    CHECK_STR(heading(a, "Retry-After"), "5");
    CHECK_INT(stats_of(&w).redis_unknown, 0);
    wait_up(1000);
    CHECK_STR(lp_s(all_of("news", "0")), "");
    close_redis();
}

/* A store that takes a byte at a time, and gives one. */
TEST(redis_byte_by_byte) {
    peer *c;
    prepare_redis();
    path->piece = 1;
    open_world(&w);
    wait_up(100);
    CHECK(is_up());
    c = park_new(&w, "/api/poll/news");
    publish_number("news", 1);
    CHECK_STR(lp_s(ns_of(take(c))), "1");
    publish_number("news", 2);
    CHECK_STR(lp_s(all_of("news", "0")), "1,2");
    close_redis();
}

TEST(redis_publish_from_a_thread) {
    lp_published out;
    told_once t;
    char *large;
    open_redis();
    memset(&out, 0x55, sizeof out);
    CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s("{\"n\":1}"), &out), LP_PENDING);
    CHECK_INT(out.waiters, 0x55555555);
    CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s("{\"n\":2}"), NULL), LP_PENDING);
    CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s("[]"), NULL), LP_ERR_JSON);
    CHECK_INT(lp_publish(w.s, lp_s(""), lp_s("{}"), NULL), LP_ERR_ARG);
    large = (char *)calloc(1, 65537);
    memset(large, ' ', 65537);
    CHECK_INT(lp_publish(w.s, lp_s("news"), lpi_slice(large, 65537), NULL), LP_ERR_TOO_LARGE);
    CHECK_INT(publish_async("news", "{\"n\":3}", &t), LP_OK);
    settle(&w);
    CHECK_TOLD(t, LP_OK);
    CHECK_INT(t.published.waiters, 0);
    CHECK(t.published.timestamp_us >= w.k.wall_us + w.k.now_us - 1000000);
    CHECK(strstr(t.published.id, "-3"));
    CHECK_INT(publish_async("news", "[]", &t), LP_OK);
    settle(&w);
    CHECK_TOLD(t, LP_ERR_JSON);
    CHECK_INT(publish_async("", "{}", &t), LP_OK);
    settle(&w);
    CHECK_TOLD(t, LP_ERR_ARG);
    CHECK_INT(lp_publish_async(w.s, lp_s("news"), lpi_slice(large, 65537), on_published, &t), LP_OK);
    free(large);
    t.times = 0;
    settle(&w);
    CHECK_TOLD(t, LP_ERR_TOO_LARGE);
    CHECK_STR(lp_s(all_of("news", "0")), "1,2,3");
    close_redis();
}

/* Whatever becomes of it, once. */
TEST(redis_publish_async_at_the_end) {
    told_once queued, sent, unsent;
    redis_link *l;
    int how;
    for (how = 0; how < 3; how++) {
        open_redis();
        path->held_back = 1;
        CHECK_INT(publish_async("news", "{\"n\":1}", &sent), LP_OK);
        settle(&w);
        for (l = net.links; l; l = l->next) l->s->window = 0;
        CHECK_INT(publish_async("news", "{\"n\":2}", &unsent), LP_OK);
        settle(&w);
        CHECK_INT(publish_async("news", "{\"n\":3}", &queued), LP_OK);
        CHECK_INT(sent.times + unsent.times + queued.times, 0);
        if (how == 1) lp_stop(w.s);
        if (how == 2) {
            lp_stop(w.s);
            pass(&w, 20000); /* 5 s, and the drain is over */
            CHECK_INT(lp_step(w.s, 0), LP_ERR_STOPPED);
            CHECK_TOLD(sent, LP_ERR_UNKNOWN);
            CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s("{}"), NULL), LP_ERR_STOPPED);
        }
        close_redis();
        CHECK_TOLD(sent, LP_ERR_UNKNOWN);
        CHECK_TOLD(unsent, LP_ERR_AWAY);
        CHECK_TOLD(queued, LP_ERR_AWAY);
    }
}

TEST(redis_queue_of_so_many_calls) {
    peer *c[5];
    told_once t[5];
    int i;
    w.cfg.redis_pending_max = 3;
    open_redis();
    path->held_back = 1;
    for (i = 0; i < 5; i++) {
        c[i] = dial(&w);
        post(c[i], "/api/publish/news", "{}");
        settle(&w);
        if (i < 3) CHECK_SILENT(c[i]);
        else CHECK_INT(take(c[i])->status, 503);
    }
    CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s("{}"), NULL), LP_ERR_AWAY);
    path->held_back = 0;
    settle(&w);
    for (i = 0; i < 3; i++) CHECK_INT(take(c[i])->status, 200);
    for (i = 0; i < 5; i++) CHECK_INT(publish_async("news", "{}", &t[i]), LP_OK);
    settle(&w);
    for (i = 0; i < 5; i++) CHECK_TOLD(t[i], i < 3 ? LP_OK : LP_ERR_AWAY);
    close_redis();
}

static lp_result publish_bytes(size_t size) {
    char *json = (char *)malloc(size);
    lp_result result;
    memset(json, 'x', size);
    memcpy(json, "{\"p\":\"", 6);
    memcpy(json + size - 2, "\"}", 2);
    result = lp_publish(w.s, lp_s("news"), lpi_slice(json, size), NULL);
    free(json);
    return result;
}

TEST(redis_queue_of_so_many_bytes) {
    size_t one, two, more, most = 16 << 20, size;
    w.cfg.message_bytes_max = (16 << 20) - 65536;
    open_redis();
    w.unchecked = 1;
    CHECK_INT(publish_bytes(1000), LP_PENDING);
    one = the_store()->pending_bytes;
    CHECK_INT(publish_bytes(1001), LP_PENDING);
    two = the_store()->pending_bytes - one;
    CHECK_INT(two, one + 1); /* so that the edge can be computed */
    settle(&w);
    CHECK_INT(the_store()->pending_bytes, 0);
    more = one - 1000;
    size = 10 << 20;
    CHECK_INT(publish_bytes(size), LP_PENDING);
    most -= the_store()->pending_bytes;
    CHECK_INT(publish_bytes(most - more + 1), LP_ERR_AWAY);
    CHECK_INT(publish_bytes(most - more), LP_PENDING);
    CHECK_INT(the_store()->pending_bytes, 16 << 20);
    CHECK_INT(publish_bytes(10), LP_ERR_AWAY);
    settle(&w);
    CHECK_INT(the_store()->pending_bytes, 0);
    CHECK_INT(publish_bytes(10), LP_PENDING);
    settle(&w);
    close_redis();
}

TEST(redis_calls_keep_their_order) {
    char want[2000] = "";
    peer *c;
    int i;
    open_redis();
    c = dial(&w);
    for (i = 0; i < 100; i++) {
        char json[30];
        sprintf(json, "{\"n\":%d}", i);
        CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s(json), NULL), LP_PENDING);
        if (unit_one_in(7)) settle(&w);
        sprintf(want + strlen(want), "%s%d", i ? "," : "", i);
    }
    settle(&w);
    for (; i < 120; i++) { /* pipelined */
        char json[30];
        sprintf(json, "{\"n\":%d}", i);
        post(c, "/api/publish/news", json);
        sprintf(want + strlen(want), ",%d", i);
    }
    settle(&w);
    for (i = 100; i < 120; i++) CHECK_INT(take(c)->status, 200);
    CHECK_STR(lp_s(all_of("news", "0")), want);
    close_redis();
}

/* ---- Idempotency-Key ---- */

static answer *publish_key(const char *channel, const char *json, const char *key) {
    peer *c = dial(&w);
    char target[300];
    sprintf(target, "/api/publish/%s", channel);
    post_key(c, target, json, key);
    settle(&w);
    return take(c);
}

TEST(redis_idempotency_key) {
    const char *first, *again;
    open_redis();
    first = text_of(publish_key("news", "{\"n\":1}", "k1")->body, "message_id");
    again = text_of(publish_key("news", "{\"n\":2}", "k1")->body, "message_id");
    CHECK_STR(lp_s(again), first);
    CHECK_INT(publish_key("news", "{\"n\":3}", "k2")->status, 200);
    CHECK_INT(publish_key("other", "{\"n\":4}", "k1")->status, 200); /* it is the channel's */
    CHECK_INT(publish_key("news", "{\"n\":5}", "K1")->status, 200);
    CHECK_STR(lp_s(all_of("news", "0")), "1,3,5");
    CHECK_STR(lp_s(all_of("other", "0")), "4");
    pass(&w, 300001);
    CHECK_INT(publish_key("news", "{\"n\":6}", "k1")->status, 200); /* it is forgotten */
    CHECK_STR(lp_s(all_of("news", "0")), "6");
    close_redis();
}

/* Somebody uses a key again, with more messages than there ever were: that is no reason to think
   ill of Redis. */
TEST(redis_idempotency_key_of_another_array) {
    answer *a;
    open_redis();
    CHECK_INT(publish_key("news", "{\"n\":1}", "k")->status, 200);
    a = publish_key("news", "[{\"n\":2},{\"n\":3},{\"n\":4}]", "k");
    CHECK_INT(a->status, 200);
    CHECK_INT(w.s->hub.stats.redis_up, 1);
    CHECK_INT(w.s->hub.stats.redis_connects, 1);
    CHECK_STR(lp_s(all_of("news", "0")), "1");
    close_redis();
}

/* The outcome of the first try was not known; that of the second one is. */
TEST(redis_idempotency_key_after_a_loss) {
    peer *c;
    open_redis();
    path->held_back = 1;
    c = dial(&w);
    post_key(c, "/api/publish/news", "{\"n\":1}", "k");
    settle(&w);
    redis_path_cut(&net, path);
    path->held_back = 0;
    settle(&w);
    CHECK_INT(take(c)->status, 504);
    wait_up(1000);
    post_key(c, "/api/publish/news", "{\"n\":1}", "k");
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    CHECK_STR(lp_s(all_of("news", "0")), "1");
    close_redis();
}

TEST(redis_bad_idempotency_keys) {
    char key[140];
    answer *a;
    open_redis();
    memset(key, 'k', sizeof key);
    key[128] = 0;
    CHECK_INT(publish_key("news", "{}", key)->status, 200);
    key[128] = 'k';
    key[129] = 0;
    a = publish_key("news", "{}", key);
    CHECK_INT(a->status, 400);
    CHECK_STR(member(a->body, "error"), "Bad Idempotency-Key");
    CHECK_INT(publish_key("news", "{}", "")->status, 400);
    CHECK_INT(publish_key("news", "{}", "a b")->status, 400);
    CHECK_INT(publish_key("news", "{}", "a\tb")->status, 400);
    CHECK_INT(publish_key("news", "{}", "\xc3\xa4")->status, 400);
    CHECK_INT(publish_key("news", "{}", "!~\"{}")->status, 200);
    close_redis();
}

/* ---- arrays ---- */

/* All in one call, and so in a row; who waits has them in one reply. */
TEST(redis_array_is_published_at_once) {
    answer *a, *cached;
    peer *c;
    char id[40];
    uint64_t commands;
    open_redis();
    strcpy(id, text_of(publish_number("news", 1)->body, "message_id"));
    c = park_new(&w, "/api/poll/news?last_id=now");
    commands = store->commands;
    a = publish_here("news", "[{\"n\":2},{\"n\":3}, {\"n\":4,\"id\":7}]");
    CHECK_INT(store->commands, commands + 1);
    CHECK_INT(a->status, 200);
    id[17] = 0;
    CHECK_INT(count_of(a->body, id), 3);
    CHECK(has(a->body, "\"message_ids\":[\"") && has(a->body, "-2\",\"") && has(a->body, "-4\"],"));
    CHECK(has(a->body, "\"waiters\":1,\"instances\":1}"));
    CHECK_STR(member(take(c)->body, "count"), "3");
    CHECK_INT(c->sends, 1);
    CHECK_STR(lp_s(store_tell("XLEN|lp1:{e54}x:news")), ":4\r\n");
    CHECK_STR(lp_s(all_of("news", "0")), "1,2,3,4");
    cached = look(&w, "news", "0");
    CHECK_STR(member(cached->body, "timestamp"), text_of(a->body, "timestamp"));
    pass(&w, 10000);
    CHECK_INT(stats_of(&w).channels, 0);
    a = look(&w, "news", "0"); /* as the store tells it */
    CHECK_BYTES(a->body.bytes, a->body.length, cached->body.bytes, cached->body.length);
    close_redis();
}

static const char *array_of_numbers(int from, int count) {
    static char json[40000];
    char *to = json;
    while (count--) to += sprintf(to, "%c{\"n\":%d}", to == json ? '[' : ',', from++);
    strcpy(to, "]");
    return json;
}

TEST(redis_array_of_a_thousand) {
    static char want[8000];
    told_once t;
    int i;
    open_redis();
    CHECK_INT(publish_async("news", array_of_numbers(1, 1000), &t), LP_OK);
    settle(&w);
    CHECK_TOLD(t, LP_OK);
    CHECK_INT(t.published.count, 1000);
    CHECK(!strcmp(t.published.id + 17, "1000"));
    for (*want = 0, i = 1; i <= 1000; i++) sprintf(want + strlen(want), "%s%d", i > 1 ? "," : "", i);
    CHECK_STR(lp_s(all_of("news", "0")), want);
    close_redis();
}

TEST(redis_array_of_too_many) {
    told_once t;
    answer *a;
    w.cfg.history_count = 5;
    open_redis();
    a = publish_here("news", array_of_numbers(1, 6));
    CHECK_INT(a->status, 413);
    CHECK_STR(member(a->body, "error"), "Too many messages");
    CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s(array_of_numbers(1, 6)), NULL), LP_ERR_TOO_LARGE);
    CHECK_INT(publish_async("news", array_of_numbers(1, 6), &t), LP_OK);
    settle(&w);
    CHECK_TOLD(t, LP_ERR_TOO_LARGE);
    CHECK_INT(publish_here("news", array_of_numbers(1, 1001))->status, 413);
    CHECK_INT(publish_here("news", "[{},{}")->status, 400);
    CHECK_STR(lp_s(store_tell("XLEN|lp1:{e54}x:news")), ":0\r\n");
    CHECK_INT(publish_here("news", array_of_numbers(1, 5))->status, 200);
    CHECK_STR(lp_s(all_of("news", "0")), "1,2,3,4,5");
    close_redis();
}

/* All of it was published, or none. */
TEST(redis_array_of_unknown_outcome) {
    told_once t;
    int how;
    for (how = 0; how < 2; how++) {
        peer *c;
        open_redis();
        if (how) path->held = 1; /* the store does not get it */
        else path->held_back = 1;
        c = dial(&w);
        post(c, "/api/publish/news", array_of_numbers(1, 3));
        settle(&w);
        CHECK_INT(publish_async("news", array_of_numbers(4, 2), &t), LP_OK);
        settle(&w);
        redis_path_cut(&net, path);
        path->held = path->held_back = 0;
        settle(&w);
        CHECK_INT(take(c)->status, 504);
        CHECK_TOLD(t, LP_ERR_UNKNOWN);
        wait_up(3000);
        CHECK_STR(lp_s(all_of("news", "0")), how ? "" : "1,2,3,4,5");
        close_redis();
    }
}

/* The key stands for the whole array; what the second try would have published does not count. */
TEST(redis_array_with_an_idempotency_key) {
    answer *a, *b;
    char id[40];
    open_redis();
    a = publish_key("news", array_of_numbers(1, 3), "k");
    b = publish_key("news", array_of_numbers(1, 3), "k");
    CHECK(!memcmp(a->body.bytes, b->body.bytes, 38 + 3 * 21));
    CHECK(has(b->body, "-1\",\"") && has(b->body, "-3\"],\"timestamp\""));
    b = publish_key("news", array_of_numbers(1, 200), "k"); /* more than there are messages */
    CHECK(!memcmp(a->body.bytes, b->body.bytes, 38 + 3 * 21));
    b = publish_key("news", "{}", "k");
    CHECK_INT(member(b->body, "message_id").length, 18);
    CHECK(has(b->body, "-3\",\"timestamp\""));
    strcpy(id, text_of(publish_key("news", "{\"n\":4}", "one")->body, "message_id"));
    b = publish_key("news", array_of_numbers(5, 9), "one");
    CHECK_INT(b->status, 200);
    CHECK_INT(count_of(b->body, id), 1);
    CHECK_INT(count_of(b->body, "-"), 1);
    CHECK_STR(lp_s(all_of("news", "0")), "1,2,3,4");
    CHECK_INT(stats_of(&w).redis_connects, 1);
    close_redis();
}

/* What an older instance kept with a key has no count of messages; one that is none is refused. */
TEST(redis_idempotency_keys_of_others) {
    static const struct { const char *kept; int status; } cases[] = {
        {"0123456789abcdef 7 19", 200},      {"0123456789abcdef 7 19 3", 200},
        {"0123456789abcdef 7 19 7", 200},    {"0123456789abcdef 7 19 8", 504},
        {"0123456789abcdef 7 19 0", 504},    {"0123456789abcdef 7 19 1001", 504},
        {"0123456789abcdef 7 19 x", 504},    {"0123456789abcdef 0 19", 504},
        {"0123456789abcdef 7 19 ", 504}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        answer *a;
        open_redis();
        store_tellf("SET|lp1:{e54}i:news\nk|%s", cases[i].kept);
        a = publish_key("news", "[{},{}]", "k");
        if (a->status != cases[i].status)
            unit_fail(__FILE__, __LINE__, "\"%s\": %d", cases[i].kept, a->status);
        CHECK_INT(is_up(), cases[i].status == 200);
        close_redis();
    }
}

/* What another instance calls; `rest` stands behind the name of the pub/sub channel. */
static void another_calls(const char *epoch, const char *rest) {
    CHECK(strstr(store_tellf("EVALSHA|%s|2|lp1:{e54}h:news|lp1:{e54}x:news|%s|0|0|0|0|1000|300000"
                             "|3600000|lp1:{e54}:news|0%s", the_store()->call_sha, epoch, rest),
                 "*5\r\n"));
}

TEST(redis_array_of_another_instance) {
    peer *c;
    open_redis();
    publish_number("news", 1);
    c = park_new(&w, "/api/poll/news?last_id=now");
    another_calls("0123456789abcdef", "|{\"n\":2}|{\"n\":3}|{\"n\":4}");
    settle(&w);
    CHECK_STR(lp_s(ns_of(take(c))), "2,3,4");
    CHECK_STR(lp_s(all_of("news", "0")), "1,2,3,4");
    close_redis();
}

/* ---- deletion ---- */

static answer *delete_here(const char *channel) {
    peer *c = dial(&w);
    sayf(c, "DELETE /api/channels/%s HTTP/1.1\r\nHost: localhost\r\n"
         "Authorization: Bearer secret\r\n\r\n", channel);
    settle(&w);
    return take(c);
}

static void open_redis_admin(void) {
    w.cfg.admin_token = "secret";
    open_redis();
}

static void check_deleted(const answer *a) {
    CHECK_INT(a->status, 200);
    CHECK_STR(a->body, "{\"status\":\"deleted\"}");
}

/* The poll was told of the deletion, and of nothing else. */
static void check_told(peer *c) {
    answer *a = take(c);
    CHECK_STR(member(a->body, "count"), "0");
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}"));
    CHECK_SILENT(c);
}

TEST(redis_deletion_drops_the_history) {
    char cursor[60];
    peer *c, *both, *stream;
    answer *a;
    uint64_t us;
    open_redis_admin();
    publish_number("news", 1);
    a = publish_number("news", 2);
    strcpy(cursor, text_of(a->body, "message_id"));
    us = us_of(member(a->body, "timestamp"));
    c = park_new(&w, "/api/poll/news?last_id=now");
    both = park_new(&w, "/api/poll/x,news?last_id=now");
    stream = dial(&w);
    get(stream, "/api/stream/news?last_id=now");
    settle(&w);
    stream->out_at = stream->out_length;
    w.k.wall_us -= 60000000; /* the store's clock too */
    check_deleted(delete_here("news"));
    check_told(c); /* at once */
    check_told(both);
    CHECK(has(unheard(stream), "event: reset\n"));
    CHECK_STR(lp_s(store_tell("XLEN|lp1:{e54}x:news")), ":0\r\n");
    CHECK_STR(lp_s(all_of("news", "0")), "");
    a = look(&w, "news", cursor);
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}"));
    CHECK_STR(member(a->body, "count"), "0");
    CHECK(us_of(member(a->body, "timestamp")) > us);
    a = publish_number("news", 3);
    CHECK(us_of(member(a->body, "timestamp")) > us + 1);
    a = look(&w, "news", cursor);
    CHECK_STR(lp_s(ns_of(a)), "3");
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}"));
    pass(&w, 10000);
    CHECK_INT(stats_of(&w).waiters, 1); /* the stream */
    a = look(&w, "news", cursor); /* as the store tells it */
    CHECK_STR(lp_s(ns_of(a)), "3");
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}"));
    CHECK_INT(stats_of(&w).redis_connects, 1);
    close_redis();
}

/* Without a cache of the channel, or a channel. */
TEST(redis_deletion_of_what_is_not_here) {
    char cursor[60];
    open_redis_admin();
    strcpy(cursor, text_of(publish_number("news", 1)->body, "message_id"));
    pass(&w, 10000);
    CHECK_INT(stats_of(&w).channels, 0);
    CHECK_INT(lp_channel_delete(w.s, lp_s("news")), LP_PENDING);
    settle(&w);
    CHECK_INT(stats_of(&w).channels, 0);
    CHECK(has(look(&w, "news", cursor)->body, "\"count\":0,\"messages\":[],\"reset\""));
    check_deleted(delete_here("never"));
    pass(&w, 10000);
    CHECK_STR(lp_s(all_of("never", "0")), "");
    CHECK_INT(delete_here("%00")->status, 400);
    close_redis();
}

TEST(redis_deletion_by_another_instance) {
    peer *c, *fetching;
    char cursor[60], target[100];
    open_redis_admin();
    publish_number("news", 1);
    strcpy(cursor, text_of(publish_number("news", 2)->body, "message_id"));
    c = park_new(&w, "/api/poll/news?last_id=now");
    another_calls("0123456789abcdef", "");
    settle(&w);
    check_told(c);
    CHECK_STR(lp_s(store_epoch_of(look(&w, "news", "0"))), "0123456789abcdef");
    pass(&w, 10000);
    publish_number("news", 3);
    sprintf(target, "/api/poll/news?last_id=%s", text_of(look(&w, "news", "0")->body, "last_id"));
    pass(&w, 10000);
    fetching = dial(&w); /* its open is under way when the channel is deleted */
    path->held_back = 1;
    get(fetching, target);
    settle(&w);
    CHECK_INT(w.s->hub.requested.used, 1);
    another_calls("fedcba9876543210", "");
    path->held_back = 0;
    settle(&w);
    check_told(fetching);
    CHECK(has(look(&w, "news", cursor)->body, "\"reset\""));
    close_redis();
}

TEST(redis_deletion_of_unknown_outcome) {
    peer *c, *p;
    answer *a;
    open_redis_admin();
    publish_number("news", 1);
    p = park_new(&w, "/api/poll/news?last_id=now&timeout=60");
    c = dial(&w);
    path->held_back = 1;
    sayf(c, "DELETE /api/channels/news HTTP/1.1\r\nHost: localhost\r\n"
         "Authorization: Bearer secret\r\n\r\n");
    settle(&w);
    CHECK_SILENT(c);
    redis_path_cut(&net, path);
    path->refuses = 1;
    path->held_back = 0;
    settle(&w);
    a = take(c);
    CHECK_INT(a->status, 504);
    CHECK_STR(member(a->body, "error"), "Outcome unknown");
    a = delete_here("news");
    CHECK_INT(a->status, 503);
    CHECK_STR(member(a->body, "error"), "Redis not available");
    CHECK_STR(heading(a, "Retry-After"), "5");
    CHECK_INT(lp_channel_delete(w.s, lp_s("news")), LP_ERR_AWAY);
    CHECK_SILENT(p);
    path->refuses = 0;
    wait_up(11000);
    settle(&w);
    check_told(p); /* it was deleted, and that is seen now */
    close_redis();
}

/* Anybody may say so; the store is asked, and knows better. */
TEST(redis_news_of_a_deletion_that_was_none) {
    static const char *const texts[] = {"0123456789abcdef 0 19 x", "0123456789abcdef 0 19",
                                        "0123456789abcdef 0 19 {\"n\":9}"};
    peer *c;
    uint64_t opens;
    size_t i;
    open_redis_admin();
    publish_number("news", 1);
    c = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    for (i = 0; i < LPI_COUNT(texts); i++) {
        opens = stats_of(&w).redis_opens;
        store_tellf("PUBLISH|lp1:{e54}:news|%s", texts[i]);
        CHECK(pass(&w, 1000) < 100);
        CHECK(stats_of(&w).redis_opens > opens && stats_of(&w).redis_opens <= opens + 2);
        CHECK_SILENT(c);
    }
    store_tell("PUBLISH|lp1:{e54}:nobody|0123456789abcdef 0 19 {}");
    settle(&w);
    publish_number("news", 2);
    CHECK_STR(lp_s(ns_of(take(c))), "2");
    CHECK_INT(stats_of(&w).redis_connects, 1);
    close_redis();
}

/* A message that was published right after a deletion, and one after another. */
TEST(redis_deletion_with_news_right_behind_it) {
    peer *c;
    answer *a;
    open_redis_admin();
    publish_number("news", 1);
    c = park_new(&w, "/api/poll/news?last_id=now");
    CHECK_INT(lp_channel_delete(w.s, lp_s("news")), LP_PENDING);
    CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s("[{\"n\":2},{\"n\":3}]"), NULL), LP_PENDING);
    CHECK_INT(lp_channel_delete(w.s, lp_s("news")), LP_PENDING);
    CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s("{\"n\":4}"), NULL), LP_PENDING);
    settle(&w);
    a = take(c);
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}"));
    CHECK_STR(lp_s(ns_of(a)), "4");
    CHECK_STR(lp_s(all_of("news", "0")), "4");
    close_redis();
}

/* What an administrator sees is what is here. */
TEST(redis_channels_that_are_here) {
    lp_channel_info info;
    uint32_t position = 0;
    open_redis_admin();
    publish_number("news", 1);
    CHECK_INT(lp_channel_read(w.s, lp_s("news"), &info), LP_ERR_NOT_FOUND);
    publish_and_look("news", 2);
    CHECK_INT(lp_channel_read(w.s, lp_s("news"), &info), LP_OK);
    CHECK_INT(info.held, 2);
    CHECK(!strcmp(info.last_id + 17, "2") && !strcmp(info.first_id + 17, "1"));
    CHECK_INT(lp_channels_read(w.s, &position, &info, 1), 1);
    path->held_back = 1;
    get(dial(&w), "/api/poll/other");
    settle(&w);
    CHECK_INT(lp_channel_read(w.s, lp_s("other"), &info), LP_OK);
    CHECK_INT(info.waiters, 1);
    CHECK_STR(lp_s(info.last_id), ""); /* the store has not told it yet */
    path->held_back = 0;
    settle(&w);
    CHECK_INT(lp_channel_read(w.s, lp_s("other"), &info), LP_OK);
    CHECK(!strcmp(info.last_id + 16, "-0"));
    close_redis();
}

/* A message that stays over a change of the epoch keeps its id, and its receipts. */
TEST(redis_receipts_over_an_epoch) {
    lp_receipts page;
    char id[60];
    peer *c;
    w.cfg.track_receipts = 10;
    open_redis_admin();
    c = dial(&w);
    get_as(c, "/api/poll/news", "a");
    settle(&w);
    strcpy(id, text_of(publish_number("news", 1)->body, "message_id"));
    CHECK_STR(lp_s(ns_of(take(c))), "1");
    page.position = 0;
    CHECK_INT(lp_receipts_read(w.s, lp_s("news"), lp_s(id), &page), LP_OK);
    CHECK_INT(page.count, 1);
    redis_attach(store); /* a new replid, and so a new epoch; the ring stays */
    pass(&w, 2200);
    wait_up(1000);
    settle(&w);
    park(&w, c, "/api/poll/news?last_id=now");
    page.position = 0;
    CHECK_INT(lp_receipts_read(w.s, lp_s("news"), lp_s(id), &page), LP_OK);
    CHECK_INT(page.count, 1);
    CHECK(memcmp(store_epoch_of(look(&w, "news", "now")), id, 16));
    close_redis();
}

/* ---- the connection that publishes ---- */

/* ---- policies ---- */

static int redis_policy_calls;

/* "two" holds two messages, "brief" for half a second, "one" has one waiter; "no" is none. */
static int redis_policy(void *ctx, lp_slice channel, lp_policy *policy) {
    (void)ctx;
    redis_policy_calls++;
    if (lpi_equal(channel, lp_s("two"))) policy->history_count = 2;
    if (lpi_equal(channel, lp_s("brief"))) policy->history_age_ms = 500;
    if (lpi_equal(channel, lp_s("one"))) policy->waiters_max = 1;
    return !lpi_equal(channel, lp_s("no"));
}

static void open_redis_policy(void) {
    redis_policy_calls = 0;
    w.cfg.policy.ask = redis_policy;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    open_redis();
}

/* How much the store holds is what who publishes says, and what is cached is no more. */
TEST(redis_policy_of_history) {
    char epoch[17];
    answer *a;
    peer *c;
    int n;
    open_redis_policy();
    for (n = 1; n <= 3; n++) publish_number("two", n);
    CHECK_INT(redis_policy_calls, 3); /* it is not cached */
    publish_number("two", 4);
    CHECK_STR(lp_s(store_tellf("XLEN|lp1:{%03x}x:two",
                               (unsigned)(lpi_store_hash(lp_s("two")) >> 52))), ":2\r\n");
    redis_policy_calls = 0;
    CHECK_STR(lp_s(all_of("two", "0")), "3,4");
    CHECK_INT(redis_policy_calls, 1);
    c = dial(&w);
    get(c, "/api/poll/two?last_id=now&timeout=50");
    settle(&w);
    publish_number("two", 5);
    CHECK_INT(redis_policy_calls, 1); /* it is */
    a = take(c);
    CHECK_STR(lp_s(ns_of(a)), "5");
    strcpy(epoch, store_epoch_of(a));
    CHECK_STR(lp_s(all_of("two", "0")), "4,5");
    CHECK(has(askf(&w, c, "/api/poll/two?last_id=%s-2&timeout=0", epoch)->body, "\"evicted\""));
    CHECK_INT(publish_here("two", "[{},{},{}]")->status, 413);
    CHECK_INT(publish_here("two", "[{},{}]")->status, 200);
    CHECK_INT(publish_here("three", "[{},{},{}]")->status, 200);
    close_redis();
}

static void hear_number(void *ctx, const lp_message *m) {
    CHECK(lpi_equal(member(m->json, "n"), lp_s("4")));
    ++*(int *)ctx;
}

/* What is cached here alone. */
TEST(redis_messages_that_are_here) {
    int n, count = 0;
    open_redis();
    for (n = 1; n <= 3; n++) publish_number("a", n);
    CHECK_INT(lp_messages_read(w.s, lp_s("a"), 9, hear_number, &count), LP_ERR_NOT_FOUND);
    get(dial(&w), "/api/poll/a?last_id=now&timeout=50");
    settle(&w);
    publish_number("a", 4);
    CHECK_INT(lp_messages_read(w.s, lp_s("a"), 1, hear_number, &count), LP_OK);
    CHECK_INT(count, 1);
    close_redis();
}

/* A poll that cannot be judged yet is answered when it can be, and not parked nor given
   anything. */
TEST(redis_recheck_of_a_poll_that_fetches) {
    static const char *const cursors[] = {"0", "now", "0123456789abcdef-7"};
    size_t i;
    open_redis();
    publish_number("a", 1);
    for (i = 0; i < LPI_COUNT(cursors); i++) {
        peer *c = dial(&w);
        answer *a;
        char target[90];
        sprintf(target, "/api/poll/a?last_id=%s&timeout=50", cursors[i]);
        path->held = 1;
        get(c, target);
        settle(&w);
        CHECK_INT(stats_of(&w).waiters, 1);
        CHECK_INT(lp_recheck(w.s, lp_s("a")), LP_OK);
        settle(&w);
        CHECK_SILENT(c);
        path->held = 0;
        pass(&w, 100);
        a = take(c);
        CHECK_INT(a->status, 200);
        CHECK_STR(member(a->body, "count"), "0");
        CHECK_INT(has(a->body, "reset"), i == 2);
        CHECK_INT(stats_of(&w).waiters, 0);
        CHECK_STR(lp_s(all_of("a", text_of(a->body, "last_id"))), i == 1 ? "" : "1");
        pass(&w, 20000); /* its channel is forgotten */
    }
    close_redis();
}

/* A transient message {"n":N}, of whose outcome nobody is told. */
static void publish_transient(const char *channel, int n) {
    char json[40];
    sprintf(json, "{\"n\":%d}", n);
    CHECK_INT(lp_publish_transient(w.s, lp_s(channel), lp_s(json), NULL), LP_PENDING);
    pass(&w, 1);
}

/* These messages follow behind that cursor of channel news, with that reason of a reset, in a few
   replies at most. */
static void check_news(const char *query, const char *ns, const char *reason) {
    char got[200] = "", text[60], next[80];
    int replies, more = 1, resets = 0;
    sprintf(text, "\"reset\":{\"news\":\"%s\"}", reason);
    for (replies = 0; more; replies++) {
        answer *a = askf(&w, dial(&w), "/api/poll/news?timeout=0&limit=1000&%s",
                         replies ? next : query);
        CHECK_INT(a->status, 200);
        if (*got && *ns_of(a)) strcat(got, ",");
        strcat(got, ns_of(a));
        more = has(a->body, "\"more\":true");
        resets += has(a->body, "\"reset\"");
        if (*reason && has(a->body, "\"reset\"")) CHECK(has(a->body, text));
        sprintf(next, "last_id=%s", text_of(a->body, "last_id"));
        CHECK(replies < 3);
    }
    CHECK_STR(lp_s(got), ns);
    /* Marks behind the first message that was asked for are told of. */
    if (!strcmp(query, "last_id=0") && replies > 1) return;
    CHECK_INT(resets != 0, *reason != 0);
}

static void check_news_of(const char *epoch, int seq, const char *ns, const char *reason) {
    char query[60];
    sprintf(query, "last_id=%s-%d", epoch, seq);
    check_news(query, ns, reason);
}

/* Who waits has it; who comes in time, too; then it is gone here. In the store it never was. */
TEST(redis_transient_is_there_for_a_moment) {
    char epoch[17];
    peer *c;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    open_redis();
    strcpy(epoch, store_epoch_of(publish_and_look("news", 1)));
    c = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    publish_transient("news", 2);
    CHECK_STR(lp_s(ns_of(take(c))), "2");
    publish_number("news", 3);
    CHECK(!strstr(store_tell("XRANGE|lp1:{e54}x:news|-|+"), "\"n\":2"));
    CHECK_STR(lp_s(store_tell("XLEN|lp1:{e54}x:news")), ":3\r\n");
    pass(&w, 1990);
    check_news_of(epoch, 1, "2,3", "");
    pass(&w, 10);
    check_news_of(epoch, 1, "3", "evicted");
    check_news_of(epoch, 2, "3", "");
    check_news("last_id=0", "1,3", "");
    check_news("last_id=now", "", "");
    pass(&w, 10000); /* the channel is forgotten here */
    CHECK_INT(stats_of(&w).channels, 0);
    check_news_of(epoch, 1, "3", "evicted");
    check_news_of(epoch, 2, "3", "");
    check_news("last_id=0", "1,3", "");
    close_redis();
}

/* As the oldest that is cached it goes without a mark; the store still has those before it. */
TEST(redis_transient_is_the_oldest_that_is_cached) {
    char epoch[17];
    open_redis();
    publish_number("news", 1);
    publish_number("news", 2);
    strcpy(epoch, store_epoch_of(look(&w, "news", "now")));
    check_news("last_id=0", "1,2", "");
    get(dial(&w), "/api/poll/news?timeout=60&last_id=now");
    settle(&w);
    lpi_hub_lock(&w.s->hub);
    while (w.s->hub.oldest) lpi_channel_evict(&w.s->hub, w.s->hub.oldest, 0, now_ms(&w));
    lpi_hub_unlock(&w.s->hub);
    publish_transient("news", 3);
    publish_transient("news", 4);
    pass(&w, 3100);
    CHECK_INT(stats_of(&w).messages, 0);
    check_news_of(epoch, 0, "1,2", "evicted");
    check_news_of(epoch, 3, "", "evicted");
    check_news_of(epoch, 4, "", "");
    check_news("last_id=0", "1,2", "");
    close_redis();
}

/* It comes by another instance, with its text or as a mark. */
TEST(redis_transient_of_another_instance) {
    char epoch[17];
    unsigned long long us = 1732412400000000ULL;
    peer *c;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    open_redis();
    strcpy(epoch, store_epoch_of(publish_and_look("news", 1)));
    c = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    store_tellf("PUBLISH|lp1:{e54}:news|%s 2 %llu ~{\"n\":2}", epoch, us + 2);
    settle(&w);
    CHECK_STR(lp_s(ns_of(take(c))), "2");
    c = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    store_tellf("PUBLISH|lp1:{e54}:news|%s 3 %llu ~", epoch, us + 3);
    settle(&w);
    CHECK(has(take(c)->body, "\"evicted\""));
    store_tellf("PUBLISH|lp1:{e54}:news|%s 4 %llu {\"n\":4}", epoch, us + 4);
    settle(&w);
    check_news_of(epoch, 1, "2,4", "evicted");
    pass(&w, 2000);
    check_news_of(epoch, 1, "4", "evicted");
    check_news_of(epoch, 3, "4", "");
    CHECK_INT(stats_of(&w).messages, 4);
    close_redis();
}

/* Who was woken by a mark that is not kept, and has gone, does not count as woken by the message
   after it. */
TEST(redis_transient_and_how_many_waited) {
    char epoch[17];
    peer *c;
    open_redis();
    strcpy(epoch, store_epoch_of(look(&w, "news", "now")));
    c = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    store_tellf("PUBLISH|lp1:{e54}:news|%s 1 1732412400000001 ~", epoch);
    settle(&w);
    CHECK(has(take(c)->body, "\"more\":true")); /* which asks the store */
    CHECK_INT(stats_of(&w).waiters, 0);
    store_tellf("PUBLISH|lp1:{e54}:news|%s 2 1732412400000002 {\"n\":2}", epoch);
    settle(&w);
    CHECK_INT(w.s->hub.newest->seq, 2);
    CHECK_INT(w.s->hub.newest->woken, 0);
    close_redis();
}

/* Where nothing else is held, nothing is left of them, and a cursor before them is told. */
TEST(redis_transient_ones_alone_leave_nothing) {
    char epoch[17];
    int n;
    open_redis();
    strcpy(epoch, store_epoch_of(look(&w, "news", "now")));
    for (n = 1; n <= 50; n++) publish_transient("news", n);
    CHECK_STR(lp_s(store_tell("XLEN|lp1:{e54}x:news")), ":0\r\n");
    pass(&w, 2100);
    check_news_of(epoch, 7, "", "evicted");
    check_news_of(epoch, 50, "", "");
    check_news("last_id=0", "", "");
    publish_number("news", 51);
    check_news_of(epoch, 50, "51", "");
    check_news("last_id=0", "51", "");
    close_redis();
}

/* Far more of them than a page has messages, amid others. */
TEST(redis_transient_ones_in_pages) {
    static const int runs[] = {15, 17, 64, 150, 900};
    char epoch[17], us[20], since[40], want[60];
    size_t i;
    int n;
    for (i = 0; i < LPI_COUNT(runs); i++) {
        answer *a;
        open_redis();
        a = publish_and_look("news", 1);
        strcpy(epoch, store_epoch_of(a));
        sprintf(us, "%.17s", text_of(a->body, "timestamp"));
        for (n = 0; n < runs[i]; n++) publish_transient("news", 2 + n);
        publish_number("news", 2 + n);
        pass(&w, 10000); /* the channel is forgotten here */
        CHECK_INT(stats_of(&w).channels, 0);
        sprintf(want, "1,%d", 2 + n);
        check_news("last_id=0", want, "");
        check_news_of(epoch, 1, want + 2, "evicted");
        check_news_of(epoch, 2 + n / 2, want + 2, "evicted");
        check_news_of(epoch, 1 + n, want + 2, "");
        sprintf(since, "since=%s", us);
        sprintf(want, "\"n\":%d}", 2 + n);
        a = askf(&w, dial(&w), "/api/poll/news?timeout=0&%s", since);
        CHECK(has(a->body, want) && has(a->body, "\"evicted\""));
        close_redis();
    }
}

/* Where there is no room for more than a message at a time, one who asks since a time goes on
   behind the marks that it has passed, and is told. */
TEST(redis_transient_ones_and_since) {
    char us[20], want[40];
    int count;
    for (count = 1; count < 12; count++) {
        answer *a;
        int n;
        w.cfg.history_bytes = 1000;
        open_redis();
        a = publish_and_look("news", 1);
        sprintf(us, "%.17s", text_of(a->body, "timestamp"));
        for (n = 0; n < count; n++) publish_transient("news", 2 + n);
        for (; n < count + 8; n++) publish_number("news", 2 + n);
        n = count;
        pass(&w, 10000); /* the channel is forgotten here */
        a = askf(&w, dial(&w), "/api/poll/news?timeout=0&since=%s", us);
        CHECK_INT(a->status, 200);
        sprintf(want, "\"n\":%d}", 2 + n);
        CHECK(has(a->body, want) && has(a->body, "\"evicted\""));
        if (count == 11) CHECK(stats_of(&w).redis_pages > 4);
        CHECK(stats_of(&w).redis_pages < 24);
        close_redis();
    }
}

/* Marks that nothing is before any more are dropped when the channel is opened. */
TEST(redis_transient_ones_behind_what_has_gone) {
    static const int runs[] = {1, 63, 64, 65, 130};
    char epoch[17];
    size_t i;
    int n;
    for (i = 0; i < LPI_COUNT(runs); i++) {
        w.cfg.history_count = (uint32_t)runs[i] + 2;
        open_redis();
        strcpy(epoch, store_epoch_of(publish_and_look("news", 1)));
        for (n = 0; n < runs[i]; n++) publish_transient("news", 2 + n);
        publish_number("news", 1001);
        publish_number("news", 1002);
        pass(&w, 10000);
        check_news("last_id=0", "1001,1002", "");
        CHECK_STR(lp_s(store_tell("XLEN|lp1:{e54}x:news")), ":2\r\n");
        check_news_of(epoch, 1, "1001,1002", "evicted");
        check_news_of(epoch, 1 + runs[i], "1001,1002", "");
        close_redis();
    }
}

/* An empty stream would remember the last number, and refuse those of a channel whose hash was
   evicted. */
TEST(redis_transient_ones_leave_no_empty_stream) {
    w.cfg.history_age_ms = 60000;
    w.cfg.redis_keep_ms = 60000;
    open_redis();
    publish_number("news", 1);
    pass(&w, 59000);
    publish_transient("news", 2);
    publish_transient("news", 3);
    pass(&w, 2000); /* the message is too old */
    check_news("last_id=0", "", "");
    CHECK_STR(lp_s(store_tell("EXISTS|lp1:{e54}x:news")), ":0\r\n");
    redis_evict(store, 0, "lp1:{e54}h:news");
    pass(&w, 10000);
    publish_number("news", 1);
    check_news("last_id=0", "1", "");
    close_redis();
}

/* Two that wait for the same messages: only who had a cursor is told of what it missed. */
TEST(redis_transient_ones_and_who_asks_for_all) {
    int turn, i;
    for (turn = 0; turn < 2; turn++) {
        char target[2][80], epoch[17];
        peer *c[2];
        open_redis();
        strcpy(epoch, store_epoch_of(publish_and_look("news", 1)));
        publish_transient("news", 2);
        publish_number("news", 3);
        pass(&w, 10000);
        sprintf(target[turn], "/api/poll/news?timeout=0&last_id=0");
        sprintf(target[!turn], "/api/poll/news?timeout=0&last_id=%s-0", epoch);
        path->held = 1;
        for (i = 0; i < 2; i++) {
            c[i] = dial(&w);
            get(c[i], target[i]);
            settle(&w);
        }
        path->held = 0;
        pass(&w, 100);
        for (i = 0; i < 2; i++) {
            answer *a = take(c[i]);
            CHECK_STR(lp_s(ns_of(a)), "1,3");
            CHECK_INT(has(a->body, "\"evicted\""), i != turn);
        }
        close_redis();
    }
}

/* Over HTTP, several at a time, and a second time with the same key. */
TEST(redis_transient_over_http) {
    peer *c = NULL, *p;
    char first[200];
    answer *a;
    open_redis();
    p = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    c = dial(&w);
    post_key(c, "/api/publish/news?transient=1", "[{\"n\":1},{\"n\":2}]", "key");
    settle(&w);
    a = take(c);
    CHECK_INT(a->status, 200);
    CHECK(has(a->body, "-1\",\"") && has(a->body, "-2\"]"));
    CHECK(has(a->body, "\"waiters\":1"));
    strcpy(first, text_of(a->body, "timestamp"));
    CHECK_STR(lp_s(ns_of(take(p))), "1,2");
    post_key(c, "/api/publish/news?transient=1", "[{\"n\":1},{\"n\":2}]", "key");
    settle(&w);
    a = take(c);
    CHECK_STR(lp_s(text_of(a->body, "timestamp")), first);
    CHECK_STR(lp_s(store_tell("XLEN|lp1:{e54}x:news")), ":0\r\n");
    post(c, "/api/publish/news?transient=2", "{}");
    settle(&w);
    CHECK_STR(take(c)->body, "{\"error\":\"Bad transient\"}");
    close_redis();
}

TEST(redis_policy_of_age) {
    open_redis_policy();
    publish_number("brief", 1);
    publish_number("long", 1);
    pass(&w, 300);
    publish_number("brief", 2);
    CHECK_STR(lp_s(all_of("brief", "0")), "1,2");
    pass(&w, 210);
    CHECK_STR(lp_s(all_of("brief", "0")), "2");
    pass(&w, 300);
    CHECK_STR(lp_s(all_of("brief", "0")), "");
    CHECK_STR(lp_s(all_of("long", "0")), "1");
    close_redis();
}

/* Another instance, whose policy is not the same for a while, has the store hold more: a mark is not
   kept here where all before it goes. */
TEST(redis_policy_and_marks) {
    char epoch[17];
    unsigned key = (unsigned)(lpi_store_hash(lp_s("two")) >> 52);
    int n;
    open_redis_policy();
    strcpy(epoch, store_epoch_of(publish_and_look("two", 1)));
    park_new(&w, "/api/poll/two?timeout=60&last_id=now");
    for (n = 2; n < 6; n++) {
        store_tellf("PUBLISH|lp1:{%03x}:two|%s %d %llu ~", key, epoch, n, 1732412400000000ULL + (unsigned)n);
        settle(&w);
        CHECK_INT(stats_of(&w).messages, n == 2 ? 2 : 0);
        park_new(&w, "/api/poll/two?timeout=60&last_id=now");
    }
    close_redis();
}

TEST(redis_policy_of_waiters_and_refusals) {
    peer *c;
    open_redis_policy();
    c = dial(&w);
    get(c, "/api/poll/one?timeout=50");
    settle(&w);
    CHECK_INT(ask(&w, dial(&w), "/api/poll/one?timeout=50")->status, 429);
    CHECK_INT(ask(&w, dial(&w), "/api/poll/no")->status, 403);
    CHECK_INT(publish_here("no", "{}")->status, 403);
    CHECK_INT(lp_publish(w.s, lp_s("no"), lp_s("{}"), NULL), LP_ERR_REFUSED);
    CHECK_INT(lp_publish(w.s, lp_s("one"), lp_s("{}"), NULL), LP_PENDING);
    CHECK_INT(the_store()->pending, 1);
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    close_redis();
}

TEST(redis_client_gone_while_publishing) {
    int how;
    for (how = 0; how < 2; how++) {
        peer *c;
        open_redis();
        path->held_back = 1;
        c = dial(&w);
        post(c, "/api/publish/news", "{\"n\":1}");
        settle(&w);
        reset(c);
        settle(&w);
        CHECK(c->closed);
        CHECK_INT(w.s->loops[0].phases[LPI_ABANDONED], 1); /* the outcome names its record */
        CHECK_INT(w.s->loops[0].connections.used, 1);
        if (how) {
            peer *other = dial(&w); /* which must get another one */
            CHECK_INT(ask(&w, other, "/api/publish/")->status, 404);
            CHECK_INT(w.s->loops[0].connections.used, 2);
            leave(&w, other);
            redis_path_cut(&net, path);
        }
        path->held_back = 0;
        settle(&w);
        CHECK_INT(w.s->loops[0].connections.used, 0);
        CHECK_INT(stats_of(&w).connections, 0);
        wait_up(1000);
        CHECK_STR(lp_s(all_of("news", "0")), "1");
        close_redis();
    }
}

TEST(redis_client_ends_behind_a_publish) {
    peer *c;
    answer *a;
    open_redis();
    path->held_back = 1;
    c = dial(&w);
    post(c, "/api/publish/news", "{\"n\":1}");
    settle(&w);
    finish(c);
    CHECK(settle(&w) < 20);
    CHECK(pass(&w, 1000) < 20);
    CHECK_SILENT(c);
    path->held_back = 0;
    settle(&w);
    a = take(c);
    CHECK_INT(a->status, 200);
    settle(&w);
    CHECK(c->closed);
    close_redis();
}

TEST(redis_pipelined_behind_a_publish) {
    peer *c;
    open_redis();
    path->held_back = 1;
    c = dial(&w);
    post(c, "/api/publish/news", "{\"n\":1}");
    get(c, "/api/poll/news?last_id=0&timeout=0");
    settle(&w);
    post(c, "/api/publish/news", "{\"n\":2}");
    get(c, "/api/poll/news?last_id=0&timeout=0");
    CHECK(settle(&w) < 20);
    CHECK(pass(&w, 100) < 20);
    CHECK_SILENT(c);
    path->held_back = 0;
    settle(&w);
    CHECK_STR(member(take(c)->body, "status"), "published");
    CHECK_STR(lp_s(ns_of(take(c))), "1");
    CHECK_STR(member(take(c)->body, "status"), "published");
    CHECK_STR(lp_s(ns_of(take(c))), "1,2");
    CHECK_SILENT(c);
    close_redis();
}

/* A publish that is served behind the stores' turn in a step has signalled nobody: the loop must
   not sleep over it. */
TEST(redis_pipelined_publishes_do_not_wait) {
    peer *c;
    uint64_t from;
    int i, n;
    open_redis();
    c = dial(&w);
    settle(&w);
    from = now_ms(&w);
    for (i = 0; i < 5; i++) {
        post(c, "/api/publish/news", "{}");
        get(c, "/api/poll/news?last_id=now&timeout=0");
    }
    for (n = 0; n < 200 && count_of(unheard(c), "HTTP/1.1 200") < 10; n++) turn(&w, 1000);
    CHECK_INT(count_of(unheard(c), "HTTP/1.1 200"), 10);
    CHECK(now_ms(&w) - from <= 1);
    close_redis();
}

TEST(redis_drain_waits_for_outcomes) {
    int how;
    for (how = 0; how < 2; how++) {
        peer *c, *p;
        answer *a;
        open_redis();
        p = park_new(&w, "/api/poll/news");
        c = dial(&w);
        path->held_back = 1;
        post(c, "/api/publish/news", "{\"n\":1}");
        settle(&w);
        lp_stop(w.s);
        pass(&w, how ? 4990 : 3000);
        CHECK_SILENT(c);
        CHECK_INT(turn(&w, 0), LP_OK);
        if (!how) path->held_back = 0;
        pass(&w, 20);
        a = take(c);
        CHECK_INT(a->status, how ? 504 : 200);
        CHECK_STR(heading(a, "Connection"), "close");
        take(p);
        pass(&w, 5000);
        CHECK_INT(turn(&w, 0), LP_ERR_STOPPED);
        close_redis();
    }
}

TEST(redis_other_loops_publish_too) {
    peer *c[3], *p;
    int i;
    w.cfg.loops = 3;
    open_redis();
    p = dial(&w);
    get(p, "/api/poll/news");
    settle(&w);
    for (i = 0; i < 3; i++) {
        c[i] = dial(&w);
        settle(&w);
    }
    for (i = 0; i < 3; i++) {
        post(c[i], "/api/publish/news", "{\"n\":1}");
        settle(&w);
        settle(&w);
        CHECK_INT(take(c[i])->status, 200);
    }
    CHECK_STR(lp_s(ns_of(take(p))), "1");
    path->held_back = 1;
    for (i = 0; i < 3; i++) post(c[i], "/api/publish/news", "{\"n\":2}");
    settle(&w);
    for (i = 0; i < 3; i++) reset(c[i]);
    settle(&w);
    path->held_back = 0;
    settle(&w);
    settle(&w);
    CHECK_INT(stats_of(&w).connections, 1);
    close_redis();
}

/* ---- polls ---- */

TEST(redis_poll_without_waiting_fetches) {
    peer *c;
    open_redis();
    publish_number("news", 1);
    path->late_us = 50000;
    c = dial(&w);
    get(c, "/api/poll/news?last_id=0&timeout=0");
    pass(&w, 150);
    CHECK_SILENT(c);
    pass(&w, 60); /* it is subscribed to, and opened */
    CHECK_STR(lp_s(ns_of(take(c))), "1");
    close_redis();
}

TEST(redis_poll_of_an_empty_channel) {
    answer *a;
    open_redis();
    a = look(&w, "news", "0");
    CHECK_INT(a->status, 200);
    CHECK(!has(a->body, "reset"));
    a = look(&w, "news", text_of(a->body, "last_id"));
    CHECK_INT(a->status, 200);
    CHECK(!has(a->body, "reset"));
    close_redis();
}

/* A cursor that nobody gave costs one look at the store, and then says so. */
TEST(redis_poll_with_a_stranger_s_cursor) {
    answer *a;
    uint64_t opens;
    open_redis();
    publish_and_look("news", 1);
    opens = stats_of(&w).redis_opens;
    a = look(&w, "news", "0123456789abcdef-5");
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}"));
    CHECK_STR(lp_s(ns_of(a)), "1");
    CHECK_INT(stats_of(&w).redis_opens, opens + 1);
    a = look(&w, "news", text_of(a->body, "last_id"));
    CHECK(!has(a->body, "reset"));
    CHECK_INT(stats_of(&w).redis_opens, opens + 1);
    close_redis();
}

TEST(redis_poll_while_away) {
    peer *c, *late;
    answer *a;
    open_redis();
    publish_number("known", 1);
    c = park_new(&w, "/api/poll/known?timeout=60&last_id=now");
    redis_crash(store);
    settle(&w);
    CHECK(!is_up());
    late = dial(&w);
    get(late, "/api/poll/other?timeout=0&last_id=0");
    pass(&w, 1900);
    CHECK_SILENT(late); /* it may come back */
    pass(&w, 3200);
    a = take(late);
    CHECK_INT(a->status, 503);
    CHECK_STR(member(a->body, "error"), "Channel not available yet");
    CHECK(heading(a, "Retry-After").length > 0);
    CHECK(!late->closed);
    a = ask(&w, late, "/api/poll/other?timeout=20&last_id=0"); /* by now it is refused at once */
    CHECK_INT(a->status, 503);
    CHECK_SILENT(c); /* its cursor is known */
    another = NULL;
    redis_restart(store, REDIS_AOF, redis_position(store), 0);
    wait_up(12000);
    CHECK(is_up());
    settle(&w);
    CHECK_SILENT(late);
    publish_number("known", 2);
    a = take(c);
    CHECK_INT(a->status, 200);
    close_redis();
}

/* Before the first connection is made, polls wait for it as they do after a loss. */
TEST(redis_poll_before_it_is_up) {
    peer *c;
    prepare_redis();
    path->late_us = 100000;
    open_world(&w);
    c = dial(&w);
    get(c, "/api/poll/news?last_id=0&timeout=0");
    pass(&w, 1500);
    CHECK_INT(take(c)->status, 200);
    close_redis();
}

TEST(redis_poll_that_is_never_answered) {
    peer *c;
    answer *a;
    open_redis();
    c = dial(&w);
    store->oom = 1; /* opens fail, and the store stays up */
    get(c, "/api/poll/news?last_id=0&timeout=0");
    CHECK(pass(&w, 4900) < 200);
    CHECK_SILENT(c);
    pass(&w, 200);
    a = take(c);
    CHECK_INT(a->status, 503);
    store->oom = 0;
    get(c, "/api/poll/news?last_id=0&timeout=0");
    pass(&w, 2000);
    CHECK_INT(take(c)->status, 200);
    close_redis();
}

/* What is not cached is fetched, in order and without a gap. */
TEST(redis_pages) {
    char want[4000] = "";
    const char *got;
    int i, round;
    w.cfg.redis_pending_max = 100000;
    open_redis();
    for (i = 0; i < 500; i++) {
        char json[30];
        sprintf(json, "{\"n\":%d}", i);
        CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s(json), NULL), LP_PENDING);
        sprintf(want + strlen(want), "%s%d", i ? "," : "", i);
    }
    settle(&w);
    for (round = 0; round < 2; round++) {
        got = all_of("news", "0");
        CHECK_STR(lp_s(got), want);
    }
    CHECK(stats_of(&w).redis_pages >= 7);
    pass(&w, 10000); /* the channel is forgotten here */
    CHECK_INT(stats_of(&w).channels, 0);
    CHECK_STR(lp_s(all_of("news", "0")), want);
    close_redis();
}

/* A client of the basic dialect that is far behind: its place is found by reading a few pages, not
   all from the floor on. */
TEST(redis_pages_of_since) {
    char target[100], json[30], want[30], us[20];
    answer *a;
    int i;
    uint64_t pages = 0, most = 0;
    w.cfg.redis_pending_max = 100000;
    open_redis();
    for (i = 0; i < 900; i++) {
        sprintf(json, "{\"n\":%d}", i);
        CHECK_INT(lp_publish(w.s, lp_s("news"), lp_s(json), NULL), LP_PENDING);
    }
    settle(&w);
    a = look(&w, "news", "0");
    sprintf(us, "%.17s", text_of(a->body, "timestamp"));
    for (i = atoi(text_of(a->body, "count")); i < 850; i++) {
        uint64_t before = stats_of(&w).redis_pages;
        sprintf(target, "/api/poll/news?timeout=0&since=%s", us);
        a = ask(&w, dial(&w), target);
        CHECK_INT(a->status, 200);
        CHECK(!has(a->body, "reset"));
        sprintf(want, "\"n\":%d}", i);
        CHECK(has(a->body, want));
        sprintf(us, "%.17s", text_of(a->body, "timestamp"));
        pages += stats_of(&w).redis_pages - before;
        if (stats_of(&w).redis_pages - before > most) most = stats_of(&w).redis_pages - before;
    }
    CHECK(most <= 6); /* log2(900 / 64), one for the rest and one for the next message */
    CHECK(pages >= 750);
    close_redis();
}

TEST(redis_a_text_that_is_no_message) {
    const char *epoch;
    uint64_t us = UINT64_C(1732412346000000);
    answer *a;
    char cursor[50];
    open_redis();
    epoch = store_epoch_of(publish_and_look("news", 1));
    publish_number("news", 2);
    pass(&w, 10000);
    CHECK_INT(stats_of(&w).channels, 0);
    CHECK(strstr(store_tellf("XADD|lp1:{e54}x:news|3-%llu|m|rubbish", (unsigned long long)us), "-"));
    CHECK_STR(lp_s(store_tellf("HSET|lp1:{e54}h:news|s|3|t|%llu", (unsigned long long)us)), ":0\r\n");
    sprintf(cursor, "%s-1", epoch);
    a = look(&w, "news", cursor);
    CHECK_INT(a->status, 200);
    CHECK(has(a->body, "\"reset\":{\"news\":\"evicted\"}"));
    CHECK_STR(lp_s(ns_of(a)), "");
    CHECK(w.log_lines[LP_LOG_WARN] >= 1);
    CHECK(strstr(w.log, "unreadable"));
    publish_number("news", 4);
    a = look(&w, "news", text_of(a->body, "last_id"));
    CHECK(!has(a->body, "reset"));
    CHECK_STR(lp_s(ns_of(a)), "4");
    close_redis();
}

/* An operator deletes a message of the history: what comes before it counts as gone, and nothing
   else. */
TEST(redis_a_message_is_deleted) {
    const char *epoch;
    answer *a;
    const char *range;
    char cursor[50], want[200] = "";
    int i;
    open_redis();
    epoch = store_epoch_of(publish_and_look("news", 1));
    for (i = 2; i <= 30; i++) publish_number("news", i);
    for (i = 10; i <= 30; i++) sprintf(want + strlen(want), "%s%d", i > 10 ? "," : "", i);
    pass(&w, 10000);
    CHECK_INT(stats_of(&w).channels, 0);
    range = strstr(store_tell("XRANGE|lp1:{e54}x:news|9|9"), "9-");
    CHECK(range);
    CHECK_STR(lp_s(store_tellf("XDEL|lp1:{e54}x:news|%.*s", (int)strcspn(range, "\r"), range)), ":1\r\n");
    sprintf(cursor, "%s-5", epoch);
    a = look(&w, "news", cursor);
    CHECK_INT(a->status, 200);
    CHECK(has(a->body, "\"reset\":{\"news\":\"evicted\"}"));
    CHECK_STR(lp_s(ns_of(a)), want);
    sprintf(cursor, "%s-9", epoch);
    a = look(&w, "news", cursor);
    CHECK(!has(a->body, "reset"));
    CHECK_STR(lp_s(ns_of(a)), want);
    CHECK_INT(w.log_lines[LP_LOG_WARN], 1);
    close_redis();
}

TEST(redis_news_that_are_no_message) {
    static const char *const texts[] = {"", "rubbish", "0123456789abcdef", "0123456789abcdef 1 ",
                                        "0123456789abcdef 1 1 rubbish", "0123456789abcdef 0 0 {}"};
    peer *c;
    size_t i;
    open_redis();
    publish_number("news", 1);
    c = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    for (i = 0; i < LPI_COUNT(texts); i++) {
        store_tellf("PUBLISH|lp1:{e54}:news|%s", texts[i]);
        pass(&w, 1000);
        CHECK(is_up());
        CHECK_SILENT(c);
    }
    publish_number("news", 2);
    CHECK_STR(lp_s(ns_of(take(c))), "2");
    store_tell("PUBLISH|lp1:{e54}:|x"); /* of no channel */
    store_tell("PUBLISH|lp1:{e54}:nobody|0123456789abcdef 1 1 {}");
    settle(&w);
    CHECK(is_up());
    CHECK_INT(stats_of(&w).redis_connects, 1);
    close_redis();
}

/* As another instance would publish. */
static void news(const char *epoch, int seq) {
    store_tellf("PUBLISH|lp1:{e54}:news|%s %d %llu {\"n\":%d}", epoch, seq,
          (unsigned long long)UINT64_C(1732412400000000) + (unsigned)seq, seq);
}

TEST(redis_news_ahead_of_others_are_joined) {
    const char *epoch;
    uint64_t opens;
    peer *c;
    answer *a;
    open_redis();
    epoch = store_epoch_of(publish_and_look("news", 1));
    c = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    opens = stats_of(&w).redis_opens;
    news(epoch, 4);
    news(epoch, 3);
    news(epoch, 4);
    pass(&w, 50);
    CHECK_SILENT(c);
    CHECK_INT(w.s->hub.beside_bytes > 0, 1);
    news(epoch, 2);
    settle(&w);
    a = take(c);
    CHECK_STR(lp_s(ns_of(a)), "2,3,4");
    CHECK_INT(w.s->hub.beside_bytes, 0);
    pass(&w, 1000);
    CHECK_INT(stats_of(&w).redis_opens, opens);
    CHECK(stats_of(&w).redis_gaps >= 2);
    close_redis();
}

TEST(redis_news_ahead_of_lost_ones_lead_to_an_open) {
    const char *epoch;
    uint64_t opens;
    peer *c;
    open_redis();
    epoch = store_epoch_of(publish_and_look("news", 1));
    c = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    opens = stats_of(&w).redis_opens;
    news(epoch, 3);
    pass(&w, 90);
    CHECK_INT(stats_of(&w).redis_opens, opens);
    pass(&w, 20);
    CHECK_INT(stats_of(&w).redis_opens, opens + 1);
    CHECK(pass(&w, 5000) < 300); /* of 3 the store knows nothing; that is no reason to spin */
    CHECK_SILENT(c);
    publish_number("news", 2);
    pass(&w, 200);
    CHECK(has(unheard(c), "\"n\":2"));
    close_redis();
}

/* They tell that the state here is not the store's, which is looked at without delay. */
TEST(redis_news_of_another_epoch_lead_to_an_open) {
    uint64_t opens;
    peer *c;
    open_redis();
    publish_and_look("news", 1);
    c = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    opens = stats_of(&w).redis_opens;
    news("0123456789abcdef", 2);
    settle(&w);
    CHECK(stats_of(&w).redis_opens > opens);
    CHECK(pass(&w, 3000) < 100);
    CHECK(stats_of(&w).redis_opens <= opens + 2);
    CHECK_SILENT(c);
    publish_number("news", 2);
    CHECK_STR(lp_s(ns_of(take(c))), "2");
    close_redis();
}

/* A message ahead stays until those before it have come, however long that takes. */
TEST(redis_news_ahead_are_asked_for_again) {
    const char *epoch;
    peer *c;
    open_redis();
    epoch = store_epoch_of(publish_and_look("news", 1));
    c = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    news(epoch, 3);
    pass(&w, 1000);
    CHECK_SILENT(c);
    /* Now the store has both, and news of them are lost. */
    store_tellf("XADD|lp1:{e54}x:news|2-1732412400000002|m|%s 2 1732412400000002 {\"n\":2}", epoch);
    store_tellf("XADD|lp1:{e54}x:news|3-1732412400000003|m|%s 3 1732412400000003 {\"n\":3}", epoch);
    store_tell("HSET|lp1:{e54}h:news|s|3|t|1732412400000003");
    pass(&w, 1000);
    CHECK_STR(lp_s(ns_of(take(c))), "2,3");
    close_redis();
}

/* More of them than are kept: the channel is opened again without delay. */
TEST(redis_news_ahead_are_not_kept_without_end) {
    const char *epoch;
    uint64_t opens;
    int i;
    open_redis();
    epoch = store_epoch_of(publish_and_look("news", 1));
    park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    opens = stats_of(&w).redis_opens;
    for (i = 0; i < LPI_EARLY_MAX; i++) news(epoch, 3 + i);
    settle(&w);
    CHECK_INT(stats_of(&w).redis_opens, opens);
    news(epoch, 3 + i);
    settle(&w);
    CHECK_INT(stats_of(&w).redis_opens, opens + 1);
    close_redis();
}

/* The same while one is under way, whose answer may be older than what came since: it is opened
   once more after that. */
TEST(redis_news_ahead_while_an_open_is_under_way) {
    const char *epoch;
    uint64_t opens;
    char text[100];
    int i;
    peer *c;
    open_redis();
    epoch = store_epoch_of(publish_and_look("news", 1));
    c = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    news(epoch, 3);
    opens = stats_of(&w).redis_opens;
    redis_stop(store);
    pass(&w, 150);
    CHECK_INT(stats_of(&w).redis_opens, opens + 1);
    for (i = 1; i <= LPI_EARLY_MAX; i++) {
        sprintf(text, "%s %d %d {\"n\":%d}", epoch, 3 + i, 3 + i, 3 + i);
        redis_deliver(store, redis_slice_of("lp1:{e54}:news"), redis_slice_of(text));
    }
    settle(&w);
    CHECK_INT(stats_of(&w).redis_opens, opens + 1);
    redis_continue(store);
    settle(&w);
    CHECK_INT(stats_of(&w).redis_opens, opens + 2);
    CHECK_SILENT(c);
    publish_number("news", 2);
    pass(&w, 200);
    CHECK(has(unheard(c), "\"n\":2"));
    close_redis();
}

/* A channel that is waited for does not expire in the store. */
TEST(redis_a_quiet_channel_is_kept) {
    uint64_t opens;
    w.cfg.redis_empty_ms = 6000;
    open_redis();
    park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    settle(&w);
    opens = stats_of(&w).redis_opens;
    pass(&w, 1500);
    CHECK_INT(stats_of(&w).redis_opens, opens);
    pass(&w, 2500);
    CHECK_INT(stats_of(&w).redis_opens, opens + 1);
    pass(&w, 20000);
    CHECK_INT(stats_of(&w).redis_epochs, 0);
    close_redis();
}

TEST(redis_a_forgotten_channel_is_unsubscribed) {
    peer *c;
    open_redis();
    c = park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    CHECK_INT(subscriptions(), 2); /* and that of the heartbeat */
    leave(&w, c);
    pass(&w, 4900);
    CHECK_INT(subscriptions(), 2);
    pass(&w, 1200);
    CHECK_INT(subscriptions(), 1);
    CHECK_INT(stats_of(&w).channels, 0);
    park_new(&w, "/api/poll/news?timeout=60&last_id=now");
    CHECK_INT(subscriptions(), 2);
    close_redis();
}

/* lp_destroy with requests in every state that they can be in. */
TEST(redis_destroyed_while_publishing) {
    uint32_t loops;
    for (loops = 1; loops <= 3; loops += 2) {
        peer *c[6], *p;
        int i;
        w.cfg.loops = loops;
        open_redis();
        p = dial(&w);
        get(p, "/api/poll/news?timeout=20&last_id=0");
        for (i = 0; i < 6; i++) {
            c[i] = dial(&w);
            settle(&w);
        }
        path->held_back = 1;
        for (i = 0; i < 6; i++) post(c[i], "/api/publish/news", "{}");
        settle(&w);
        get(c[1], "/api/poll/news?timeout=20");
        reset(c[2]);
        finish(c[3]);
        p = dial(&w);
        get(p, "/api/poll/other?timeout=20&last_id=0");
        settle(&w);
        if (loops == 3) redis_path_cut(&net, path); /* the outcomes lie in inboxes */
        if (loops == 3) settle_loop(&w, 0);
        close_redis();
    }
}

TEST(redis_stopped_while_away) {
    peer *p, *c;
    open_redis();
    p = park_new(&w, "/api/poll/known?timeout=60&last_id=now");
    path->refuses = 1;
    redis_path_cut(&net, path);
    settle(&w);
    c = dial(&w);
    get(c, "/api/poll/other?timeout=60&last_id=0");
    settle(&w);
    lp_stop(w.s);
    CHECK(pass(&w, 2100) < 200);
    CHECK_INT(take(p)->status, 200);
    CHECK_INT(take(c)->status, 503);
    CHECK(pass(&w, 3000) < 200); /* they linger */
    CHECK_INT(turn(&w, 0), LP_ERR_STOPPED);
    close_redis();
}

/* ---- several stores ---- */

TEST(redis_channels_over_two_stores) {
    redis *second;
    redis_path *there;
    peer *c;
    answer *a;
    char target[300];
    int i;
    w.cfg.redis = "redis://127.0.0.1:6379,redis://127.0.0.1:6380";
    prepare_redis();
    second = redis_create(unit_seed + 1, w.k.wall_us + w.k.now_us);
    there = redis_path_add(&net, "127.0.0.1", 6380, second);
    open_world(&w);
    for (i = 0; i < 100; i++) pass(&w, 1);
    CHECK_INT(stats_of(&w).redis_up, 2);
    CHECK_INT(lpi_store_index(lp_s("chat"), 2), 0);
    CHECK_INT(lpi_store_index(lp_s("news"), 2), 1);
    publish_number("chat", 1);
    publish_number("news", 2);
    CHECK_INT(store->keys.key_count, 3); /* and the layout */
    CHECK_INT(second->keys.key_count, 3);
    a = look(&w, "chat,news", "0,0");
    CHECK_STR(lp_s(ns_of(a)), "1,2");
    sprintf(target, "/api/poll/chat,news?timeout=60&last_id=%s", text_of(a->body, "last_id"));
    c = dial(&w);
    park(&w, c, target);
    there->refuses = 1; /* one is away: the other goes on */
    redis_path_cut(&net, there);
    pass(&w, 3000);
    CHECK_SILENT(c);
    CHECK_INT(stats_of(&w).redis_up, 1);
    CHECK_STR(health()->body, "{\"status\":\"ok\",\"redis\":\"partly\"}");
    CHECK_INT(publish_here("news", "{}")->status, 503);
    publish_number("chat", 3);
    CHECK_STR(lp_s(ns_of(take(c))), "3");
    a = look(&w, "chat,news", "0,0");
    CHECK_INT(a->status, 503);
    CHECK_STR(lp_s(all_of("chat", "0")), "1,3");
    there->refuses = 0;
    pass(&w, 15000);
    CHECK_INT(stats_of(&w).redis_up, 2);
    CHECK_STR(lp_s(ns_of(look(&w, "chat,news", "0,0"))), "1,2,3");
    if (another) redis_close(another);
    another = NULL;
    close_world(&w);
    redis_net_free(&net);
    redis_destroy(store);
    redis_destroy(second);
    memset(&w, 0, sizeof w);
}

/* ---- many channels ---- */

TEST(redis_many_channels_come_back) {
    enum { CHANNELS = 700 };
    peer *c[CHANNELS];
    char target[100];
    int i;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    w.unchecked = 1;
    open_redis();
    for (i = 0; i < CHANNELS; i++) {
        c[i] = dial(&w);
        sprintf(target, "/api/poll/channel%d?timeout=60&last_id=now", i);
        get(c[i], target);
        if (i % 50 == 0) settle(&w);
    }
    settle(&w);
    CHECK_INT(subscriptions(), CHANNELS + 1);
    CHECK_INT(stats_of(&w).redis_opens, CHANNELS);
    redis_path_cut(&net, path);
    wait_up(1000);
    settle(&w);
    CHECK_INT(subscriptions(), CHANNELS + 1);
    for (i = 0; i < CHANNELS; i++) {
        CHECK_SILENT(c[i]);
        sprintf(target, "channel%d", i);
        CHECK_INT(lp_publish(w.s, lp_s(target), lp_s("{\"n\":1}"), NULL), LP_PENDING);
        if (i % 100 == 0) settle(&w);
    }
    settle(&w);
    for (i = 0; i < CHANNELS; i++) CHECK_STR(lp_s(ns_of(take(c[i]))), "1");
    w.unchecked = 0;
    check_world(&w);
    close_redis();
}

/* The time-based dialect, HEAD and a limit, on a channel that is not here yet. */
TEST(redis_other_kinds_of_polls_fetch) {
    answer *a;
    peer *c;
    int i;
    open_redis();
    for (i = 0; i < 40; i++) publish_number("news", i);
    c = dial(&w);
    a = ask(&w, c, "/api/poll/news?since=1&timeout=0");
    CHECK_INT(a->status, 200);
    CHECK_STR(lp_s(ns_of(a)), "0"); /* one at a time */
    pass(&w, 10000);
    CHECK_INT(stats_of(&w).channels, 0);
    say(c, "HEAD /api/poll/news?last_id=0&timeout=0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    settle(&w);
    CHECK_INT(take_head(c)->status, 200);
    CHECK_SILENT(c);
    pass(&w, 10000);
    a = ask(&w, c, "/api/poll/news?last_id=0&timeout=0&limit=3");
    CHECK_STR(lp_s(ns_of(a)), "0,1,2");
    CHECK(has(a->body, "\"more\":true"));
    a = ask(&w, c, "/api/poll/news?last_id=now&timeout=0");
    CHECK_STR(lp_s(ns_of(a)), "");
    CHECK_INT(ask(&w, c, "/api/poll/news?last_id=x&timeout=0")->status, 400);
    close_redis();
}

/* A browser may read a refusal too. */
TEST(redis_refusals_carry_cors) {
    peer *c;
    answer *a;
    int i;
    w.cfg.cors = "https://a.example";
    open_redis();
    store->oom = 1;
    c = dial(&w);
    say(c, "GET /api/poll/news?timeout=0 HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.example"
           "\r\n\r\nGET /api/poll/news?timeout=0 HTTP/1.1\r\nHost: localhost\r\n"
           "Origin: https://a.example\r\n\r\n");
    pass(&w, 11000);
    for (i = 0; i < 2; i++) {
        a = take(c);
        CHECK_INT(a->status, 503);
        CHECK_STR(heading(a, "Access-Control-Allow-Origin"), "https://a.example");
        CHECK_STR(heading(a, "Retry-After"), "5");
    }
    CHECK(!c->closed);
    close_redis();
}

/* ---- a store whose answers the test writes ---- */

enum { ENDS = 64 };

/* The far end of a connection: those for commands have even numbers. */
static struct far_end {
    stream *s; /* NULL: the server has closed its own */
    char *heard;
    size_t length;
} ends[ENDS];
static int end_count;

static stream *far_connect(kernel *k, const lp_address *to, const char *unix_path, int *error) {
    struct far_end *e = &ends[end_count % ENDS];
    (void)k, (void)to, (void)unix_path, (void)error;
    free(e->heard);
    memset(e, 0, sizeof *e);
    e->s = (stream *)redis_zeroed(sizeof *e->s);
    e->s->window = SIZE_MAX;
    e->s->far = e;
    end_count++;
    return e->s;
}

static void far_sent(stream *s, const lp_slice *parts, size_t n) {
    struct far_end *e = (struct far_end *)s->far;
    e->heard = (char *)redis_realloc(e->heard, e->length + n + 1);
    for (; n; parts++) {
        size_t part = parts->length < n ? parts->length : n;
        memcpy(e->heard + e->length, parts->bytes, part);
        e->length += part;
        n -= part;
    }
    e->heard[e->length] = 0;
}

static void far_ended(stream *s) { (void)s; }

static void far_closed(stream *s) {
    ((struct far_end *)s->far)->s = NULL;
    free(s->in);
    free(s);
}

static const kernel_net far_net = {far_connect, far_sent, far_ended, far_closed};

static struct far_end *latest(int events) { return &ends[(end_count - 2 + events) % ENDS]; }

/* It says that, as far as the connection is still there. */
static void far_say(int events, const char *text) {
    struct far_end *e = latest(events);
    if (e->s) redis_link_put(e->s, text, strlen(text));
    settle(&w);
}

static char *far_text[4];

/* What the server has said since the last time. */
static lp_slice far_hear(int events) {
    struct far_end *e = latest(events);
    static int next;
    lp_slice out;
    next = (next + 1) % 4;
    free(far_text[next]);
    out = lpi_slice(far_text[next] = e->heard, e->length);
    e->heard = NULL;
    e->length = 0;
    if (!out.bytes) out = lp_s("");
    return out;
}

#define R40 "0123456789012345678901234567890123456789"
#define INFO "$69\r\nrole:master\r\nmaster_replid:" R40 "\r\n\r\n"
#define SHA_CALL "$40\r\nca11567890123456789012345678901234567890\r\n"
#define SHA_BEAT "$40\r\nbea1567890123456789012345678901234567890\r\n"
#define BEAT "*2\r\n$40\r\n" R40 "\r\n$15\r\n0/1 1000 300000\r\n"

static char own[64]; /* the name that the heartbeat comes back on */

static void far_push(const char *kind, const char *name, const char *text) {
    char push[400];
    int n = sprintf(push, "*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", (int)strlen(kind), kind,
                    (int)strlen(name), name);
    if (!text) strcpy(push + n, ":1\r\n");
    else sprintf(push + n, "$%d\r\n%s\r\n", (int)strlen(text), text);
    far_say(1, push);
}

static void open_far(void) {
    prepare_redis();
    end_count = 0;
    w.k.net = &far_net;
    w.k.outside = NULL;
    open_world(&w);
    settle(&w);
    CHECK_INT(end_count, 2);
}

static void find_own(void) {
    lp_slice all = lpi_slice(latest(1)->heard, latest(1)->length);
    const char *at = (const char *)memmem(all.bytes, all.length, "lp1@", 4);
    CHECK(at);
    memcpy(own, at, 20);
    own[20] = 0;
}

/* All that is asked until it is up. */
static void far_greet(void) {
    find_own();
    far_say(0, INFO SHA_CALL SHA_BEAT);
    far_say(1, INFO);
    far_push("subscribe", own, NULL);
    far_say(0, BEAT);
    far_push("message", own, "");
    CHECK(is_up());
    far_hear(0);
    far_hear(1);
}

static void open_far_up(void) {
    open_far();
    far_greet();
}

static void close_far(void) {
    int i;
    close_redis();
    for (i = 0; i < ENDS; i++) {
        free(ends[i].heard);
        CHECK(!ends[i].s);
        memset(&ends[i], 0, sizeof ends[i]);
    }
    for (i = 0; i < 4; i++) {
        free(far_text[i]);
        far_text[i] = NULL;
    }
}

/* The words of the command that stands first, with '|' between; it is taken. */
static const char *command_of(lp_slice *said) {
    static char words[8][3000];
    static int next;
    char *to = words[next++ & 7];
    lp_slice rest = *said;
    lpi_resp resp;
    lpi_resp_value v;
    size_t length = 0;
    long n;
    memset(&resp, 0, sizeof resp);
    n = lpi_resp_read(&resp, rest.bytes, rest.length);
    CHECK(n > 0);
    rest.length = (size_t)n;
    *said = lpi_slice(said->bytes + n, said->length - (size_t)n);
    v = lpi_resp_take(&rest);
    CHECK_INT(v.kind, LPI_RESP_ARRAY);
    while (rest.length) {
        v = lpi_resp_take(&rest);
        CHECK_INT(v.kind, LPI_RESP_TEXT);
        if (v.text.length > 200) v.text.length = 15; /* a script */
        CHECK(length + v.text.length + 2 < sizeof words[0]);
        if (length) to[length++] = '|';
        if (v.text.length) memcpy(to + length, v.text.bytes, v.text.length);
        length += v.text.length;
    }
    to[length] = 0;
    return to;
}

#define CHECK_COMMAND(said, want) CHECK_STR(lp_s(command_of(&(said))), want)

TEST(redis_greeting) {
    static const struct {
        const char *url, *auth, *select;
    } known[] = {{"redis://127.0.0.1", NULL, NULL},
                 {"redis://:p@127.0.0.1/0", "AUTH|p", "SELECT|0"},
                 {"redis://u:p@127.0.0.1/7", "AUTH|u|p", "SELECT|7"}};
    size_t i;
    for (i = 0; i < LPI_COUNT(known); i++) {
        lp_slice commands, events;
        char want[200];
        w.cfg.redis = known[i].url;
        open_far();
        find_own();
        commands = far_hear(0);
        events = far_hear(1);
        if (known[i].auth) CHECK_COMMAND(commands, known[i].auth);
        if (known[i].select) CHECK_COMMAND(commands, known[i].select);
        CHECK_COMMAND(commands, "INFO");
        CHECK_COMMAND(commands, "SCRIPT|LOAD|local h,x,i=KEY");
        CHECK_COMMAND(commands, "SCRIPT|LOAD|local info=redi");
        CHECK_INT(commands.length, 0);
        if (known[i].auth) CHECK_COMMAND(events, known[i].auth);
        CHECK_COMMAND(events, "INFO");
        sprintf(want, "SUBSCRIBE|%s", own);
        CHECK_COMMAND(events, want);
        CHECK_INT(events.length, 0);
        if (known[i].auth) far_say(0, "+OK\r\n+OK\r\n"), far_say(1, "+OK\r\n");
        far_say(0, INFO SHA_CALL SHA_BEAT);
        CHECK_INT(far_hear(0).length, 0); /* the news are not ready */
        far_say(1, INFO);
        far_push("subscribe", own, NULL);
        commands = far_hear(0);
        sprintf(want, "EVALSHA|bea1567890123456789012345678901234567890|1|lp1:layout|"
                      "0/1 1000 300000|10000|%s", own);
        CHECK_COMMAND(commands, want);
        CHECK_INT(commands.length, 0);
        far_push("message", own, "");
        CHECK(!is_up()); /* the echo alone is not enough */
        far_say(0, BEAT);
        CHECK(is_up());
        close_far();
    }
}

TEST(redis_greeting_through_a_small_window) {
    int i;
    prepare_redis();
    end_count = 0;
    w.k.net = &far_net;
    w.k.outside = NULL;
    open_world(&w);
    while (!end_count) turn(&w, 0);
    for (i = 0; i < 2000; i++) {
        latest(0)->s->window = latest(1)->s->window = 7;
        settle(&w);
    }
    latest(0)->s->window = latest(1)->s->window = SIZE_MAX;
    CHECK(has(lpi_slice(latest(0)->heard, latest(0)->length), "return {r,was or ARGV[1]}\n\r\n"));
    far_greet();
    close_far();
}

TEST(redis_without_an_echo_it_is_not_up) {
    open_far();
    find_own();
    far_say(0, INFO SHA_CALL SHA_BEAT);
    far_say(1, INFO);
    far_push("subscribe", own, NULL);
    far_say(0, BEAT);
    pass(&w, 4990);
    CHECK(!is_up() && latest(0)->s);
    pass(&w, 20);
    CHECK(!ends[0].s && !ends[1].s);
    CHECK(!is_up());
    close_far();
}

TEST(redis_heartbeat_needs_reply_and_echo) {
    int how;
    for (how = 0; how < 3; how++) {
        open_far_up();
        pass(&w, 2005);
        CHECK(has(far_hear(0), "lp1:layout"));
        if (how == 0) far_say(0, BEAT);
        if (how == 1) far_push("message", own, "");
        pass(&w, 4980);
        CHECK(is_up());
        CHECK_INT(far_hear(0).length, 0); /* one at a time */
        pass(&w, 20);
        CHECK(!is_up());
        CHECK(strstr(w.log, "no answer in time"));
        close_far();
    }
}

TEST(redis_news_of_nobody_are_unsubscribed) {
    lp_slice said;
    open_far_up();
    far_push("message", "lp1:{e54}:news", "0123456789abcdef 7 19 {}");
    pass(&w, 10);
    said = far_hear(1);
    CHECK_COMMAND(said, "UNSUBSCRIBE|lp1:{e54}:news");
    CHECK_INT(said.length, 0);
    far_push("unsubscribe", "lp1:{e54}:news", NULL);
    CHECK(is_up());
    close_far();
}

TEST(redis_two_servers_are_refused) {
    open_far();
    find_own();
    far_say(0, INFO SHA_CALL SHA_BEAT);
    far_say(1, "$69\r\nrole:master\r\nmaster_replid:9123456789012345678901234567890123456789\r\n\r\n");
    far_push("subscribe", own, NULL);
    far_say(0, BEAT);
    far_push("message", own, "");
    CHECK(!is_up());
    CHECK(strstr(w.log, "two servers"));
    close_far();
}

/* Which errors are that call's alone, which end the connections, and which are for the operator
   to mend. */
TEST(redis_errors_of_a_call) {
    static const struct {
        const char *error;
        int up, slow;
    } known[] = {{"OOM command not allowed", 1, 0}, {"MISCONF Redis is configured", 1, 0},
                 {"NOREPLICAS Not enough good replicas", 1, 0}, {"BUSY Redis is busy", 1, 0},
                 {"ERR user_script:1: x", 1, 0}, {"WRONGTYPE Operation", 1, 0},
                 {"READONLY You can't write", 0, 0}, {"LOADING Redis is loading", 0, 0},
                 {"MASTERDOWN Link with MASTER", 0, 0}, {"NOSCRIPT No matching script", 0, 0},
                 {"NOAUTH Authentication required.", 0, 1}, {"NOPERM this user has no", 0, 1},
                 {"WRONGPASS invalid", 0, 1}};
    size_t i;
    for (i = 0; i < LPI_COUNT(known); i++) {
        peer *c;
        char text[100];
        int count;
        open_far_up();
        count = end_count;
        c = dial(&w);
        post(c, "/api/publish/news", "{}");
        settle(&w);
        CHECK(has(far_hear(0), "EVALSHA"));
        sprintf(text, "-%s\r\n", known[i].error);
        far_say(0, text);
        CHECK_INT(take(c)->status, 503); /* nothing was published */
        CHECK_INT(is_up(), known[i].up);
        pass(&w, 1900);
        if (!known[i].up) CHECK_INT(end_count > count, !known[i].slow);
        if (known[i].slow) {
            pass(&w, 8200);
            CHECK(end_count > count);
        }
        close_far();
    }
}

/* Whatever is said instead of an outcome, the outcome is unknown, and it is told. */
TEST(redis_malformed_outcomes) {
    static const char *const bad[] = {
        "?", "\r\n", "+OK\r\n", ":1\r\n", "$-1\r\n", "*0\r\n", "*-1\r\n", "*1\r\n$40\r\n" R40 "\r\n",
        "*2\r\n$40\r\n" R40 "\r\n$3\r\nabc\r\n", "*2\r\n$40\r\n" R40 "\r\n$-1\r\n",
        "*5\r\n$40\r\n" R40 "\r\n$16\r\n0123456789abcdef\r\n$1\r\n0\r\n$1\r\n7\r\n:1\r\n",
        "*5\r\n$40\r\n" R40 "\r\n$16\r\n0123456789abcdeg\r\n$1\r\n7\r\n$1\r\n7\r\n:1\r\n",
        "*5\r\n$40\r\n" R40 "\r\n$16\r\n0123456789abcdef\r\n$1\r\nx\r\n$1\r\n7\r\n:1\r\n",
        "*4\r\n$40\r\n" R40 "\r\n$16\r\n0123456789abcdef\r\n$1\r\n7\r\n$-1\r\n", "*4097\r\n",
        "$99999999\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"};
    size_t i;
    for (i = 0; i < LPI_COUNT(bad); i++) {
        peer *c;
        told_once t;
        open_far_up();
        c = dial(&w);
        post(c, "/api/publish/news", "{}");
        settle(&w);
        CHECK_INT(publish_async("news", "{}", &t), LP_OK);
        settle(&w);
        far_say(0, bad[i]);
        if (is_up()) unit_fail(__FILE__, __LINE__, "%s passes", bad[i]);
        CHECK_INT(take(c)->status, 504);
        CHECK_TOLD(t, LP_ERR_UNKNOWN);
        CHECK_INT(stats_of(&w).redis_unknown, 2);
        CHECK_INT(w.log_lines[LP_LOG_ERROR], 1);
        close_far();
    }
}

/* An open's reply of that server, with SEQ 7, timestamp 19, born at 5, and nothing held. */
static void far_open(const char *replid) {
    char text[400];
    sprintf(text, "*11\r\n$%d\r\n%s\r\n$16\r\n0123456789abcdef\r\n$1\r\n7\r\n$2\r\n19\r\n$1\r\n5\r\n"
            "$0\r\n\r\n$1\r\n0\r\n$1\r\n0\r\n$2\r\n20\r\n$0\r\n\r\n*0\r\n", (int)strlen(replid), replid);
    far_say(0, text);
}

/* A poll waits on "news", whose open is under way. */
static peer *far_poll(const char *last_id) {
    char target[60];
    peer *c = dial(&w);
    snprintf(target, sizeof target, "/api/poll/news?last_id=%s", last_id);
    get(c, target);
    settle(&w);
    far_push("subscribe", "lp1:{e54}:news", NULL);
    return c;
}

/* Who deletes a channel sees that here, however late the news of it are. */
TEST(redis_deletion_is_seen_where_it_is_asked_for) {
    peer *c, *d;
    uint64_t opens;
    w.cfg.admin_token = "secret";
    open_far_up();
    c = far_poll("0123456789abcdef-7");
    far_open(R40);
    CHECK_INT(stats_of(&w).waiters, 1);
    opens = stats_of(&w).redis_opens;
    d = dial(&w);
    say(d, "DELETE /api/channels/news HTTP/1.1\r\nHost: localhost\r\n"
           "Authorization: Bearer secret\r\n\r\n");
    settle(&w);
    CHECK_SILENT(d);
    far_say(0, "*5\r\n$40\r\n" R40 "\r\n$16\r\nfedcba9876543210\r\n$1\r\n7\r\n$2\r\n25\r\n:1\r\n");
    CHECK_STR(take(d)->body, "{\"status\":\"deleted\"}");
    CHECK_INT(stats_of(&w).redis_opens, opens + 1);
    CHECK_SILENT(c); /* until the store has told what there is now */
    close_far();
}

/* Of another server: nothing of it counts, and it is greeted anew. */
TEST(redis_open_of_another_identity) {
    peer *c;
    open_far_up();
    c = far_poll("0123456789abcdef-8");
    CHECK(far_hear(0).length);
    far_open("x");
    CHECK(!is_up());
    CHECK_SILENT(c);
    close_far();
}

/* What was last known of the channel goes with each open: birth, SEQ, timestamp. */
TEST(redis_opens_say_what_is_known) {
    static const char *const known[] = {"|0|0|0|0|1000|", "|5|7|19|19|1000|"};
    int i;
    open_far_up();
    for (i = 0; i < 2; i++) {
        lp_slice said;
        if (!i) far_poll("now");
        else far_push("subscribe", "lp1:{e54}:news", NULL);
        said = far_hear(0);
        CHECK(strstr(command_of(&said), known[i]));
        far_open(R40);
        far_say(0, "+malformed\r\n"); /* nothing was asked */
        CHECK(!is_up());
        pass(&w, 500);
        far_greet();
        settle(&w);
    }
    close_far();
}

/* One that fails is sent again, a second later. */
TEST(redis_open_that_failed_is_sent_again) {
    peer *c;
    open_far_up();
    c = far_poll("now");
    far_hear(0);
    far_say(0, "-OOM command not allowed\r\n");
    CHECK(is_up());
    pass(&w, 900);
    CHECK(!far_hear(0).length);
    pass(&w, 200);
    CHECK(far_hear(0).length);
    far_open(R40);
    CHECK_SILENT(c);
    CHECK_INT(stats_of(&w).waiters, 1);
    close_far();
}

/* Of another server: its word counts, and it is greeted anew. */
TEST(redis_outcome_of_another_identity) {
    peer *c;
    open_far_up();
    c = dial(&w);
    post(c, "/api/publish/news", "{}");
    settle(&w);
    far_say(0, "*5\r\n$1\r\nx\r\n$16\r\n0123456789abcdef\r\n$1\r\n7\r\n$2\r\n19\r\n:3\r\n");
    CHECK_STR(member(take(c)->body, "message_id"), "0123456789abcdef-7");
    CHECK(!is_up());
    close_far();
}

static void random_reply(char *to, int depth) {
    static const char *const texts[] = {R40, "0123456789abcdef", "7", "19", "0", "", "x",
                                        "0123456789abcdef 7 19 {\"n\":1}", "subscribe", "message",
                                        "18446744073709551615", "7-19", "lp1:{e54}:news", "{}",
                                        "0123456789abcdef 8 20 {}", "unsubscribe"};
    uint32_t n;
    switch (unit_below(depth > 2 ? 8 : 12)) {
    case 0: sprintf(to, ":%d\r\n", (int)unit_below(20) - 2); break;
    case 1: sprintf(to, "$-1\r\n"); break;
    case 2: sprintf(to, "+OK\r\n"); break;
    case 8: case 9: case 10: case 11:
        n = unit_one_in(3) ? 11 : unit_below(13);
        to += sprintf(to, "*%u\r\n", (unsigned)n);
        while (n--) {
            random_reply(to, depth + 1);
            to += strlen(to);
        }
        break;
    default: {
        const char *text = texts[unit_below(LPI_COUNT(texts))];
        sprintf(to, "$%d\r\n%s\r\n", (int)strlen(text), text);
    }
    }
}

/* Well-formed nonsense, on both connections: the worst that comes of it is a new connection. */
TEST(redis_random_answers) {
    static char text[200000];
    int rounds = unit_rounds(300), n;
    while (rounds--) {
        peer *c, *p;
        open_far_up();
        p = dial(&w);
        get(p, "/api/poll/news?last_id=0&timeout=20");
        c = dial(&w);
        post(c, "/api/publish/news", "{}");
        settle(&w);
        for (n = 0; n < 20 && is_up(); n++) {
            random_reply(text, 0);
            if (unit_one_in(3)) far_push("subscribe", "lp1:{e54}:news", NULL);
            far_say((int)unit_below(2), text);
            pass(&w, unit_below(300));
        }
        pass(&w, 6000);
        take(c);
        close_far();
    }
}

/* ---- whichever allocation fails ---- */

/* Publish, poll, wait, lose the connection, and do it again. What goes wrong is an answer;
   in the end all is well. */
static void do_it_all(void) {
    int i;
    peer *c, *p;
    open_world(&w);
    wait_up(3000);
    p = dial(&w);
    get(p, "/api/poll/news?timeout=30&last_id=0");
    pass(&w, 100);
    for (i = 0; i < 3; i++) {
        char json[30];
        c = dial(&w);
        sprintf(json, "{\"n\":%d}", i);
        post_key(c, "/api/publish/news", json, "key");
        post(c, "/api/publish/other", json);
        pass(&w, 50);
        lp_publish(w.s, lp_s("news"), lp_s(json), NULL);
        lp_publish(w.s, lp_s("third"), lp_s("[{},{}]"), NULL);
        lp_publish_transient(w.s, lp_s("news"), lp_s(json), NULL);
        pass(&w, 200);
    }
    lp_channel_delete(w.s, lp_s("news"));
    pass(&w, 200);
    c = dial(&w);
    get(c, "/api/poll/news,other?timeout=0&last_id=0,0");
    pass(&w, 1500);
    redis_path_cut(&net, path);
    pass(&w, 3000);
    c = dial(&w);
    get(c, "/api/poll/other?timeout=0&last_id=0");
    pass(&w, 7000);
}

TEST(redis_allocations_fail_one_by_one) {
    size_t k, failed = 1;
    for (k = 1; failed; k += unit_rounds(20) == 20 ? 1 : 7) {
        peer *c;
        prepare_redis();
        prepare_world(&w);
        w.m.fail_at = k;
        if (lp_create(&w.s, &w.cfg) != LP_OK) {
            CHECK_INT(w.m.blocks, 0);
            CHECK_INT(kernel_open_count(&w.k, K_FREE), 0);
            w.s = NULL;
            close_redis();
            continue;
        }
        lp_destroy(w.s);
        w.m.calls = 0;
        do_it_all();
        failed = w.m.failed;
        w.m.fail_at = 0;
        wait_up(11000);
        CHECK(is_up());
        c = dial(&w);
        get(c, "/api/poll/fresh?timeout=20");
        pass(&w, 1500);
        publish_number("fresh", 1);
        pass(&w, 1500);
        CHECK_STR(lp_s(ns_of(take(c))), "1");
        close_redis();
    }
    CHECK(k > 60);
}

/* One system call after another fails, of those that the connections to the store make too. */
TEST(redis_system_calls_fail_one_by_one) {
    static const kernel_call calls[] = {K_RECV, K_SEND, K_POLLER_SET, K_CONNECT, K_CONNECTED,
                                        K_RANDOM, K_SHUTDOWN};
    size_t i;
    for (i = 0; i < LPI_COUNT(calls); i++) {
        uint32_t skip = 0;
        int failed = 1;
        for (; failed; skip += unit_rounds(20) == 20 ? 1 : 7) {
            peer *c;
            prepare_redis();
            fault(&w, calls[i], EIO, skip + (calls[i] == K_RANDOM || calls[i] == K_POLLER_SET ? 8u : 0u),
                  1);
            do_it_all();
            failed = w.k.faults[calls[i]].times == 0;
            w.k.faults[calls[i]].times = 0;
            wait_up(11000);
            CHECK(is_up());
            c = dial(&w);
            get(c, "/api/poll/fresh?timeout=20");
            pass(&w, 1500);
            publish_number("fresh", 1);
            pass(&w, 1500);
            CHECK_STR(lp_s(ns_of(take(c))), "1");
            close_redis();
        }
    }
}

/* For a while there is no memory at all; polls that came before are told what was published, and
   nothing twice. */
TEST(redis_no_memory_for_a_while) {
    int rounds = unit_rounds(100), all = rounds, compared = 0;
    while (rounds--) {
        char want[600] = "", got[600] = "";
        peer *c;
        int i, n = 0;
        open_redis();
        c = dial(&w);
        get(c, "/api/poll/news?timeout=60&last_id=0");
        settle(&w);
        for (i = 0; i < 40; i++) {
            char json[30];
            if (i == 5) {
                w.m.calls = 0;
                w.m.fail_at = 1 + unit_below(40);
                w.m.fail_forever = 1;
            }
            if (i == 25) w.m.fail_at = 0;
            sprintf(json, "{\"n\":%d}", i);
            lp_publish(w.s, lp_s("news"), lp_s(json), NULL);
            pass(&w, unit_below(200));
            if (unit_one_in(10)) redis_path_cut(&net, path);
        }
        pass(&w, 15000);
        CHECK(is_up());
        while (unheard(c).length) {
            answer *a = take(c);
            if (a->status != 200) break;
            sprintf(got + strlen(got), "%s%s", *got && *ns_of(a) ? "," : "", ns_of(a));
            n++;
            sayf(c, "GET /api/poll/news?timeout=1&last_id=%s HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 text_of(a->body, "last_id"));
            pass(&w, 3000);
            if (!strcmp(ns_of(a), "")) break;
        }
        strcpy(want, all_of("news", "0"));
        if (n && !c->closed) {
            CHECK_STR(lp_s(got), want);
            compared++;
        }
        close_redis();
    }
    CHECK(compared > all / 4);
}
