/* The public functions: configuration, creating, telling; everything that the
   declarations promise and no other file shows. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

/* ---- lp_config_set ---- */

typedef struct field {
    const char *name;
    size_t offset, size;
    uint64_t initial;          /* as lp_config's comments have it */
    uint64_t off, unlimited;   /* 1: may be                       */
} field;

#define FIELD(name, initial, off, unlimited)                                        \
    {#name, offsetof(lp_config, name), sizeof(((lp_config *)0)->name), initial, off, \
     unlimited}

static const field fields[] = {
    FIELD(port, 0, 0, 0),
    FIELD(backlog, 4096, 0, 0),
    FIELD(loops, 1, 0, 0),
    FIELD(timeout_ms, 30000, 0, 0),
    FIELD(timeout_ms_max, 60000, 0, 0),
    FIELD(stream_beat_ms, 15000, 0, 0),
    FIELD(reply_messages, 100, 0, 0),
    FIELD(reply_messages_max, 1000, 0, 0),
    FIELD(reply_bytes_max, 1048576, 0, 0),
    FIELD(history_count, 1000, 0, 0),
    FIELD(history_age_ms, 300000, 0, 1),
    FIELD(transient_ms, 2000, 0, 0),
    FIELD(history_bytes, 67108864, 0, 1),
    FIELD(message_bytes_max, 65536, 0, 0),
    FIELD(track_receipts, 0, 0, 0),
    FIELD(waiters_max, 100000, 0, 1),
    FIELD(waiters_per_client, 6, 0, 1),
    FIELD(waiters_per_channel, 10000, 0, 1),
    FIELD(waiters_per_address, 1024, 0, 1),
    FIELD(channels_max, 100000, 0, 1),
    FIELD(connections_max, 120000, 0, 1),
    FIELD(connections_per_address, 2048, 0, 1),
    FIELD(partial_bytes_max, 67108864, 0, 1),
    FIELD(head_bytes_max, 16384, 0, 0),
    FIELD(body_bytes_max, 65536, 0, 0),
    FIELD(file_bytes_max, 8388608, 0, 0),
    FIELD(head_ms, 10000, 1, 0),
    FIELD(body_ms, 30000, 1, 0),
    FIELD(idle_ms, 75000, 1, 0),
    FIELD(write_ms, 30000, 1, 0),
    FIELD(linger_ms, 2000, 1, 0),
    FIELD(later_ms, 30000, 1, 0),
    FIELD(drain_ms, 2000, 1, 0),
    FIELD(channel_linger_ms, 5000, 1, 0),
    FIELD(cors_max_age_s, 600, 0, 0),
    FIELD(redis_timeout_ms, 5000, 0, 0),
    FIELD(redis_keep_ms, 3600000, 0, 1),
    FIELD(redis_empty_ms, 300000, 0, 0),
    FIELD(redis_retry_ms, 300000, 0, 0),
    FIELD(redis_pending_max, 10000, 0, 0)};

static const struct { const char *name; size_t offset; const char *initial; } texts[] = {
    {"host", offsetof(lp_config, host), "127.0.0.1"},
    {"prefix", offsetof(lp_config, prefix), "/api"},
    {"poll_token", offsetof(lp_config, poll_token), NULL},
    {"publish_token", offsetof(lp_config, publish_token), NULL},
    {"admin_token", offsetof(lp_config, admin_token), NULL},
    {"token_secret", offsetof(lp_config, token_secret), NULL},
    {"publish", offsetof(lp_config, publish), "anyone"},
    {"cors", offsetof(lp_config, cors), NULL},
    {"hosts", offsetof(lp_config, hosts), NULL},
    {"trusted_proxies", offsetof(lp_config, trusted_proxies), NULL},
    {"redis", offsetof(lp_config, redis), NULL},
    {"redis_prefix", offsetof(lp_config, redis_prefix), "lp1"}};

static uint64_t value_of(const lp_config *cfg, const field *f) {
    const char *at = (const char *)cfg + f->offset;
    uint16_t v16;
    uint32_t v32;
    uint64_t v64;
    if (f->size == 2) return memcpy(&v16, at, 2), v16;
    if (f->size == 4) return memcpy(&v32, at, 4), v32;
    return memcpy(&v64, at, 8), v64;
}

static const char *text_at(const lp_config *cfg, size_t offset) {
    const char *text;
    memcpy(&text, (const char *)cfg + offset, sizeof text);
    return text;
}

static const char *dashed(const char *name) {
    static char text[60];
    char *c;
    strcpy(text, name);
    for (c = text; *c; c++)
        if (*c == '_') *c = '-';
    return text;
}

TEST(the_tables_know_every_field) {
    size_t i, k, hooks = offsetof(lp_config, authorize);
    /* and monitor, which monitor.c has: it is a choice, and no number */
    CHECK_INT(LPI_COUNT(lpi_options_known), LPI_COUNT(fields) + LPI_COUNT(texts) + 1);
    CHECK(offsetof(lp_config, redis_pending_max) + sizeof(uint32_t) <= hooks);
    for (i = 0; i < LPI_COUNT(lpi_options_known); i++) { /* and each once */
        CHECK(lpi_options_known[i].offset < hooks);
        for (k = 0; k < i; k++)
            CHECK(lpi_options_known[i].offset != lpi_options_known[k].offset);
    }
}

TEST(zero_means_the_documented_default) {
    size_t i;
    w.cfg.host = ""; /* an empty text is as good as none */
    open_world(&w);
    for (i = 0; i < LPI_COUNT(fields); i++)
        if (value_of(&w.s->config, &fields[i]) != fields[i].initial)
            unit_fail(__FILE__, __LINE__, "%s is %lu", fields[i].name,
                      (unsigned long)value_of(&w.s->config, &fields[i]));
    for (i = 0; i < LPI_COUNT(texts); i++) {
        const char *text = text_at(&w.s->config, texts[i].offset);
        CHECK(!text == !texts[i].initial);
        if (text) CHECK(!strcmp(text, texts[i].initial));
    }
    close_world(&w);
}

TEST(every_field_can_be_set_by_name) {
    size_t i;
    for (i = 0; i < LPI_COUNT(fields); i++) {
        const field *f = &fields[i];
        lp_config cfg;
        memset(&cfg, 0, sizeof cfg);
        if (!strcmp(f->name, "loops")) {
            CHECK_INT(lp_config_set(&cfg, f->name, "32"), LP_OK);
            CHECK_INT(value_of(&cfg, f), 32);
            CHECK_INT(lp_config_set(&cfg, f->name, "33"), LP_ERR_ARG);
            CHECK_INT(lp_config_set(&cfg, f->name, "off"), LP_ERR_ARG);
            CHECK_INT(lp_config_set(&cfg, f->name, "unlimited"), LP_ERR_ARG);
            continue;
        }
        if (!strcmp(f->name, "partial_bytes_max")) {
            CHECK_INT(lp_config_set(&cfg, f->name, "65535"), LP_ERR_ARG);
            CHECK_INT(lp_config_set(&cfg, "partial-bytes-max", "64k"), LP_OK);
            CHECK_INT(value_of(&cfg, f), 65536);
            CHECK_INT(lp_config_set(&cfg, f->name, "off"), LP_ERR_ARG);
            CHECK_INT(lp_config_set(&cfg, f->name, "unlimited"), LP_OK);
            continue;
        }
        CHECK_INT(lp_config_set(&cfg, f->name, "77"), LP_OK);
        CHECK_INT(value_of(&cfg, f), 77);
        CHECK_INT(lp_config_set(&cfg, dashed(f->name), "78"), LP_OK);
        CHECK_INT(value_of(&cfg, f), 78);
        CHECK_INT(lp_config_set(&cfg, f->name, "2k"), LP_OK);
        CHECK_INT(value_of(&cfg, f), 2048);
        CHECK_INT(lp_config_set(&cfg, f->name, "3K"), LP_OK);
        CHECK_INT(value_of(&cfg, f), 3072);
        CHECK_INT(lp_config_set(&cfg, f->name, "0"), LP_OK);
        CHECK_INT(value_of(&cfg, f), 0);
        CHECK_INT(lp_config_set(&cfg, f->name, "79"), LP_OK);
        if (lp_config_set(&cfg, f->name, "off") != (f->off ? LP_OK : LP_ERR_ARG))
            unit_fail(__FILE__, __LINE__, "%s may%s be off", f->name, f->off ? "" : " not");
        CHECK_INT(value_of(&cfg, f), f->off ? LP_OFF : 79);
        CHECK_INT(lp_config_set(&cfg, f->name, "79"), LP_OK);
        if (lp_config_set(&cfg, f->name, "unlimited") != (f->unlimited ? LP_OK : LP_ERR_ARG))
            unit_fail(__FILE__, __LINE__, "%s may%s be unlimited", f->name,
                      f->unlimited ? "" : " not");
        CHECK_INT(value_of(&cfg, f), f->unlimited ? LP_UNLIMITED : 79);
    }
    for (i = 0; i < LPI_COUNT(texts); i++) {
        lp_config cfg;
        static const char value[] = "value";
        memset(&cfg, 0, sizeof cfg);
        CHECK_INT(lp_config_set(&cfg, texts[i].name, value), LP_OK);
        CHECK(text_at(&cfg, texts[i].offset) == value); /* the pointer is kept */
        CHECK_INT(lp_config_set(&cfg, dashed(texts[i].name), value + 1), LP_OK);
        CHECK(text_at(&cfg, texts[i].offset) == value + 1);
    }
}

TEST(bad_values_change_nothing) {
    static const char *const bad[] = {"", " ", "-1", "1 ", " 1", "1.5", "0x10", "k", "m", "1kk",
                                      "1g", "01", "+1", "1e3", "Off", "UNLIMITED", "none",
                                      "18446744073709551616", "99999999999999999999999",
                                      "18446744073709551615m", "17592186044416m"};
    size_t i, k;
    for (i = 0; i < LPI_COUNT(fields); i++)
        for (k = 0; k < LPI_COUNT(bad); k++) {
            lp_config cfg;
            uint64_t before;
            memset(&cfg, 0, sizeof cfg);
            CHECK_INT(lp_config_set(&cfg, fields[i].name, "80000"),
                      !strcmp(fields[i].name, "loops") || fields[i].size == 2 || !strncmp(fields[i].name, "reply_messages", 14) ||
                      !strcmp(fields[i].name, "head_bytes_max") ? LP_ERR_ARG : LP_OK);
            if (!value_of(&cfg, &fields[i]))
                CHECK_INT(lp_config_set(&cfg, fields[i].name, fields[i].initial == 16384 ? "80" : "30"), LP_OK);
            before = value_of(&cfg, &fields[i]);
            if (lp_config_set(&cfg, fields[i].name, bad[k]) != LP_ERR_ARG)
                unit_fail(__FILE__, __LINE__, "%s = \"%s\"", fields[i].name, bad[k]);
            CHECK_INT(value_of(&cfg, &fields[i]), before);
        }
}

TEST(values_that_are_out_of_range) {
    static const struct { const char *name, *value; } cases[] = {
        {"port", "65536"}, {"port", "64k"}, {"head_bytes_max", "65536"},
        {"head_bytes_max", "1"}, {"reply_messages", "65536"}, {"reply_messages_max", "65536"},
        {"timeout_ms", "4294967296"}, {"waiters_max", "4294967295"},
        {"idle_ms", "4294967294"}, {"message_bytes_max", "1"}, {"history_bytes", "4294967295"},
        {"history_bytes", "4294967294"}, {"backlog", "2147483648"},
        {"timeout_ms", "4294967297"}, {"port", "4294967297"}, {"body_bytes_max", "268435457"},
        {"file_bytes_max", "2147483648"}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        lp_config cfg;
        memset(&cfg, 0, sizeof cfg);
        if (lp_config_set(&cfg, cases[i].name, cases[i].value) != LP_ERR_ARG)
            unit_fail(__FILE__, __LINE__, "%s = %s", cases[i].name, cases[i].value);
    }
    {
        lp_config cfg;
        memset(&cfg, 0, sizeof cfg);
        CHECK_INT(lp_config_set(&cfg, "port", "65535"), LP_OK);
        CHECK_INT(lp_config_set(&cfg, "head_bytes_max", "65535"), LP_OK);
        CHECK_INT(lp_config_set(&cfg, "body_bytes_max", "256m"), LP_OK);
        CHECK_INT(lp_config_set(&cfg, "file_bytes_max", "2147483647"), LP_OK);
        CHECK_INT(lp_config_set(&cfg, "history_bytes", "8192m"), LP_OK);
        CHECK_INT(cfg.history_bytes, UINT64_C(8) << 30);
    }
}

TEST(names_that_are_none) {
    static const char *const bad[] = {"", "por", "ports", "Port", "memory", "os", "log",
                                      "timeout ms", "timeout", "waiters_per-client-", "-port",
                                      "authorize"};
    size_t i;
    lp_config cfg;
    memset(&cfg, 0, sizeof cfg);
    for (i = 0; i < LPI_COUNT(bad); i++)
        CHECK_INT(lp_config_set(&cfg, bad[i], "1"), LP_ERR_ARG);
    CHECK_INT(lp_config_set(&cfg, "waiters_per-client", "1"), LP_OK);
    CHECK_INT(lp_config_set(NULL, "port", "1"), LP_ERR_ARG);
    CHECK_INT(lp_config_set(&cfg, NULL, "1"), LP_ERR_ARG);
    CHECK_INT(lp_config_set(&cfg, "port", NULL), LP_ERR_ARG);
    CHECK_INT(lp_config_set(&cfg, "host", NULL), LP_ERR_ARG);
}

/* ---- lp_create ---- */

static void check_create(lp_result want, const char *log) {
    prepare_world(&w);
    w.s = (lp_server *)(void *)&w; /* out is untouched on failure */
    CHECK_INT(lp_create(&w.s, &w.cfg), want);
    if (want != LP_OK) {
        CHECK(w.s == (lp_server *)(void *)&w);
        w.s = NULL;
        if (log) CHECK_STR(lp_s(w.log), log);
    } else {
        lp_destroy(w.s);
    }
    CHECK_INT(w.m.blocks, 0);
    CHECK_INT(kernel_open_count(&w.k, K_FREE), 0);
    free_world(&w);
    memset(&w, 0, sizeof w);
}

static int let_pass(void *ctx, lp_request *r, lp_action action, lp_slice channel) {
    (void)ctx, (void)r, (void)action, (void)channel;
    return 0;
}

TEST(a_bad_config_is_told_by_name) {
    w.cfg.host = "nowhere.example";
    check_create(LP_ERR_CONFIG, "bad configuration: host");
    w.cfg.host = "1.2.3";
    check_create(LP_ERR_CONFIG, "bad configuration: host");
    w.cfg.prefix = "api";
    check_create(LP_ERR_CONFIG, "bad configuration: prefix");
    w.cfg.prefix = "/a b";
    check_create(LP_ERR_CONFIG, "bad configuration: prefix");
    w.cfg.prefix = "/a?b";
    check_create(LP_ERR_CONFIG, "bad configuration: prefix");
    w.cfg.trusted_proxies = "10.0.0.0/33";
    check_create(LP_ERR_CONFIG, "bad configuration: trusted_proxies");
    w.cfg.trusted_proxies = "10.0.0.1,,";
    check_create(LP_ERR_CONFIG, "bad configuration: trusted_proxies");
    w.cfg.cors = "https://a b";
    check_create(LP_ERR_CONFIG, "bad configuration: cors");
    w.cfg.head_bytes_max = 1;
    check_create(LP_ERR_CONFIG, "bad configuration: head_bytes_max");
    w.cfg.timeout_ms = LP_OFF;
    check_create(LP_ERR_CONFIG, "bad configuration: timeout_ms");
    w.cfg.history_count = LP_UNLIMITED;
    check_create(LP_ERR_CONFIG, "bad configuration: history_count");
    w.cfg.history_bytes = LP_OFF;
    check_create(LP_ERR_CONFIG, "bad configuration: history_bytes");
    w.cfg.publish_token = "";
    check_create(LP_ERR_CONFIG, "bad configuration: publish_token");
    w.cfg.poll_token = "";
    check_create(LP_ERR_CONFIG, "bad configuration: poll_token");
    w.cfg.admin_token = "";
    check_create(LP_ERR_CONFIG, "bad configuration: admin_token");
    w.cfg.token_secret = "";
    check_create(LP_ERR_CONFIG, "bad configuration: token_secret");
    w.cfg.token_secret = "one byte too few to be a secret"; /* 31 */
    check_create(LP_ERR_CONFIG, "bad configuration: token_secret");
    w.cfg.token_secret = "as many bytes as a secret needs."; /* 32 */
    check_create(LP_OK, NULL);
    w.cfg.publish = "nobody";
    check_create(LP_ERR_CONFIG, "bad configuration: publish");
    w.cfg.publish = "";
    check_create(LP_ERR_CONFIG, "bad configuration: publish");
    w.cfg.reply_messages = 2000;
    check_create(LP_ERR_CONFIG, "bad configuration: reply_messages");
    w.cfg.hosts = ",";
    check_create(LP_ERR_CONFIG, "bad configuration: hosts"); /* not "any" */
    w.cfg.hosts = " , ";
    check_create(LP_ERR_CONFIG, "bad configuration: hosts");
    w.cfg.cors = ",";
    check_create(LP_ERR_CONFIG, "bad configuration: cors");
}

/* The default of one field is cut to what another allows. */
TEST(fewer_messages_in_a_reply_than_the_default) {
    w.cfg.reply_messages_max = 5;
    open_world(&w);
    CHECK_INT(w.s->config.reply_messages, 5);
    close_world(&w);
}

TEST(who_may_publish_beyond_loopback_is_warned_of) {
    int round;
    for (round = 0; round < 6; round++) {
        memset(&w, 0, sizeof w);
        w.cfg.host = round ? "*" : "127.0.0.2";
        if (round == 2) w.cfg.publish_token = "secret";
        if (round == 3) w.cfg.authorize.ask = let_pass;
        if (round == 4) w.cfg.token_secret = "a secret of thirty-two bytes....";
        if (round == 5) w.cfg.publish = "off";
        open_world(&w);
        CHECK_INT(w.log_lines[LP_LOG_WARN], round == 1);
        close_world(&w);
    }
}

TEST(hosts_that_are_good) {
    static const char *const good[] = {"127.0.0.1", "::1", "[::1]", "0.0.0.0", "*", "localhost",
                                       "::", "10.1.2.3", ""};
    size_t i;
    for (i = 0; i < LPI_COUNT(good); i++) {
        w.cfg.host = good[i];
        check_create(LP_OK, NULL);
    }
}

TEST(what_the_system_refuses_is_told) {
    static const struct { kernel_call call; int error; lp_result want; } cases[] = {
        {K_LISTEN, EADDRINUSE, LP_ERR_IN_USE}, {K_LISTEN, EACCES, LP_ERR_DENIED},
        {K_LISTEN, EPERM, LP_ERR_DENIED}, {K_LISTEN, EADDRNOTAVAIL, LP_ERR_OS},
        {K_LISTEN, ENOMEM, LP_ERR_NOMEM}, {K_POLLER_OPEN, EMFILE, LP_ERR_OS},
        {K_POLLER_OPEN, ENOMEM, LP_ERR_NOMEM}, {K_WAKE_OPEN, EMFILE, LP_ERR_OS},
        {K_POLLER_SET, ENOSPC, LP_ERR_OS}, {K_RANDOM, EIO, LP_ERR_OS},
        {K_RESERVE, EMFILE, LP_OK}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        fault(&w, cases[i].call, cases[i].error, 0, 1);
        check_create(cases[i].want, NULL);
    }
    fault(&w, K_POLLER_SET, ENOSPC, 1, 1); /* of the listener */
    check_create(LP_ERR_OS, NULL);
    fault(&w, K_LISTEN, EADDRINUSE, 0, 1);
    prepare_world(&w);
    CHECK_INT(lp_create(&w.s, &w.cfg), LP_ERR_IN_USE);
    CHECK(!strncmp(w.log, "cannot listen: ", 15));
    free_world(&w);
}

TEST(null_is_misuse_not_a_crash) {
    CHECK_INT(lp_create(NULL, NULL), LP_ERR_ARG);
    CHECK_INT(lp_step(NULL, 0), LP_ERR_ARG);
    CHECK_INT(lp_port(NULL), 0);
    CHECK_INT(lp_fd(NULL), -1);
    CHECK_INT(lp_wait_ms(NULL), -1);
    CHECK_INT(lp_run(NULL), LP_ERR_ARG);
    lp_stop(NULL);
    lp_destroy(NULL);
    CHECK_INT(lp_publish_async(NULL, lp_s("a"), lp_s("{}"), NULL, NULL), LP_ERR_ARG);
    CHECK_INT(lp_s(NULL).length, 0);
}

TEST(every_result_has_a_text) {
    int i, k;
    for (i = 0; i >= LP_ERR_TYPE; i--) {
        CHECK(*lp_strerror((lp_result)i));
        CHECK(strcmp(lp_strerror((lp_result)i), "Unknown result"));
        for (k = 0; k > i; k--)
            CHECK(strcmp(lp_strerror((lp_result)i), lp_strerror((lp_result)k)));
    }
    CHECK(*lp_strerror((lp_result)-99));
    CHECK(*lp_strerror((lp_result)1));
}

TEST(strings_are_copied) {
    char token[] = "secret", hosts[] = "good.example", cors[] = "https://a.example",
         prefix[] = "/x", host[] = "127.0.0.1", proxies[] = "10.0.0.0/8";
    peer *c;
    w.cfg.publish_token = token;
    w.cfg.hosts = hosts;
    w.cfg.cors = cors;
    w.cfg.prefix = prefix;
    w.cfg.host = host;
    w.cfg.trusted_proxies = proxies;
    open_world(&w);
    memset(token, 'x', 6), memset(hosts, 'x', 12), memset(cors, 'x', 17);
    memset(prefix, 'x', 2), memset(host, 'x', 9), memset(proxies, 'x', 10);
    memset(&w.cfg, 0x55, sizeof w.cfg);
    c = dial(&w);
    say(c, "POST /x/publish/a HTTP/1.1\r\nHost: good.example\r\nOrigin: https://a.example\r\n"
           "Authorization: Bearer secret\r\nContent-Type: application/json\r\n"
           "Content-Length: 2\r\n\r\n{}");
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    close_world(&w);
}

TEST(the_port_is_the_one_that_was_bound) {
    open_world(&w);
    CHECK_INT(lp_port(w.s), 49152);
    CHECK_INT(lp_fd(w.s), w.k.poller);
    close_world(&w);
    memset(&w, 0, sizeof w);
    w.cfg.port = 8080;
    open_world(&w);
    CHECK_INT(lp_port(w.s), 8080);
    close_world(&w);
}

/* On a loopback bind Host must be literal, localhost or listed; on another only once
   hosts is set; a trusted proxy may say what it likes. */
TEST(hosts_guard_against_rebinding) {
    static const struct { const char *bind, *hosts, *host; int status; } cases[] = {
        {"127.0.0.1", NULL, "127.0.0.1:8080", 404}, {"127.0.0.1", NULL, "localhost", 404},
        {"127.0.0.1", NULL, "[::1]:80", 404}, {"127.0.0.1", NULL, "evil.example", 421},
        {"127.0.0.1", "my.example", "MY.example:99", 404},
        {"127.0.0.1", "my.example", "your.example", 421}, {"::1", NULL, "evil.example", 421},
        {"127.9.9.9", NULL, "evil.example", 421}, {"0.0.0.0", NULL, "any.example", 404},
        {"0.0.0.0", "my.example", "any.example", 421}, {"*", "my.example", "1.2.3.4", 404}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        peer *c;
        memset(&w, 0, sizeof w);
        w.cfg.host = cases[i].bind;
        w.cfg.hosts = cases[i].hosts;
        w.cfg.trusted_proxies = "10.0.0.0/8";
        open_world(&w);
        c = dial(&w);
        sayf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", cases[i].host);
        settle(&w);
        if (take(c)->status != cases[i].status)
            unit_fail(__FILE__, __LINE__, "case %d", (int)i);
        c = dial_from(&w, "10.0.0.1");
        sayf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", cases[i].host);
        settle(&w);
        CHECK_INT(take(c)->status, 404);
        close_world(&w);
    }
}

/* ---- stats ---- */

TEST(stats_count_what_they_say) {
    lp_stats s;
    peer *c, *d;
    w.cfg.history_count = 2;
    open_world(&w);
    s = stats_of(&w);
    CHECK(!s.requests && !s.published && !s.connections && !s.messages && !s.channels);
    c = dial(&w);
    d = dial(&w);
    park(&w, c, "/api/poll/a");
    publish_n(&w, "a", 1);
    publish_n(&w, "a", 2);
    publish_n(&w, "a", 3);
    settle(&w);
    take(c);
    ask(&w, d, "/nowhere");
    ask(&w, d, "/api/poll/a?last_id=0123456789abcdef-1");
    turn(&w, 0); /* requests: "up to the turn before" */
    s = stats_of(&w);
    CHECK_INT(s.requests, 3);
    CHECK_INT(s.published, 3);
    CHECK_INT(s.delivered, 4);
    CHECK_INT(s.resets, 2); /* the parked one had lost its first */
    CHECK_INT(s.evicted, 1);
    CHECK_INT(s.refused, 0);
    CHECK_INT(s.connections, 2);
    CHECK_INT(s.waiters, 0);
    CHECK_INT(s.channels, 1);
    CHECK_INT(s.messages, 2);
    CHECK(s.history_bytes > 2 * 10 && s.history_bytes < 2 * 500);
    CHECK_INT(s.pinned_bytes, 0);
    close_world(&w);
}

/* ---- lp_publish_async ---- */

static int told;
static lp_result told_result;
static char told_id[40];

static void hear(void *ctx, lp_result result, const lp_published *published) {
    CHECK(ctx == &told);
    CHECK((result == LP_OK) == (published != NULL));
    told++;
    told_result = result;
    if (published) strcpy(told_id, published->id);
}

TEST(an_outcome_is_told_later_on_the_loop) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a");
    CHECK_INT(lp_publish_async(w.s, lp_s("a"), lp_s("{\"n\":1}"), hear, &told), LP_OK);
    CHECK_INT(told, 0); /* not yet */
    CHECK_INT(w.k.signalled, 1);
    CHECK_INT(turn(&w, -1), LP_OK);
    CHECK_INT(told, 1);
    CHECK_INT(told_result, LP_OK);
    CHECK_STR(member(take(c)->body, "id"), told_id);
    CHECK_INT(lp_publish_async(w.s, lp_s("a"), lp_s("[]"), hear, &told), LP_OK);
    settle(&w);
    CHECK_INT(told_result, LP_ERR_JSON);
    CHECK_INT(lp_publish_async(w.s, lp_s(""), lp_s("{}"), hear, &told), LP_OK);
    settle(&w);
    CHECK_INT(told_result, LP_ERR_ARG);
    CHECK_INT(told, 3);
    CHECK_INT(lp_publish_async(w.s, lp_s("a"), lp_s("{}"), NULL, NULL), LP_ERR_ARG);
    w.m.fail_at = w.m.calls + 1;
    CHECK_INT(lp_publish_async(w.s, lp_s("a"), lp_s("{}"), hear, &told), LP_ERR_NOMEM);
    w.m.fail_at = w.m.calls + 2;
    CHECK_INT(lp_publish_async(w.s, lp_s("a"), lp_s("{}"), hear, &told), LP_OK);
    settle(&w);
    CHECK_INT(told, 4);
    CHECK_INT(told_result, LP_ERR_NOMEM);
    close_world(&w);
}

TEST(an_outcome_that_was_not_told_is_told_by_lp_destroy) {
    open_world(&w);
    CHECK_INT(lp_publish_async(w.s, lp_s("a"), lp_s("{}"), hear, &told), LP_OK);
    CHECK_INT(lp_publish_async(w.s, lp_s("a"), lp_s("{}"), hear, &told), LP_OK);
    close_world(&w);
    CHECK_INT(told, 2);
    CHECK(!strcmp(told_id + 17, "2")); /* in their order */
}

TEST(after_the_end_nothing_is_promised) {
    open_world(&w);
    CHECK_INT(lp_publish_async(w.s, lp_s("a"), lp_s("{}"), hear, &told), LP_OK);
    lp_stop(w.s);
    CHECK_INT(lp_run(w.s), LP_OK);
    CHECK_INT(told, 1);
    CHECK_INT(lp_publish_async(w.s, lp_s("a"), lp_s("{}"), hear, &told), LP_ERR_STOPPED);
    close_world(&w);
    CHECK_INT(told, 1);
}

static int promised;

static void hear_and_go_on(void *ctx, lp_result result, const lp_published *published) {
    hear(ctx, result, published);
    if (told < 3 &&
        lp_publish_async(w.s, lp_s("a"), lp_s("{}"), hear_and_go_on, &told) == LP_OK)
        promised++;
}

/* fn is called once for each LP_OK, in lp_destroy too. */
TEST(who_is_told_may_publish_again) {
    open_world(&w);
    CHECK_INT(lp_publish_async(w.s, lp_s("a"), lp_s("{}"), hear_and_go_on, &told), LP_OK);
    settle(&w);
    CHECK_INT(told, 3);
    told = 0;
    promised = 1;
    CHECK_INT(lp_publish_async(w.s, lp_s("a"), lp_s("{}"), hear_and_go_on, &told), LP_OK);
    lp_destroy(w.s);
    CHECK_INT(told, promised);
    CHECK_INT(w.m.blocks, 0);
    free_world(&w);
}

/* ---- the log ---- */

TEST(log_lines_are_short_and_printable) {
    char detail[600];
    open_world(&w);
    lpi_log(w.s, LP_LOG_WARN, "what", "a\r\nb\x1b[31m\xff\x7f");
    CHECK_STR(lp_s(w.log), "what: a??b?[31m??");
    memset(detail, 'x', sizeof detail);
    detail[599] = 0;
    lpi_log(w.s, LP_LOG_WARN, "what", detail); /* world_log checks its length */
    CHECK(strlen(w.log) > 200);
    lpi_log(w.s, LP_LOG_INFO, "what", "");
    CHECK_STR(lp_s(w.log), "what");
    w.s->config.log.write = NULL;
    lpi_log(w.s, LP_LOG_INFO, "what", "");
    close_world(&w);
}

TEST(start_and_stop_are_logged) {
    open_world(&w);
    lp_stop(w.s);
    CHECK_INT(lp_run(w.s), LP_OK);
    CHECK_INT(w.log_lines[LP_LOG_INFO], 2);
    CHECK_INT(w.log_lines[LP_LOG_ERROR], 0);
    close_world(&w);
}

/* ---- sizes that the design promises ---- */

TEST(records_are_small) {
    CHECK(sizeof(lpi_connection) <= 64);
    CHECK(sizeof(lpi_waiter) <= 32);
    CHECK(sizeof(lpi_connection) + sizeof(lpi_waiter) <= 96);
}

TEST(a_parked_poll_takes_at_most_128_bytes) {
    enum { N = 8192 };
    size_t before;
    int i;
    w.unchecked = 1;
    w.cfg.waiters_per_address = w.cfg.connections_per_address = LP_UNLIMITED;
    open_world(&w);
    before = w.m.bytes;
    for (i = 0; i < N; i++) {
        char name[20];
        peer *c = dial(&w);
        snprintf(name, sizeof name, "client-%d", i);
        get_as(c, "/api/poll/news", name); /* each its own client */
        if (i % 64 == 63) settle(&w);
    }
    settle(&w);
    CHECK_INT(stats_of(&w).waiters, N);
    if ((w.m.bytes - before) / N > 128)
        unit_fail(__FILE__, __LINE__, "%lu bytes", (unsigned long)((w.m.bytes - before) / N));
    close_world(&w);
}

/* With the defaults, and the real system: only that it starts and ends. */
TEST(the_real_system_is_the_default) {
    lp_server *server = NULL;
    CHECK_INT(lp_create(&server, NULL), LP_OK);
    CHECK(lp_port(server) > 0);
    CHECK_INT(lp_step(server, 0), LP_OK);
    CHECK_INT(lp_publish(server, lp_s("a"), lp_s("{}"), NULL), LP_OK);
    lp_stop(server);
    CHECK_INT(lp_run(server), LP_OK);
    lp_destroy(server);
}
