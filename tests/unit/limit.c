/* >>limit: polls are counted by client and by address, exactly, and nothing is left of those
   who are gone. (read.c has what an address may hold of incomplete requests.) */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

/* Poll as that client, or without a name: NULL. The answer, or NULL if it is parked. */
static answer *poll_as(peer *c, const char *target, const char *client) {
    if (client) get_as(c, target, client);
    else get(c, target);
    settle(&w);
    return unheard(c).length ? take(c) : NULL;
}

/* ---- who is who ---- */

/* Whether two polls, of which each would be one too many for the other, are of two. */
static int are_two(const char *name, const char *address, const char *other_name,
                   const char *other_address, const char *error) {
    answer *a;
    open_world(&w);
    CHECK(!poll_as(dial_from(&w, address), "/api/poll/a", name));
    a = poll_as(dial_from(&w, other_address), "/api/poll/a", other_name);
    if (a) CHECK_INT(a->status, 429);
    if (a) CHECK_STR(member(a->body, "error"), error);
    close_world(&w);
    return !a;
}

/* Nobody elsewhere can use up what a name may have. */
TEST(limit_client_is_its_name_at_its_address) {
    static const struct { const char *name, *address, *other_name, *other_address; int two; }
    cases[] = {
        {"amy", "10.0.0.1", "amy", "10.0.0.1", 0},
        {"amy", "10.0.0.1", "amy", "10.0.0.2", 1},
        {"amy", "10.0.0.1", "bob", "10.0.0.1", 1},
        {"amy", "10.0.0.1", "amy", "::ffff:10.0.0.1", 0},
        {"amy", "2001:db8::1", "amy", "2001:db8::2", 0},
        {"amy", "2001:db8::1", "amy", "2001:db8:0:1::1", 1},
        {NULL, "10.0.0.1", NULL, "10.0.0.1", 0},
        {NULL, "10.0.0.1", NULL, "10.0.0.2", 1},
        {NULL, "2001:db8::1", NULL, "2001:db8::1", 0},
        {NULL, "2001:db8::1", NULL, "2001:db8::2", 1},
        {NULL, "10.0.0.1", "amy", "10.0.0.1", 1},
        {NULL, "10.0.0.1", "10.0.0.1", "10.0.0.1", 1},
        /* A name that has the bytes of the address is still a name. */
        {NULL, "4142:4344:4546:4748:494a:4b4c:4d4e:4f50", "ABCDEFGHIJKLMNOP",
         "4142:4344:4546:4748:494a:4b4c:4d4e:4f50", 1}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        memset(&w, 0, sizeof w);
        w.cfg.waiters_per_client = 1;
        CHECK_INT(are_two(cases[i].name, cases[i].address, cases[i].other_name,
                          cases[i].other_address, "Too many connections from client"),
                  cases[i].two);
    }
}

TEST(limit_address_is_by_address_and_by_64_bits_of_ipv6) {
    static const struct { const char *one, *other; int two; } cases[] = {
        {"10.0.0.1", "10.0.0.2", 1},
        {"10.0.0.1", "::ffff:10.0.0.1", 0},
        {"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", 0},
        {"2001:db8:1:2::1", "2001:db8:1:3::1", 1}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        memset(&w, 0, sizeof w);
        w.cfg.waiters_per_address = 1;
        CHECK_INT(are_two("amy", cases[i].one, "bob", cases[i].other,
                          "Too many connections from address"),
                  cases[i].two);
    }
}

/* ---- many clients against plain counts ---- */

enum { OPEN = 40, ADDRESSES = 5, SHARED_CHANNELS = 3 };

static const char *const addresses[ADDRESSES] = {
    "10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"};

static struct {
    peer *c;
    int parked, address, client, channel; /* client -1: without a name */
} conn[OPEN];

/* Of the same address, as limits see it. */
static int same_address(int a, int b) {
    return a == b || (a >= 2 && a <= 3 && b >= 2 && b <= 3);
}

static int same_client(int a, int b) {
    if (conn[a].client != conn[b].client) return 0;
    if (conn[a].client < 0) return conn[a].address == conn[b].address;
    return same_address(conn[a].address, conn[b].address);
}

/* What the poll must be refused for, if it is. */
static const char *refusal(int i) {
    int all = 0, client = 0, channel = 0, address = 0, k;
    for (k = 0; k < OPEN; k++) {
        if (!conn[k].parked) continue;
        all++;
        client += same_client(i, k);
        channel += conn[i].channel == conn[k].channel;
        address += same_address(conn[i].address, conn[k].address);
    }
    if (all >= (int)w.cfg.waiters_max) return "Server at capacity";
    if (client >= (int)w.cfg.waiters_per_client) return "Too many connections from client";
    if (channel >= (int)w.cfg.waiters_per_channel) return "Channel at capacity";
    if (address >= (int)w.cfg.waiters_per_address) return "Too many connections from address";
    return NULL;
}

/* Refusals of each kind, to see that it went everywhere. */
static int limit_told[4];

static void ask_one(int i, int names) {
    static const char *const errors[] = {"Server at capacity", "Too many connections from client",
                                         "Channel at capacity",
                                         "Too many connections from address"};
    char target[60], name[20];
    const char *why;
    answer *a;
    int k;
    conn[i].client = unit_one_in(5) ? -1 : names + (int)unit_below(12);
    conn[i].channel = (int)unit_below(SHARED_CHANNELS);
    why = refusal(i);
    snprintf(target, sizeof target, "/api/poll/%c?last_id=now", 'a' + conn[i].channel);
    snprintf(name, sizeof name, "client-%d", conn[i].client);
    a = poll_as(conn[i].c, target, conn[i].client < 0 ? NULL : name);
    if (!why != !a) unit_fail(__FILE__, __LINE__, "%s, and should be %s",
                              a ? "refused" : "parked", why ? why : "parked");
    conn[i].parked = !a;
    if (!a) return;
    CHECK_INT(a->status, 429);
    CHECK_STR(member(a->body, "error"), why);
    for (k = 0; k < 4; k++) limit_told[k] += !strcmp(why, errors[k]);
}

static void dial_one(int i) {
    conn[i].address = (int)unit_below(ADDRESSES);
    conn[i].c = dial_from(&w, addresses[conn[i].address]);
    settle(&w);
}

/* All whom a message on the channel reaches are answered. */
static void answer_channel(int channel) {
    char name[2] = "a";
    uint32_t waiters = 0;
    int i;
    name[0] = (char)('a' + channel);
    for (i = 0; i < OPEN; i++) waiters += conn[i].parked && conn[i].channel == channel;
    CHECK_INT(publish(&w, name, "{}").waiters, waiters);
    settle(&w);
    for (i = 0; i < OPEN; i++) {
        if (!conn[i].parked || conn[i].channel != channel) continue;
        CHECK_INT(take(conn[i].c)->status, 200);
        conn[i].parked = 0;
    }
}

/* The clients of a cycle have names that none had before it; when they are gone, all that
   was kept of them is. */
TEST(limit_many_clients_against_plain_counts) {
    int cycle, i, k, rounds = unit_rounds(4000);
    size_t bytes[4];
    w.cfg.waiters_max = 24;
    w.cfg.waiters_per_client = 3;
    w.cfg.waiters_per_channel = 11;
    w.cfg.waiters_per_address = 8;
    w.cfg.history_count = 1;
    open_world(&w);
    for (i = 0; i < SHARED_CHANNELS; i++) answer_channel(i); /* each has its ring by now */
    for (cycle = 0; cycle < 4; cycle++) {
        for (i = 0; i < OPEN; i++) dial_one(i);
        for (k = 0; k < rounds; k++) {
            i = (int)unit_below(OPEN);
            if (unit_one_in(60)) {
                answer_channel((int)unit_below(SHARED_CHANNELS));
            } else if (!conn[i].parked && !unit_one_in(10)) {
                ask_one(i, (cycle * rounds + k) / 10);
            } else if (unit_one_in(3)) {
                if (unit_one_in(2)) finish(conn[i].c);
                else reset(conn[i].c);
                settle(&w);
                CHECK(conn[i].c->closed);
                conn[i].parked = 0;
                dial_one(i);
            }
        }
        for (i = 0; i < OPEN; i++) finish(conn[i].c), conn[i].parked = 0;
        settle(&w);
        CHECK_INT(stats_of(&w).connections, 0);
        CHECK_INT(stats_of(&w).waiters, 0);
        bytes[cycle] = w.m.bytes - stats_of(&w).history_bytes;
    }
    CHECK_INT(bytes[3], bytes[2]);
    if (rounds > 1000)
        for (k = 0; k < 4; k++) CHECK(limit_told[k] > 20);
    close_world(&w);
}

/* ---- what is kept of a client ---- */

/* A connection that names another client leaves nothing of the one before behind, however
   often; a client that asks again costs no memory. */
TEST(limit_a_connection_is_one_client_at_a_time) {
    peer *c;
    char name[20];
    size_t bytes = 0, calls = 0;
    int i;
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "client-%d", i);
        CHECK(!poll_as(c, "/api/poll/a?last_id=now", name));
        publish(&w, "a", "{}");
        settle(&w);
        CHECK_INT(take(c)->status, 200);
        CHECK(!poll_as(c, "/api/poll/b?timeout=0.001", name));
        pass(&w, 3);
        CHECK_STR(member(take(c)->body, "status"), "timeout");
        if (i == 1100) bytes = w.m.bytes - stats_of(&w).history_bytes; /* the history is full */
    }
    CHECK_INT(w.m.bytes - stats_of(&w).history_bytes, bytes);
    calls = w.m.calls;
    for (i = 0; i < 100; i++) {
        CHECK(!poll_as(c, "/api/poll/b?timeout=0.001", name));
        pass(&w, 3);
        take(c);
    }
    CHECK_INT(w.m.calls, calls);
    close_world(&w);
}

/* Two connections of a client are answered, and one of them closes: what is kept of the
   client goes, and its place is taken by others before the second asks again. */
TEST(limit_a_client_is_found_though_its_place_was_taken) {
    enum { CLIENTS = 600 };
    static peer *c[CLIENTS], *d[CLIENTS], *e[CLIENTS];
    char name[20];
    answer *a;
    int i;
    w.cfg.waiters_per_client = 2;
    w.cfg.waiters_per_address = w.cfg.connections_per_address = LP_UNLIMITED;
    w.unchecked = 1; /* in between */
    open_world(&w);
    for (i = 0; i < CLIENTS; i++) {
        snprintf(name, sizeof name, "client-%d", i);
        CHECK(!poll_as(c[i] = dial(&w), "/api/poll/a", name));
        CHECK(!poll_as(d[i] = dial(&w), "/api/poll/a", name));
    }
    CHECK_INT(publish(&w, "a", "{}").waiters, 2 * CLIENTS);
    settle(&w);
    for (i = 0; i < CLIENTS; i++) finish(c[i]), take(d[i]);
    settle(&w);
    for (i = 0; i < CLIENTS / 2; i++) {
        snprintf(name, sizeof name, "other-%d", i);
        CHECK(!poll_as(e[i] = dial(&w), "/api/poll/b", name));
    }
    w.unchecked = 0;
    check_world(&w);
    w.unchecked = 1;
    for (i = 0; i < CLIENTS; i++) {
        snprintf(name, sizeof name, "client-%d", i);
        CHECK(!poll_as(d[i], "/api/poll/b", name));
        CHECK(!poll_as(c[i] = dial(&w), "/api/poll/b", name));
        a = poll_as(dial(&w), "/api/poll/b", name);
        CHECK(a);
        CHECK_STR(member(a->body, "error"), "Too many connections from client");
    }
    w.unchecked = 0;
    close_world(&w);
}

/* Likewise of addresses. */
TEST(limit_addresses_leave_nothing_behind) {
    char address[20];
    size_t bytes = 0;
    int i;
    open_world(&w);
    for (i = 0; i < 2000; i++) {
        peer *c;
        snprintf(address, sizeof address, "10.1.%d.%d", i / 250, i % 250);
        c = dial_from(&w, address);
        CHECK(!poll_as(c, "/api/poll/a", NULL));
        finish(c);
        settle(&w);
        CHECK(c->closed);
        if (i == 100) bytes = w.m.bytes;
    }
    CHECK_INT(w.m.bytes, bytes);
    close_world(&w);
}

/* ---- behind a proxy ---- */

static void say_for(peer *c, const char *far, const char *name) {
    sayf(c, "GET /api/poll/a HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: %s\r\n"
            "X-Client-ID: %s\r\n", far, name);
}

static answer *poll_for(const char *far, const char *name) {
    peer *c = dial(&w);
    say_for(c, far, name);
    say(c, "\r\n");
    settle(&w);
    return unheard(c).length ? take(c) : NULL;
}

/* What a proxy passes on counts where it comes from, together with what comes from there by
   itself. */
TEST(limit_behind_a_proxy_the_far_address_counts) {
    answer *a;
    w.cfg.trusted_proxies = "127.0.0.1";
    w.cfg.waiters_per_client = 2;
    w.cfg.waiters_per_address = 3;
    open_world(&w);
    CHECK(!poll_for("10.0.0.5", "amy"));
    CHECK(!poll_as(dial_from(&w, "10.0.0.5"), "/api/poll/a", "amy"));
    CHECK_STR(member((a = poll_for("10.0.0.5", "amy"))->body, "error"),
              "Too many connections from client");
    CHECK(!poll_for("10.0.0.6", "amy"));
    CHECK(!poll_for("10.0.0.5", "bob"));
    CHECK_STR(member((a = poll_for("10.0.0.5", "bob"))->body, "error"),
              "Too many connections from address");
    a = poll_as(dial_from(&w, "10.0.0.5"), "/api/poll/a", "eve");
    CHECK_STR(member(a->body, "error"), "Too many connections from address");
    CHECK(!poll_for("10.0.0.6", "bob"));
    CHECK(!poll_for("10.0.0.6", "bob"));
    CHECK(!poll_as(dial(&w), "/api/poll/a", "bob")); /* the proxy's own */
    close_world(&w);
}

/* The request that came in pieces is kept; it counts where it comes from, unless it is too
   much there. */
TEST(limit_what_is_kept_moves_with_the_request) {
    enum { N = 10 };
    static const char *const far[] = {"10.0.0.5", "10.0.0.6"};
    peer *c;
    char text[3001];
    int i, refused = 0;
    memset(text, 'x', 3000);
    text[3000] = 0;
    w.cfg.trusted_proxies = "127.0.0.1";
    w.cfg.partial_bytes_max = 65536;
    open_world(&w);
    for (i = 0; i < N; i++) { /* until 10.0.0.5 holds its share */
        c = dial_from(&w, far[0]);
        sayf(c, "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s", text);
        settle(&w);
        refused += c->shut;
    }
    CHECK(refused && refused < N);
    for (i = 0; i < 2; i++) {
        c = dial(&w);
        say_for(c, far[i], "amy");
        sayf(c, "X: %s", text);
        settle(&w);
        CHECK_SILENT(c);
        say(c, "\r\n\r\n");
        settle(&w);
        if (i) {
            CHECK_SILENT(c);
            continue;
        }
        CHECK_INT(take(c)->status, 503);
        CHECK_INT(stats_of(&w).waiters, 0);
        CHECK(!poll_for(far[0], "amy")); /* nothing is kept of one that comes at once */
    }
    CHECK_INT(stats_of(&w).waiters, 2);
    close_world(&w);
}
