/* What an administrator asks: the channels' state, their list and deletion, and receipts of whom
   a message was handed to. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;
static peer *admin_peer;

static void open_admin(void) {
    w.cfg.admin_token = "secret";
    w.cfg.waiters_per_client = LP_UNLIMITED;
    admin_peer = NULL;
    open_world(&w);
}

static void admin_say(peer *c, const char *method, const char *target) {
    sayf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n\r\n", method,
         target);
}

/* On a connection that is kept for that, which stays open whatever is asked. */
static answer *admin(const char *method, const char *target) {
    if (!admin_peer || admin_peer->closed) admin_peer = dial_from(&w, "10.255.255.254");
    admin_say(admin_peer, method, target);
    settle(&w);
    CHECK(!admin_peer->closed);
    return strcmp(method, "HEAD") ? take(admin_peer) : take_head(admin_peer);
}

static void check_admin_error(const char *method, const char *target, int status,
                              const char *error) {
    answer *a = admin(method, target);
    if (a->status != status) unit_fail(__FILE__, __LINE__, "%s %s: %d", method, target, a->status);
    CHECK_STR(member(a->body, "error"), error);
}

/* ---- who may ---- */

static const char *const admin_routes[][2] = {
    {"GET", "/api/channels"}, {"GET", "/api/channels/news"}, {"DELETE", "/api/channels/news"},
    {"GET", "/api/receipts/news/0123456789abcdef-1"}};

TEST(admin_is_not_there_without_a_token) {
    size_t i;
    open_world(&w);
    publish(&w, "news", "{}");
    admin_peer = NULL;
    for (i = 0; i < LPI_COUNT(admin_routes); i++)
        check_admin_error(admin_routes[i][0], admin_routes[i][1], 404, "Not found");
    CHECK_INT(stats_of(&w).messages, 1);
    close_world(&w);
}

/* Nor are receipts, if none are noted. */
TEST(admin_has_receipts_only_if_they_are_noted) {
    open_admin();
    check_admin_error("GET", "/api/receipts/news/0123456789abcdef-1", 404, "Not found");
    CHECK_INT(admin("GET", "/api/channels")->status, 200);
    close_world(&w);
}

TEST(admin_wants_its_token) {
    static const struct { const char *line; int status; } cases[] = {
        {"", 401}, {"Authorization: Bearer wrong\r\n", 401},
        {"Authorization: Bearer publisher\r\n", 401}, {"Authorization: Basic secret\r\n", 401},
        {"Authorization: Bearer secre\r\n", 401}, {"Authorization: Bearer secrets\r\n", 401},
        {"Authorization: Bearer secret\r\nOrigin: https://evil.example\r\n", 403},
        {"Authorization: Bearer secret\r\nOrigin: null\r\n", 403},
        {"Authorization: Bearer secret\r\nOrigin: http://localhost\r\n", 404},
        {"Authorization: Bearer secret\r\nOrigin: https://a.example\r\n", 404},
        {"Authorization: bearer  secret\r\n", 404}};
    size_t i, k;
    w.cfg.track_receipts = 10;
    w.cfg.publish_token = "publisher";
    w.cfg.cors = "https://a.example";
    open_admin();
    for (i = 0; i < LPI_COUNT(cases); i++)
        for (k = 1; k < LPI_COUNT(admin_routes); k++) { /* of a channel that is not there */
            peer *c = dial(&w);
            answer *a;
            sayf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", admin_routes[k][0],
                 admin_routes[k][1], cases[i].line);
            settle(&w);
            a = take(c);
            CHECK_INT(a->status, cases[i].status);
            if (a->status == 401) CHECK(lpi_starts(heading(a, "WWW-Authenticate"), lp_s("Bearer")));
            leave(&w, c);
        }
    CHECK_INT(ask(&w, dial(&w), "/api/channels")->status, 401);
    close_world(&w);
}

/* An administrator's token does not publish. */
TEST(admin_token_is_for_nothing_else) {
    peer *c;
    w.cfg.publish_token = "publisher";
    open_admin();
    c = dial(&w);
    say(c, "POST /api/publish/news HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n"
           "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    settle(&w);
    CHECK_INT(take(c)->status, 401);
    close_world(&w);
}

TEST(admin_methods) {
    w.cfg.track_receipts = 10;
    open_admin();
    check_admin_error("POST", "/api/channels", 405, "Method not allowed");
    CHECK_STR(heading(admin("POST", "/api/channels"), "Allow"), "GET, HEAD, OPTIONS");
    CHECK_STR(heading(admin("DELETE", "/api/channels"), "Allow"), "GET, HEAD, OPTIONS");
    CHECK_STR(heading(admin("PUT", "/api/channels/a"), "Allow"), "GET, HEAD, DELETE, OPTIONS");
    CHECK_STR(heading(admin("DELETE", "/api/receipts/a/b"), "Allow"), "GET, HEAD, OPTIONS");
    CHECK_INT(admin("OPTIONS", "/api/channels/a")->status, 204);
    check_admin_error("GET", "/api/channels/", 404, "Not found");
    check_admin_error("GET", "/api/channels/a/b", 404, "Not found");
    check_admin_error("GET", "/api/receipts/a", 404, "Not found");
    close_world(&w);
}

TEST(admin_bad_names) {
    static const char *const names[] = {"%00", "%zz", "%0A", "%ff", "a%"};
    char target[600], name[257];
    size_t i;
    w.cfg.track_receipts = 10;
    open_admin();
    for (i = 0; i < LPI_COUNT(names); i++) {
        sprintf(target, "/api/channels/%s", names[i]);
        check_admin_error("GET", target, 400, "Bad channel name");
        check_admin_error("DELETE", target, 400, "Bad channel name");
        sprintf(target, "/api/receipts/%s/0123456789abcdef-1", names[i]);
        check_admin_error("GET", target, 400, "Bad channel name or id");
    }
    memset(name, 'x', 256);
    name[256] = 0;
    sprintf(target, "/api/channels/%s", name);
    check_admin_error("GET", target, 400, "Bad channel name");
    name[255] = 0;
    sprintf(target, "/api/channels/%s", name);
    check_admin_error("GET", target, 404, "No such channel");
    check_admin_error("DELETE", target, 404, "No such channel");
    CHECK_INT(stats_of(&w).channels, 0); /* asking makes none */
    close_world(&w);
}

/* ---- a channel's state ---- */

TEST(admin_describes_a_channel) {
    answer *a;
    peer *c;
    char epoch[20], want[400];
    lp_published p;
    open_admin();
    ask(&w, dial(&w), "/api/poll/news?timeout=0");
    a = admin("GET", "/api/channels/news");
    CHECK_INT(a->status, 200);
    CHECK_STR(heading(a, "Content-Type"), "application/json");
    memcpy(epoch, text_of(a->body, "last_id"), 16);
    epoch[16] = 0;
    sprintf(want, "{\"channel\":\"news\",\"waiters\":0,\"held\":0,\"first_id\":null,"
                  "\"last_id\":\"%s-0\",\"timestamp\":1732412345.123456,\"age\":0.000000}", epoch);
    CHECK_STR(a->body, want);
    w.k.now_us += 2500000;
    p = publish_n(&w, "news", 1);
    CHECK(!memcmp(p.id, epoch, 16));
    publish_n(&w, "news", 2);
    c = park_new(&w, "/api/poll/news,x?last_id=now");
    get(dial(&w), "/api/stream/news?last_id=now");
    settle(&w);
    sprintf(want, "{\"channel\":\"news\",\"waiters\":2,\"held\":2,\"first_id\":\"%s-1\","
                  "\"last_id\":\"%s-2\",\"timestamp\":1732412347.623457,\"age\":2.500000}",
            epoch, epoch);
    CHECK_STR(admin("GET", "/api/channels/news")->body, want);
    leave(&w, c);
    CHECK_STR(member(admin("GET", "/api/channels/news")->body, "waiters"), "1");
    w.k.wall_us -= UINT64_C(3600000000); /* a clock that was set back makes no negative age */
    CHECK_STR(member(admin("GET", "/api/channels/news")->body, "age"), "0.000000");
    close_world(&w);
}

TEST(admin_describes_what_is_held) {
    w.cfg.history_count = 2;
    w.cfg.history_age_ms = 1000;
    open_admin();
    publish_n(&w, "news", 1), publish_n(&w, "news", 2), publish_n(&w, "news", 3);
    CHECK(has(admin("GET", "/api/channels/news")->body, "-2\",\"last_id\""));
    tick(&w, 1001); /* it is old, swept or not */
    CHECK(has(admin("GET", "/api/channels/news")->body, "\"held\":0,\"first_id\":null"));
    CHECK(has(admin("GET", "/api/channels/news")->body, "-3\",\"timestamp\""));
    tick(&w, 1001); /* and so is the channel */
    check_admin_error("GET", "/api/channels/news", 404, "No such channel");
    CHECK_STR(admin("GET", "/api/channels")->body, "{\"channels\":[]}");
    close_world(&w);
}

TEST(admin_escapes_names) {
    answer *a;
    open_admin();
    publish(&w, "a\"b\\c,d/e<\xc3\xa9", "{}");
    a = admin("GET", "/api/channels/a%22b%5Cc%2cd%2Fe%3c%c3%a9");
    CHECK_INT(a->status, 200);
    CHECK(has(a->body, "{\"channel\":\"a\\\"b\\\\c,d/e<\xc3\xa9\","));
    CHECK_INT(lp_json_check(a->body, NULL), LP_OK);
    CHECK(has(admin("GET", "/api/channels")->body, "{\"channel\":\"a\\\"b\\\\c,d/e<\xc3\xa9\","));
    CHECK_INT(admin("DELETE", "/api/channels/a%22b%5Cc%2cd%2Fe%3c%c3%a9")->status, 200);
    close_world(&w);
}

TEST(admin_long_names) {
    char target[300] = "/api/channels/", name[256];
    lp_channel_info info;
    uint32_t position = 0;
    memset(name, 'n', 255);
    name[255] = 0;
    open_admin();
    publish(&w, name, "{}");
    strcat(target, name);
    CHECK_STR(member(admin("GET", target)->body, "channel"), name);
    CHECK_INT(lp_channels_read(w.s, &position, &info, 1), 1);
    CHECK_STR(lp_s(info.name), name);
    CHECK_INT(admin("DELETE", target)->status, 200);
    close_world(&w);
}

TEST(admin_heads_and_bodies) {
    answer *a;
    peer *c;
    open_admin();
    publish(&w, "news", "{}");
    a = admin("HEAD", "/api/channels/news");
    CHECK_INT(a->status, 200);
    CHECK(atoi(heading(a, "Content-Length").bytes) > 100);
    CHECK_INT(admin("HEAD", "/api/channels")->status, 200);
    CHECK_INT(admin("HEAD", "/api/channels/other")->status, 404);
    c = dial(&w);
    say(c, "GET /api/channels/news HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n"
           "Content-Length: 7\r\n\r\nignored"
           "DELETE /api/channels/news HTTP/1.1\r\nHost: localhost\r\n"
           "Authorization: Bearer secret\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n0\r\n\r\n");
    settle(&w);
    CHECK_STR(member(take(c)->body, "held"), "1");
    CHECK_STR(take(c)->body, "{\"status\":\"deleted\"}");
    CHECK(!c->closed && !c->shut);
    /* Without the token the body is not awaited. */
    say(c, "DELETE /api/channels/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\n");
    settle(&w);
    a = take(c);
    CHECK_INT(a->status, 401);
    CHECK_STR(heading(a, "Connection"), "close");
    close_world(&w);
}

/* ---- pages ---- */

TEST(admin_parameters_of_pages) {
    static const char *const good[] = {"limit=1", "limit=1000", "after=0", "after=7&limit=5",
                                       "after=4294967294", "unknown=1"};
    static const char *const bad[] = {"limit=0", "limit=1001", "limit=", "limit=-1", "limit=01",
                                      "limit=1x", "limit=99999999999999999999"};
    static const char *const bad_after[] = {"after=", "after=x", "after=-1", "after=4294967295",
                                            "after=18446744073709551616"};
    char target[100], id[40];
    size_t i;
    w.cfg.track_receipts = 10;
    open_admin();
    strcpy(id, publish(&w, "a", "{}").id);
    for (i = 0; i < LPI_COUNT(good); i++) {
        sprintf(target, "/api/channels?%s", good[i]);
        CHECK_INT(admin("GET", target)->status, 200);
        sprintf(target, "/api/receipts/a/%s?%s", id, good[i]);
        CHECK_INT(admin("GET", target)->status, 200);
    }
    for (i = 0; i < LPI_COUNT(bad); i++) {
        sprintf(target, "/api/channels?%s", bad[i]);
        check_admin_error("GET", target, 400, "Bad limit");
        sprintf(target, "/api/receipts/a/%s?%s", id, bad[i]);
        check_admin_error("GET", target, 400, "Bad limit");
    }
    for (i = 0; i < LPI_COUNT(bad_after); i++) {
        sprintf(target, "/api/channels?%s", bad_after[i]);
        check_admin_error("GET", target, 400, "Bad after");
    }
    close_world(&w);
}

enum { ADMIN_CHANNELS = 1500 };

static uint8_t admin_seen[ADMIN_CHANNELS];

/* Note which of the channels k0, k1, ... the page has. Returns where the next begins. */
static uint32_t admin_note_page(lp_slice body, int limit) {
    lp_slice name, next = member(body, "next");
    uint64_t position = 0;
    int count = count_of(body, "\"channel\":");
    CHECK(count <= limit);
    CHECK_INT(lp_json_check(body, NULL), LP_OK);
    while ((name = member(body, "channel")).bytes) {
        if (*name.bytes == 'k') admin_seen[atoi(name.bytes + 1)]++;
        body.length -= (size_t)(name.bytes - body.bytes);
        body.bytes = name.bytes;
    }
    if (next.bytes) CHECK(!lpi_parse_uint(next, &position) && position);
    return (uint32_t)position;
}

/* Between the pages others come, and are forgotten. */
static void admin_walk(int limit) {
    char target[60] = "/api/channels", name[20];
    uint32_t next = 0;
    int i, pages = 0;
    memset(admin_seen, 0, sizeof admin_seen);
    do {
        if (pages++ || limit != 100)
            sprintf(target, "/api/channels?limit=%d", limit);
        if (pages > 1) sprintf(target + strlen(target), "&after=%u", next);
        next = admin_note_page(admin("GET", target)->body, limit);
        for (i = 0; i < 20; i++) {
            sprintf(name, "other%u", unit_below(200));
            ask(&w, w.looker, "/api/poll/short?timeout=0");
            publish(&w, name, "{}");
        }
        pass(&w, 400);
    } while (next);
    CHECK(pages >= ADMIN_CHANNELS / limit);
    for (i = 0; i < ADMIN_CHANNELS; i++) CHECK_INT(admin_seen[i], 1);
}

TEST(admin_pages_have_every_channel_once) {
    char target[60];
    peer *c = NULL;
    int i;
    w.cfg.history_age_ms = 1000;
    w.cfg.waiters_per_address = w.cfg.waiters_per_client = LP_UNLIMITED;
    w.cfg.connections_per_address = LP_UNLIMITED;
    w.unchecked = 1;
    open_admin();
    for (i = 0; i < ADMIN_CHANNELS; i++) { /* that are occupied, and so stay */
        c = dial(&w);
        sprintf(target, "/api/poll/k%d?timeout=60", i);
        get(c, target);
    }
    settle(&w);
    CHECK_INT(stats_of(&w).channels, ADMIN_CHANNELS);
    look(&w, "short", "0");
    admin_walk(100);
    admin_walk(1000);
    admin_walk(37);
    close_world(&w);
}

/* A table that is mostly empty is walked without holding the hub for all of it. */
TEST(admin_pages_of_a_sparse_table) {
    lp_channel_info infos[10];
    char name[20];
    uint32_t position = 0;
    int i;
    w.cfg.history_age_ms = 60000;
    w.unchecked = 1;
    open_admin();
    for (i = 0; i < 5000; i++) {
        sprintf(name, "gone%d", i);
        ask(&w, w.looker ? w.looker : (w.looker = dial(&w)), "/api/poll/x?timeout=0");
        publish(&w, name, "{}");
        if (i % 2000 == 1999) {
            sprintf(name, "k%d", i);
            park_new(&w, i == 1999 ? "/api/poll/k1?timeout=1000" : "/api/poll/k2?timeout=1000");
        }
    }
    for (i = 0; i < 3; i++) pass(&w, 50000);
    CHECK_INT(lp_channels_read(w.s, &position, infos, 10), stats_of(&w).channels);
    CHECK_INT(position, 0);
    CHECK_INT(count_of(admin("GET", "/api/channels")->body, "\"channel\""),
              stats_of(&w).channels);
    CHECK(!has(admin("GET", "/api/channels")->body, "next"));
    close_world(&w);
}

/* One that was forgotten is not listed while an event of it is still to be told. */
static int admin_told[2];

static void admin_event(void *ctx, lp_channel_event event, lp_slice channel) {
    lp_channel_info info;
    uint32_t position = 0;
    (void)ctx, (void)channel;
    admin_told[event]++;
    (void)lp_channels_read(w.s, &position, &info, 1); /* any of these may be called here */
    (void)lp_channel_read(w.s, channel, &info);
}

TEST(admin_forgotten_channels_with_events) {
    lp_channel_info info;
    uint32_t position = 0;
    peer *c;
    memset(admin_told, 0, sizeof admin_told);
    w.cfg.watch.channel = admin_event;
    w.cfg.history_age_ms = 1000;
    w.cfg.channel_linger_ms = 60000;
    open_admin();
    c = park_new(&w, "/api/poll/a");
    CHECK_INT(admin_told[LP_CHANNEL_OCCUPIED], 1);
    leave(&w, c);
    tick(&w, 5000);
    CHECK_INT(lp_channels_read(w.s, &position, &info, 1), 0); /* which forgets it */
    CHECK_INT(stats_of(&w).channels, 0);
    position = 0;
    CHECK_INT(lp_channels_read(w.s, &position, &info, 1), 0);
    settle(&w);
    CHECK_INT(admin_told[LP_CHANNEL_VACATED], 1);
    close_world(&w);
}

/* ---- deletion ---- */

static answer *admin_delete(const char *name) {
    char target[300];
    answer *a;
    sprintf(target, "/api/channels/%s", name);
    a = admin("DELETE", target);
    CHECK_INT(a->status, 200);
    CHECK_STR(a->body, "{\"status\":\"deleted\"}");
    return a;
}

TEST(deletion_drops_the_history) {
    lp_published before, after;
    answer *a;
    open_admin();
    before = publish_n(&w, "news", 1);
    publish_n(&w, "news", 2);
    publish_n(&w, "other", 3);
    w.k.wall_us -= UINT64_C(3600000000); /* even if the clock is set back */
    admin_delete("news");
    CHECK_INT(stats_of(&w).messages, 1);
    a = look(&w, "news", before.id);
    CHECK(has(a->body, "\"count\":0,\"messages\":[],\"reset\":{\"news\":\"epoch\"}}"));
    CHECK(us_of(member(a->body, "timestamp")) > before.timestamp_us + 1);
    a = look(&w, "news", "0");
    CHECK(has(a->body, "\"count\":0,\"messages\":[]}"));
    after = publish_n(&w, "news", 4);
    CHECK(after.timestamp_us > before.timestamp_us + 2);
    CHECK(memcmp(after.id, before.id, 16) && !strcmp(after.id + 17, "1"));
    a = look(&w, "news", before.id); /* SEQ 1 is not mistaken for that of before */
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}"));
    CHECK_STR(lp_s(ns_of(a)), "4");
    a = askf(&w, dial(&w), "/api/poll/news?since=%s&timeout=0", "1732412345.123457");
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}"));
    CHECK_STR(lp_s(ns_of(look(&w, "other", "0"))), "3");
    close_world(&w);
}

TEST(deletion_of_what_is_empty_or_not_there) {
    char epoch[20];
    answer *a;
    open_admin();
    check_admin_error("DELETE", "/api/channels/news", 404, "No such channel");
    a = ask(&w, dial(&w), "/api/poll/news?timeout=0");
    memcpy(epoch, text_of(a->body, "last_id"), 17);
    epoch[17] = 0;
    admin_delete("news");
    CHECK(!has(admin("GET", "/api/channels/news")->body, epoch));
    admin_delete("news"); /* and again */
    CHECK_INT(stats_of(&w).channels, 1);
    pass(&w, 300001); /* it is idle, as before */
    CHECK_INT(stats_of(&w).channels, 0);
    check_admin_error("DELETE", "/api/channels/news", 404, "No such channel");
    close_world(&w);
}

/* All who wait are told at once, each once, and can go on from what they were told. */
TEST(deletion_tells_parked_polls) {
    peer *one, *several, *since, *unconcerned;
    answer *a;
    char at[100];
    open_admin();
    publish_n(&w, "news", 1);
    publish_n(&w, "x", 2);
    one = park_new(&w, "/api/poll/news?last_id=now");
    several = park_new(&w, "/api/poll/x,news,y?last_id=now");
    since = park_new(&w, "/api/poll/news?since=1732412345.123457");
    unconcerned = park_new(&w, "/api/poll/x?last_id=now");
    admin_delete("news");
    CHECK_INT(stats_of(&w).waiters, 1);
    a = take(one);
    CHECK_STR(member(a->body, "status"), "messages");
    CHECK(has(a->body, "\"count\":0,\"messages\":[],\"reset\":{\"news\":\"epoch\"}}"));
    sprintf(at, "/api/poll/news?last_id=%s", text_of(a->body, "last_id"));
    park(&w, one, at);
    a = take(several);
    CHECK(has(a->body, "\"messages\":[],\"reset\":{\"news\":\"epoch\"}}"));
    sprintf(at, "/api/poll/x,news,y?last_id=%s", text_of(a->body, "last_id"));
    park(&w, several, at);
    a = take(since);
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}"));
    sprintf(at, "/api/poll/news?since=%s", text_of(a->body, "timestamp"));
    park(&w, since, at); /* it does not spin */
    CHECK_SILENT(unconcerned);
    CHECK_INT(publish_n(&w, "news", 3).waiters, 3);
    settle(&w);
    CHECK_STR(lp_s(ns_of(take(one))), "3");
    CHECK_STR(lp_s(ns_of(take(several))), "3");
    a = take(since);
    CHECK(has(a->body, "\"n\":3") && !has(a->body, "reset"));
    close_world(&w);
}

/* A message between the deletion and when they are told comes with the reset. */
TEST(deletion_with_news_right_behind_it) {
    peer *c;
    answer *a;
    lp_published p;
    open_admin();
    publish_n(&w, "news", 1), publish_n(&w, "news", 2);
    c = park_new(&w, "/api/poll/news?last_id=now");
    CHECK_INT(lp_channel_delete(w.s, lp_s("news")), LP_OK);
    p = publish_n(&w, "news", 3);
    CHECK_INT(lp_channel_delete(w.s, lp_s("news")), LP_OK);
    p = publish_n(&w, "news", 4);
    settle(&w);
    a = take(c);
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}"));
    CHECK_STR(lp_s(ns_of(a)), "4");
    CHECK_STR(member(a->body, "last_id"), p.id);
    CHECK_SILENT(c);
    close_world(&w);
}

TEST(deletion_tells_streams) {
    peer *c;
    lp_slice heard;
    open_admin();
    publish_n(&w, "news", 1);
    c = dial(&w);
    get(c, "/api/stream/news");
    settle(&w);
    CHECK(has(unheard(c), "\"n\":1"));
    c->out_at = c->out_length;
    admin_delete("news");
    heard = unheard(c);
    CHECK(has(heard, "event: reset\nid: ") && has(heard, "data: {\"news\":\"epoch\"}\n\n"));
    c->out_at = c->out_length;
    publish_n(&w, "news", 2);
    settle(&w);
    heard = unheard(c);
    CHECK_INT(count_of(heard, "data: "), 1);
    CHECK(has(heard, "-1\ndata: {\"id\":") && has(heard, "\"n\":2"));
    close_world(&w);
}

/* Those whose poll comes while others are told of it are not. */
TEST(deletion_is_told_of_no_more_than_once) {
    peer *c[40];
    int i;
    open_admin();
    publish_n(&w, "news", 1);
    for (i = 0; i < 20; i++) c[i] = park_new(&w, "/api/poll/news?last_id=now");
    CHECK_INT(lp_channel_delete(w.s, lp_s("news")), LP_OK);
    for (; i < 40; i++) {
        c[i] = dial(&w);
        get(c[i], "/api/poll/news?last_id=now");
    }
    settle(&w);
    CHECK_INT(stats_of(&w).waiters, 20);
    for (i = 0; i < 40; i++) {
        if (i < 20) CHECK(has(take(c[i])->body, "reset"));
        CHECK_SILENT(c[i]);
    }
    leave(&w, c[30]);
    CHECK_INT(publish_n(&w, "news", 2).waiters, 19);
    close_world(&w);
}

/* An occupied channel stays so, and a vacated one. */
TEST(deletion_is_no_event_of_the_channel) {
    peer *c;
    memset(admin_told, 0, sizeof admin_told);
    w.cfg.watch.channel = admin_event;
    w.cfg.channel_linger_ms = 1000;
    open_admin();
    publish_n(&w, "news", 1);
    c = park_new(&w, "/api/poll/news?last_id=now");
    CHECK_INT(admin_told[LP_CHANNEL_OCCUPIED], 1);
    admin_delete("news");
    CHECK(has(take(c)->body, "reset"));
    park(&w, c, "/api/poll/news?last_id=now"); /* within the linger */
    pass(&w, 3000);
    CHECK_INT(admin_told[LP_CHANNEL_OCCUPIED], 1);
    CHECK_INT(admin_told[LP_CHANNEL_VACATED], 0);
    leave(&w, c);
    admin_delete("news");
    pass(&w, 3000);
    CHECK_INT(admin_told[LP_CHANNEL_VACATED], 1);
    admin_delete("news");
    pass(&w, 3000);
    CHECK_INT(admin_told[LP_CHANNEL_VACATED], 1);
    close_world(&w);
}

TEST(deletion_without_random_bytes_changes_nothing) {
    answer *a;
    peer *c;
    lp_published p;
    open_admin();
    p = publish_n(&w, "news", 1);
    c = park_new(&w, "/api/poll/news?last_id=now");
    admin("GET", "/api/channels/news");
    fault(&w, K_RANDOM, EIO, 0, 1);
    a = admin("DELETE", "/api/channels/news");
    CHECK_INT(a->status, 503);
    CHECK_STR(heading(a, "Retry-After"), "5");
    CHECK_SILENT(c);
    CHECK_STR(lp_s(ns_of(look(&w, "news", "0"))), "1");
    CHECK_STR(member(look(&w, "news", "0")->body, "last_id"), p.id);
    fault(&w, K_RANDOM, EIO, 0, 1);
    CHECK_INT(lp_channel_delete(w.s, lp_s("news")), LP_ERR_OS);
    CHECK_INT(lp_channel_delete(w.s, lp_s("news")), LP_OK);
    close_world(&w);
}

/* In a drain all are told soon anyway, and the history still goes. */
TEST(deletion_in_a_drain) {
    peer *c, *d;
    answer *a;
    int i;
    open_admin();
    publish_n(&w, "news", 1);
    for (i = 0; i < 50; i++) park_new(&w, "/api/poll/x");
    c = park_new(&w, "/api/poll/news?last_id=now");
    d = dial(&w);
    settle(&w);
    lp_stop(w.s);
    turn(&w, 0); /* it begins */
    admin_say(d, "DELETE", "/api/channels/news");
    turn(&w, 0);
    a = take(d);
    CHECK_STR(a->body, "{\"status\":\"deleted\"}");
    CHECK_STR(heading(a, "Connection"), "close");
    settle(&w);
    a = take(c);
    CHECK_STR(heading(a, "Connection"), "close");
    CHECK(has(a->body, "\"reset\":{\"news\":\"epoch\"}"));
    while (turn(&w, 1000) == LP_OK) {}
    CHECK_INT(lp_channel_delete(w.s, lp_s("news")), LP_ERR_STOPPED);
    close_world(&w);
}

/* ---- the calls of C ---- */

TEST(admin_calls_say_what_is_wrong) {
    lp_channel_info info;
    lp_receipts page;
    uint32_t position = 0;
    lp_published p;
    open_admin();
    memset(&info, 0x55, sizeof info);
    memset(&page, 0x55, sizeof page);
    CHECK_INT(lp_channel_read(NULL, lp_s("a"), &info), LP_ERR_ARG);
    CHECK_INT(lp_channel_read(w.s, lp_s("a"), NULL), LP_ERR_ARG);
    CHECK_INT(lp_channel_read(w.s, lp_s(""), &info), LP_ERR_ARG);
    CHECK_INT(lp_channel_read(w.s, lp_s(NULL), &info), LP_ERR_ARG);
    CHECK_INT(lp_channel_read(w.s, lp_s("\n"), &info), LP_ERR_ARG);
    CHECK_INT(lp_channel_read(w.s, lp_s("a"), &info), LP_ERR_NOT_FOUND);
    CHECK(info.name[0] == 0x55 && info.held == 0x55555555);
    CHECK_INT(lp_channels_read(w.s, &position, &info, 1), 0);
    CHECK_INT(position, 0);
    CHECK_INT(lp_channel_delete(NULL, lp_s("a")), LP_ERR_ARG);
    CHECK_INT(lp_channel_delete(w.s, lp_s("\xff")), LP_ERR_ARG);
    CHECK_INT(lp_channel_delete(w.s, lp_s("a")), LP_ERR_NOT_FOUND);
    CHECK_INT(lp_receipts_read(NULL, lp_s("a"), lp_s("0123456789abcdef-1"), &page), LP_ERR_ARG);
    CHECK_INT(lp_receipts_read(w.s, lp_s("a"), lp_s("0123456789abcdef-1"), NULL), LP_ERR_ARG);
    CHECK_INT(lp_receipts_read(w.s, lp_s(""), lp_s("0123456789abcdef-1"), &page), LP_ERR_ARG);
    CHECK_INT(lp_receipts_read(w.s, lp_s("a"), lp_s(NULL), &page), LP_ERR_ARG);
    CHECK_INT(lp_receipts_read(w.s, lp_s("a"), lp_s("now"), &page), LP_ERR_ARG);
    CHECK_INT(lp_receipts_read(w.s, lp_s("a"), lp_s("0"), &page), LP_ERR_ARG);
    CHECK_INT(lp_receipts_read(w.s, lp_s("a"), lp_s(""), &page), LP_ERR_ARG);
    CHECK_INT(lp_receipts_read(w.s, lp_s("a"), lp_s("0123456789abcdef-1"), &page),
              LP_ERR_NOT_FOUND);
    CHECK(page.count == 0x55555555 && page.position == 0x55555555);
    p = publish_n(&w, "a", 1);
    CHECK_INT(lp_channel_read(w.s, lp_s("a"), &info), LP_OK);
    CHECK_STR(lp_s(info.name), "a");
    CHECK_STR(lp_s(info.first_id), p.id);
    CHECK_STR(lp_s(info.last_id), p.id);
    CHECK_INT(info.timestamp_us, p.timestamp_us);
    CHECK_INT(info.created_us, p.timestamp_us - 1);
    CHECK_INT(info.held, 1);
    CHECK_INT(info.waiters, 0);
    CHECK_STR(lp_s(lp_strerror(LP_ERR_NOT_FOUND)), "Not found");
    close_world(&w);
}
