/* F, redis: what it computes alone: which store, which keys, what a URL and INFO say, options. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

/* ---- which store ---- */

TEST(store_hash_is_fnv_1a) { /* the vectors of its authors */
    CHECK(lpi_store_hash(lp_s("")) == UINT64_C(0xcbf29ce484222325));
    CHECK(lpi_store_hash(lp_s("a")) == UINT64_C(0xaf63dc4c8601ec8c));
    CHECK(lpi_store_hash(lp_s("foobar")) == UINT64_C(0x85944171f73967e8));
    CHECK(lpi_store_hash(lpi_slice("\0", 1)) == UINT64_C(0xaf63bd4c8601b7df));
    CHECK(lpi_store_hash(lp_s("\xff")) == UINT64_C(0xaf64724c8602eb6e));
}

/* Made from the paper's listing. Channels stay where these say for as long as there are stores
   with history: other instances, and those that come after them, count on it. */
TEST(store_index_stays_for_ever) {
    static const struct {
        const char *name;
        uint32_t at[16];
    } known[] = {{"news", {0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3}},
                 {"chat", {0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4}},
                 {"a", {0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 12, 12, 12, 12}},
                 {"channel-1", {0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
                 {"\xc3\xa4", {0, 1, 1, 3, 3, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7}}};
    size_t i;
    uint32_t n;
    for (i = 0; i < LPI_COUNT(known); i++)
        for (n = 1; n <= 16; n++)
            CHECK_INT(lpi_store_index(lp_s(known[i].name), n), known[i].at[n - 1]);
}

/* With one store more a channel stays, or moves to the new one; all have about as many. */
TEST(store_index_moves_few) {
    enum { NAMES = 16000 };
    uint32_t n, i;
    for (n = 1; n <= 16; n++) {
        uint32_t count[17] = {0}, moved = 0;
        for (i = 0; i < NAMES; i++) {
            char name[40];
            uint32_t at, next;
            sprintf(name, "channel %u", (unsigned)i);
            at = lpi_store_index(lp_s(name), n);
            next = lpi_store_index(lp_s(name), n + 1);
            CHECK(at < n);
            CHECK(next == at || next == n);
            moved += next != at;
            count[at]++;
        }
        for (i = 0; i < n; i++) CHECK(count[i] > NAMES / n * 8 / 10 && count[i] < NAMES / n * 12 / 10);
        CHECK(moved > NAMES / (n + 1) * 8 / 10 && moved < NAMES / (n + 1) * 12 / 10);
    }
}

/* ---- keys ---- */

static const char *key_of(const char *prefix, char kind, const char *name) {
    static char buffers[8][400];
    static int next;
    char *to = buffers[next++ % 8];
    lp_server *server = (lp_server *)calloc(1, sizeof *server);
    lpi_store store;
    lp_text text;
    memset(&store, 0, sizeof store);
    server->config.redis_prefix = prefix;
    store.server = server;
    lpi_text_init(&text, &lpi_libc_memory);
    lpi_store_key(&store, &text, kind, lp_s(name));
    CHECK(!text.failed && text.length < 400);
    memcpy(to, text.bytes, text.length);
    to[text.length] = 0;
    lpi_text_free(&text);
    free(server);
    return to;
}

TEST(store_keys_as_documented) {
    CHECK_STR(lp_s(key_of("lp1", 'h', "news")), "lp1:{e54}h:news");
    CHECK_STR(lp_s(key_of("lp1", 'x', "news")), "lp1:{e54}x:news");
    CHECK_STR(lp_s(key_of("lp1", 'i', "news")), "lp1:{e54}i:news");
    CHECK_STR(lp_s(key_of("lp1", 0, "news")), "lp1:{e54}:news");
    CHECK_STR(lp_s(key_of("app", 0, "\xc3\xa4")), "app:{0ac}:\xc3\xa4");
    CHECK_STR(lp_s(key_of("", 'h', "a")), ":{af6}h:a");
}

/* Redis takes for the slot what stands in the first braces: whatever the name, all four keys of
   a channel have the same, of three digits. */
TEST(store_keys_are_in_one_slot) {
    int rounds = unit_rounds(2000);
    while (rounds--) {
        char name[20], want[4];
        size_t n = 1 + unit_below(19), i;
        const char kinds[] = "hxi";
        for (i = 0; i < n; i++) name[i] = "{}:ab\n"[unit_below(6)];
        name[n] = 0;
        sprintf(want, "%03x", (unsigned)(lpi_store_hash(lp_s(name)) >> 52));
        for (i = 0; i < 4; i++) {
            const char *key = key_of("lp1", i < 3 ? kinds[i] : (char)0, name);
            const char *open = strchr(key, '{'), *close = strchr(open, '}');
            CHECK_BYTES(open + 1, (size_t)(close - open - 1), want, 3);
            CHECK_STR(lp_s(close + (i < 3 ? 3 : 2)), name);
        }
    }
}

TEST(store_name_of_a_key) {
    lp_server *server = (lp_server *)calloc(1, sizeof *server);
    lpi_store store;
    memset(&store, 0, sizeof store);
    server->config.redis_prefix = "lp1";
    store.server = server;
    CHECK_STR(lpi_store_name(&store, lp_s("lp1:{e54}:news")), "news");
    CHECK_STR(lpi_store_name(&store, lp_s("lp1:{e54}:n")), "n");
    CHECK_INT(lpi_store_name(&store, lp_s("lp1:{e54}:")).length, 0);
    CHECK_INT(lpi_store_name(&store, lp_s("lp1@0123")).length, 0);
    CHECK_INT(lpi_store_name(&store, lp_s("")).length, 0);
    free(server);
}

/* ---- URLs ---- */

static int parse_url(lpi_store *store, const char *url) {
    memset(store, 0, sizeof *store);
    return lpi_store_parse(store, lp_s(url));
}

static void check_url(const char *url, const char *user, const char *password, const char *host,
                      int port, const char *database) {
    lpi_store store;
    if (parse_url(&store, url)) unit_fail(__FILE__, __LINE__, "%s is refused", url);
    CHECK_STR(store.user, user);
    CHECK_STR(store.password, password);
    CHECK_STR(store.host, host);
    CHECK_INT(store.address.port, port);
    CHECK_STR(store.database, database);
    CHECK_INT(store.path.length, 0);
}

TEST(store_urls) {
    lpi_store store;
    check_url("redis://h", "", "", "h", 6379, "");
    check_url("redis://127.0.0.1:7000", "", "", "127.0.0.1", 7000, "");
    check_url("redis://h/", "", "", "h", 6379, "");
    check_url("redis://h:1/3", "", "", "h", 1, "3");
    check_url("redis://h:65535/0", "", "", "h", 65535, "0");
    check_url("redis://h:", "", "", "h", 6379, ""); /* RFC 3986 has an empty port */
    check_url("redis://:secret@h", "", "secret", "h", 6379, "");
    check_url("redis://ann:secret@h:7/15", "ann", "secret", "h", 7, "15");
    check_url("redis://ann:a:b@h", "ann", "a:b", "h", 6379, "");
    check_url("redis://ann:p@ss/w@h:7/1", "ann", "p@ss/w", "h", 7, "1");
    check_url("redis://[::1]", "", "", "::1", 6379, "");
    check_url("redis://[2001:db8::1]:7000/2", "", "", "2001:db8::1", 7000, "2");
    check_url("redis://u:p@[::1]:7000/2", "u", "p", "::1", 7000, "2");
    CHECK_INT(parse_url(&store, "unix:/run/redis.sock"), 0);
    CHECK_STR(store.path, "/run/redis.sock");
    CHECK_INT(store.host.length, 0);
    CHECK_INT(parse_url(&store, "unix:r"), 0);
    CHECK_STR(store.path, "r");
}

static const char *const bad_urls[] = {
    "x", "h", "h:6379", "//h", "http://h", "rediss://h", "Redis://h", "redis:", "redis:/",
    "redis:h", "redis://", "redis:///", "redis:///0", "redis://:6379", "redis://@", "redis://@h",
    "redis://u@h", "redis://u:p@", "redis://u:p@:1", "redis://h:0", "redis://h:65536",
    "redis://h:99999999999999999999", "redis://h:x", "redis://h:+1", "redis://h:1x",
    "redis://h:01", "redis://h:1:2", "redis://::1", "redis://[::1", "redis://[::1]1",
    "redis://[::1]:x", "redis://[::1]:0", "redis://[]", "redis://[]:1", "redis://[h]",
    "redis://h/x", "redis://h/-1", "redis://h/0/1", "redis://h/00", "unix:",
    "unix", "redis://a,", ",redis://a", "redis://a,,redis://b", "redis://a,x", ",",
    "redis://a,unix:"};

TEST(store_bad_urls_are_a_bad_configuration) {
    size_t i;
    for (i = 0; i < LPI_COUNT(bad_urls); i++) {
        static world w;
        memset(&w, 0, sizeof w);
        prepare_world(&w);
        w.os.connect = kernel_dial;
        w.os.connected = kernel_dialled;
        w.cfg.redis = bad_urls[i];
        if (lp_create(&w.s, &w.cfg) != LP_ERR_CONFIG)
            unit_fail(__FILE__, __LINE__, "%s is not refused", bad_urls[i]);
        CHECK_STR(lp_s(w.log), "bad configuration: redis");
        CHECK_INT(w.log_lines[LP_LOG_ERROR], 1);
        CHECK_INT(w.m.blocks, 0);
        CHECK_INT(kernel_open_count(&w.k, K_FREE), 0);
        free_world(&w);
    }
}

/* ---- options ---- */

static lp_result create_with(world *w, int may_connect) {
    lp_result result;
    prepare_world(w);
    w->os.connect = may_connect ? kernel_dial : NULL;
    w->os.connected = may_connect ? kernel_dialled : NULL;
    result = lp_create(&w->s, &w->cfg);
    if (result != LP_OK) {
        CHECK_INT(w->m.blocks, 0);
        CHECK_INT(kernel_open_count(&w->k, K_FREE), 0);
        free_world(w);
    }
    return result;
}

TEST(store_options_have_defaults) {
    world w = {0};
    w.cfg.redis = "redis://h";
    CHECK_INT(create_with(&w, 1), LP_OK);
    CHECK_STR(lp_s(w.s->config.redis_prefix), "lp1");
    CHECK_INT(w.s->config.redis_timeout_ms, 5000);
    CHECK_INT(w.s->config.redis_keep_ms, 3600000);
    CHECK_INT(w.s->config.redis_empty_ms, 300000);
    CHECK_INT(w.s->config.redis_retry_ms, 300000);
    CHECK_INT(w.s->config.redis_pending_max, 10000);
    CHECK_INT(w.s->store_count, 1);
    CHECK_STR(lp_s(w.s->stores[0].layout), "0/1 1000 300000");
    close_world(&w);
}

TEST(store_no_redis_no_store) {
    world w = {0};
    w.cfg.redis = "";
    CHECK_INT(create_with(&w, 1), LP_OK);
    CHECK(!w.s->stores && !w.s->store_count);
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s("{}"), NULL), LP_OK);
    close_world(&w);
}

TEST(store_without_connect_is_a_bad_configuration) {
    world w = {0};
    w.cfg.redis = "redis://h";
    CHECK_INT(create_with(&w, 0), LP_ERR_CONFIG);
}

TEST(store_channels_are_kept_as_long_as_their_messages) {
    static const struct {
        uint32_t keep, age, want;
    } known[] = {{0, 0, 3600000}, {0, 3600001, 3600001}, {1000, 0, 300000}, {1000, 500, 1000},
                 {1000, 1001, 1001}, {0, LP_UNLIMITED, LP_UNLIMITED},
                 {LP_UNLIMITED, 5, LP_UNLIMITED}, {1, LP_UNLIMITED, LP_UNLIMITED}};
    size_t i;
    for (i = 0; i < LPI_COUNT(known); i++) {
        static world w;
        memset(&w, 0, sizeof w);
        w.cfg.redis = "redis://h";
        w.cfg.redis_keep_ms = known[i].keep;
        w.cfg.history_age_ms = known[i].age;
        CHECK_INT(create_with(&w, 1), LP_OK);
        CHECK_INT(w.s->config.redis_keep_ms, known[i].want);
        close_world(&w);
    }
}

TEST(store_options_out_of_range) {
    static const struct {
        const char *name, *value;
    } bad[] = {{"redis_timeout_ms", "1000000001"}, {"redis_keep_ms", "1000000001"},
               {"redis_empty_ms", "unlimited"},    {"redis_retry_ms", "off"},
               {"redis_pending_max", "1000001"},   {"redis_timeout_ms", "off"}};
    lp_config cfg;
    size_t i;
    memset(&cfg, 0, sizeof cfg);
    for (i = 0; i < LPI_COUNT(bad); i++)
        CHECK_INT(lp_config_set(&cfg, bad[i].name, bad[i].value), LP_ERR_ARG);
}

TEST(store_prefix_of_32_bytes_and_no_more) {
    world w = {0}, more = {0};
    w.cfg.redis = more.cfg.redis = "redis://h";
    w.cfg.redis_prefix = "12345678901234567890123456789012";
    more.cfg.redis_prefix = "123456789012345678901234567890123";
    CHECK_INT(create_with(&w, 1), LP_OK);
    close_world(&w);
    CHECK_INT(create_with(&more, 1), LP_ERR_CONFIG);
    CHECK_STR(lp_s(more.log), "bad configuration: redis_prefix");
}

TEST(store_sixteen_and_no_more) {
    world w = {0}, more = {0};
    char list[400] = "";
    int i;
    for (i = 0; i < 16; i++) sprintf(list + strlen(list), "%sredis://h%d", i ? " ,\t" : "", i);
    w.cfg.redis = list;
    CHECK_INT(create_with(&w, 1), LP_OK);
    CHECK_INT(w.s->store_count, 16);
    CHECK_STR(w.s->stores[15].host, "h15");
    CHECK_STR(lp_s(w.s->stores[15].layout), "15/16 1000 300000");
    CHECK(strcmp(w.s->stores[14].own, w.s->stores[15].own) != 0);
    close_world(&w);
    strcat(list, ",redis://h16");
    more.cfg.redis = list;
    CHECK_INT(create_with(&more, 1), LP_ERR_CONFIG);
}

/* The strings of the configuration need not last. */
TEST(store_strings_are_copied) {
    world w = {0};
    char *list = strdup("redis://ann:secret@[::1]:7/3,unix:/run/r");
    w.cfg.redis = list;
    CHECK_INT(create_with(&w, 1), LP_OK);
    memset(list, 'x', strlen(list));
    free(list);
    CHECK_STR(w.s->stores[0].user, "ann");
    CHECK_STR(w.s->stores[0].password, "secret");
    CHECK_STR(w.s->stores[0].host, "::1");
    CHECK_STR(w.s->stores[0].database, "3");
    CHECK_STR(w.s->stores[1].path, "/run/r");
    CHECK(!w.s->stores[1].path.bytes[6]); /* as connect takes it */
    close_world(&w);
}

TEST(store_messages_fit_the_queue) {
    world w = {0}, more = {0};
    w.cfg.redis = more.cfg.redis = "redis://h";
    w.cfg.message_bytes_max = (16 << 20) - 65536;
    more.cfg.message_bytes_max = (16 << 20) - 65535;
    CHECK_INT(create_with(&w, 1), LP_OK);
    close_world(&w);
    CHECK_INT(create_with(&more, 1), LP_ERR_CONFIG);
    CHECK_STR(lp_s(more.log), "bad configuration: message_bytes_max");
}

/* Whichever allocation or call fails, nothing is left. */
TEST(store_creating_without_memory) {
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        static world w;
        lp_result result;
        memset(&w, 0, sizeof w);
        w.cfg.redis = "redis://ann:secret@[::1]:7/3,unix:/run/r,redis://h";
        w.m.fail_at = k;
        result = create_with(&w, 1);
        failed = w.m.failed;
        CHECK_INT(result, failed ? LP_ERR_NOMEM : LP_OK);
        if (result == LP_OK) close_world(&w);
    }
    CHECK(k > 10);
}

TEST(store_creating_without_randomness) {
    uint32_t skip, calls;
    lp_result result = LP_ERR_OS;
    for (skip = 0; result != LP_OK; skip++) {
        static world w;
        memset(&w, 0, sizeof w);
        w.cfg.redis = "redis://h,redis://i";
        fault(&w, K_RANDOM, EIO, skip, 1);
        result = create_with(&w, 1);
        calls = w.k.calls[K_RANDOM];
        if (result == LP_OK) close_world(&w);
        else CHECK_INT(result, LP_ERR_OS);
        CHECK(skip < 20);
    }
    CHECK(calls >= 2);
}

/* ---- INFO ---- */

TEST(store_info_fields) {
    lp_slice info = lp_s("# Replication\r\nrole:master\r\nmaster_replid:8371b4\r\n"
                         "master_replid2:000\r\nempty:\r\nrole:slave\r\nslave0:ip=1,port=2\r\n"
                         "bare\r\n\r\nlast:9");
    CHECK_STR(lpi_info_field(info, lp_s("role")), "master"); /* the first */
    CHECK_STR(lpi_info_field(info, lp_s("master_replid")), "8371b4");
    CHECK_STR(lpi_info_field(info, lp_s("master_replid2")), "000");
    CHECK_STR(lpi_info_field(info, lp_s("slave0")), "ip=1,port=2");
    CHECK_STR(lpi_info_field(info, lp_s("last")), "9");
    CHECK_INT(lpi_info_field(info, lp_s("empty")).length, 0);
    CHECK_INT(lpi_info_field(info, lp_s("bare")).length, 0);
    CHECK_INT(lpi_info_field(info, lp_s("master")).length, 0);
    CHECK_INT(lpi_info_field(info, lp_s("ole")).length, 0);
    CHECK_INT(lpi_info_field(info, lp_s("# Replication")).length, 0);
    CHECK_INT(lpi_info_field(lp_s(""), lp_s("role")).length, 0);
    CHECK_INT(lpi_info_field(lpi_slice(NULL, 0), lp_s("role")).length, 0);
    CHECK_STR(lpi_info_field(lp_s("role:x\n"), lp_s("role")), "x");
}

/* ---- what the scripts write ---- */

static int reads_id(const char *text) {
    lp_slice s = lp_s(text);
    uint64_t epoch = 0, seq = 0, us = 0;
    if (lpi_store_read_id(&s, &epoch, &seq, &us)) return 0;
    CHECK(epoch == UINT64_C(0x0123456789abcdef) && seq == 7 && us == 19);
    return 1;
}

TEST(store_reads_ids) {
    static const char *const bad[] = {
        "", " ", "x", "0123456789abcdef", "0123456789abcdef 7", "0123456789abcdef 7 ",
        "0123456789abcdef  7 19", " 0123456789abcdef 7 19", "0123456789abcde 7 19",
        "0123456789abcdef0 7 19", "0123456789abcdeg 7 19", "0123456789ABCDEF 7 19",
        "0123456789abcdef 7 0", "0123456789abcdef -7 19",
        "0123456789abcdef 7 1e15", "0123456789abcdef 07 19", "0123456789abcdef 7 019",
        "0123456789abcdef 18446744073709551616 19", "0123456789abcdef\n7\n19"};
    lp_slice text = lp_s("0123456789abcdef 7 19 {\"a\": 1}");
    uint64_t epoch, seq, us;
    size_t i;
    CHECK(reads_id("0123456789abcdef 7 19"));
    CHECK(reads_id("0123456789abcdef 7 19 "));
    CHECK(!lpi_store_read_id(&text, &epoch, &seq, &us));
    CHECK_STR(text, "{\"a\": 1}");
    text = lp_s("0123456789abcdef 0 19 {}"); /* of no message, but a new epoch */
    CHECK(!lpi_store_read_id(&text, &epoch, &seq, &us) && !seq);
    for (i = 0; i < LPI_COUNT(bad); i++)
        if (reads_id(bad[i])) unit_fail(__FILE__, __LINE__, "\"%s\" is an id", bad[i]);
}
