/* Receipts: which clients a message was handed to. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;
static peer *reader_peer;

static void open_receipts(uint32_t max) {
    w.cfg.admin_token = "secret";
    w.cfg.track_receipts = max;
    w.cfg.waiters_per_client = w.cfg.connections_per_address = LP_UNLIMITED;
    reader_peer = NULL;
    open_world(&w);
}

static answer *receipts_of(const char *channel, const char *id, const char *query) {
    if (!reader_peer || reader_peer->closed) reader_peer = dial_from(&w, "10.255.255.254");
    sayf(reader_peer, "GET /api/receipts/%s/%s%s HTTP/1.1\r\nHost: localhost\r\n"
         "Authorization: Bearer secret\r\n\r\n", channel, id, query);
    settle(&w);
    return take(reader_peer);
}

/* The names, with ',' between, and '!' behind them if some are lost. */
static const char *handed_to(const char *channel, const char *id) {
    static char names[4][2000];
    static int next;
    char *to = names[next++ % 4], *all = to;
    lp_receipts page;
    uint32_t i;
    page.position = 0;
    *to = 0;
    do {
        CHECK_INT(lp_receipts_read(w.s, lp_s(channel), lp_s(id), &page), LP_OK);
        for (i = 0; i < page.count; i++)
            to += sprintf(to, "%s%s", to == all ? "" : ",", page.client_ids[i]);
    } while (page.position);
    if (!page.complete) strcpy(to, "!");
    return all;
}

#define CHECK_HANDED(channel, id, want) CHECK_STR(lp_s(handed_to(channel, id)), want)

/* The poll of that client is answered at once. */
static answer *read_as(peer *c, const char *target, const char *client) {
    get_as(c, target, client);
    settle(&w);
    return take(c);
}

static peer *wait_as(const char *target, const char *client) {
    peer *c = dial(&w);
    get_as(c, target, client);
    settle(&w);
    CHECK_SILENT(c);
    return c;
}

static void check_no_names(void) {
    CHECK_INT(w.s->hub.names.used, 0);
    CHECK_INT(w.s->hub.receipts.used, 0);
}

/* ---- who is named ---- */

TEST(receipts_name_clients) {
    lp_published p, q;
    peer *c, *waiting;
    answer *a;
    open_receipts(100);
    waiting = wait_as("/api/poll/news", "late");
    p = publish_n(&w, "news", 1);
    CHECK_HANDED("news", p.id, "");
    settle(&w);
    CHECK_INT(take(waiting)->status, 200);
    CHECK_HANDED("news", p.id, "late");
    c = dial(&w);
    ask(&w, c, "/api/poll/news?timeout=0"); /* of no name */
    CHECK_HANDED("news", p.id, "late");
    read_as(c, "/api/poll/news?timeout=0", "b");
    read_as(c, "/api/poll/news?timeout=0", "b"); /* once more */
    read_as(dial(&w), "/api/poll/news?timeout=0", "b");
    read_as(dial(&w), "/api/poll/news?timeout=0", "c");
    q = publish_n(&w, "news", 2);
    CHECK_HANDED("news", p.id, "late,b,c");
    CHECK_HANDED("news", q.id, "");
    a = receipts_of("news", p.id, "");
    CHECK_INT(a->status, 200);
    CHECK_STR(heading(a, "Content-Type"), "application/json");
    CHECK_STR(a->body, "{\"delivered_to\":[\"late\",\"b\",\"c\"],\"complete\":true}");
    CHECK_STR(receipts_of("news", q.id, "")->body, "{\"delivered_to\":[],\"complete\":true}");
    close_world(&w);
}

TEST(receipts_follow_the_name_of_each_poll) {
    lp_published p[3];
    peer *c;
    int i;
    open_receipts(100);
    c = dial(&w);
    for (i = 0; i < 3; i++) p[i] = publish_n(&w, "news", i);
    read_as(c, "/api/poll/news?limit=1", "first");
    read_as(c, "/api/poll/news?limit=2", "second");
    ask(&w, c, "/api/poll/news"); /* of none */
    CHECK_HANDED("news", p[0].id, "first,second");
    CHECK_HANDED("news", p[1].id, "second");
    CHECK_HANDED("news", p[2].id, "");
    get_as(c, "/api/poll/news", "x"); /* one behind the other */
    get(c, "/api/poll/news");
    get_as(c, "/api/poll/news", "y");
    settle(&w);
    CHECK_HANDED("news", p[2].id, "x,y");
    take(c), take(c), take(c);
    CHECK_INT(w.s->hub.names.used, 4); /* and none of a name that nobody refers to */
    read_as(c, "/api/poll/other?timeout=0", "z");
    CHECK_INT(w.s->hub.names.used, 5);
    ask(&w, c, "/api/poll/other?timeout=0");
    CHECK_INT(w.s->hub.names.used, 4);
    close_world(&w);
}

TEST(receipts_names_of_any_form) {
    char name[129], want[400];
    lp_published p;
    memset(name, 'n', 128);
    name[128] = 0;
    open_receipts(100);
    p = publish_n(&w, "a/b,c", 1);
    read_as(dial(&w), "/api/poll/a%2Fb%2Cc", name);
    read_as(dial(&w), "/api/poll/a%2Fb%2Cc", "\"\\<,");
    sprintf(want, "{\"delivered_to\":[\"%s\",\"\\\"\\\\<,\"],\"complete\":true}", name);
    CHECK_STR(receipts_of("a%2Fb%2Cc", p.id, "")->body, want);
    CHECK_INT(read_as(dial(&w), "/api/poll/a", "bad name")->status, 400);
    CHECK_INT(w.s->hub.names.used, 2);
    close_world(&w);
}

TEST(receipts_of_several_channels) {
    lp_published p[3];
    peer *c;
    open_receipts(100);
    p[0] = publish_n(&w, "a", 1);
    p[1] = publish_n(&w, "b", 2);
    p[2] = publish_n(&w, "c", 3);
    read_as(dial(&w), "/api/poll/c,a", "one");
    CHECK_HANDED("a", p[0].id, "one");
    CHECK_HANDED("b", p[1].id, "");
    CHECK_HANDED("c", p[2].id, "one");
    c = wait_as("/api/poll/a,b,c?last_id=now", "two");
    p[1] = publish_n(&w, "b", 4);
    settle(&w);
    take(c);
    CHECK_HANDED("a", p[0].id, "one");
    CHECK_HANDED("b", p[1].id, "two");
    close_world(&w);
}

TEST(receipts_are_not_of_heads_and_timeouts) {
    lp_published p;
    peer *c;
    open_receipts(100);
    p = publish_n(&w, "news", 1);
    c = dial(&w);
    sayf(c, "HEAD /api/poll/news HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: h\r\n\r\n");
    settle(&w);
    CHECK_INT(take_head(c)->status, 200);
    read_as(c, "/api/poll/news?last_id=now&timeout=0", "h");
    get_as(c, "/api/poll/news?last_id=now&timeout=1", "h");
    pass(&w, 1100);
    CHECK_STR(member(take(c)->body, "status"), "timeout");
    ask(&w, c, "/api/none"); /* an answer of another kind is of no messages */
    CHECK_HANDED("news", p.id, "");
    read_as(c, "/api/poll/news", "h");
    CHECK_HANDED("news", p.id, "h");
    close_world(&w);
}

TEST(receipts_of_streams) {
    lp_published p[4];
    peer *c, *head;
    int i;
    open_receipts(100);
    p[0] = publish_n(&w, "news", 0);
    c = dial(&w);
    get_as(c, "/api/stream/news", "s");
    head = dial(&w);
    sayf(head, "HEAD /api/stream/news HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: h\r\n\r\n");
    settle(&w);
    CHECK_HANDED("news", p[0].id, "s");
    for (i = 1; i < 4; i++) p[i] = publish_n(&w, "news", i);
    CHECK_HANDED("news", p[1].id, "");
    settle(&w);
    for (i = 1; i < 4; i++) CHECK_HANDED("news", p[i].id, "s");
    widen(c, 10); /* of the next events so much */
    p[0] = publish_n(&w, "news", 4);
    settle(&w);
    p[1] = publish_n(&w, "news", 5);
    settle(&w);
    CHECK_HANDED("news", p[0].id, "");
    widen(c, SIZE_MAX);
    settle(&w);
    CHECK_HANDED("news", p[0].id, "s");
    CHECK_HANDED("news", p[1].id, "s");
    leave(&w, c);
    close_world(&w);
}

TEST(receipts_on_several_loops) {
    lp_published p;
    peer *c[6];
    int i;
    w.cfg.loops = 3;
    open_receipts(100);
    for (i = 0; i < 6; i++) c[i] = wait_as("/api/poll/news", i % 2 ? "odd" : "even");
    p = publish_n(&w, "news", 1);
    settle(&w);
    for (i = 0; i < 6; i++) CHECK_INT(take(c[i])->status, 200);
    CHECK(!strcmp(handed_to("news", p.id), "odd,even") ||
          !strcmp(handed_to("news", p.id), "even,odd"));
    close_world(&w);
}

/* ---- when ---- */

/* The last byte counts, and not the first. */
TEST(receipts_of_a_reply_that_is_cut_short) {
    lp_published p;
    peer *c, *fast, *lost;
    size_t whole;
    open_receipts(100);
    c = wait_as("/api/poll/news", "slow");
    fast = wait_as("/api/poll/news", "fast");
    lost = wait_as("/api/poll/news", "lost");
    widen(c, 100);
    widen(lost, 1000); /* into the body */
    p = publish_padded(&w, "news", 3000);
    settle(&w);
    CHECK_HANDED("news", p.id, "fast");
    whole = fast->out_length;
    widen(c, whole - 101);
    settle(&w);
    CHECK_INT(c->out_length, whole - 1);
    CHECK_HANDED("news", p.id, "fast");
    reset(lost); /* it dies before it has all */
    settle(&w);
    CHECK(lost->closed);
    widen(c, 1);
    settle(&w);
    CHECK_HANDED("news", p.id, "fast,slow");
    CHECK_INT(take(c)->status, 200);
    CHECK_INT(w.s->hub.names.used, 2);
    close_world(&w);
}

TEST(receipts_of_a_reply_that_stalls) {
    lp_published p;
    peer *c;
    open_receipts(100);
    c = wait_as("/api/poll/news", "slow");
    widen(c, 100);
    p = publish_padded(&w, "news", 3000);
    settle(&w);
    pass(&w, 60000);
    CHECK(c->closed);
    CHECK_HANDED("news", p.id, "");
    CHECK_INT(w.s->hub.names.used, 0);
    close_world(&w);
}

TEST(receipts_of_a_send_that_fails) {
    lp_published p;
    peer *c;
    open_receipts(100);
    c = wait_as("/api/poll/news", "gone");
    p = publish_n(&w, "news", 1);
    fault(&w, K_SEND, EPIPE, 0, 1);
    settle(&w);
    CHECK(c->closed);
    CHECK_HANDED("news", p.id, "");
    CHECK_INT(w.s->hub.names.used, 0);
    close_world(&w);
}

/* What is evicted, or deleted, while it is written has no receipts; the rest of the reply has. */
TEST(receipts_of_messages_that_are_evicted_meanwhile) {
    lp_published p, q;
    peer *c;
    lp_receipts page;
    int how;
    for (how = 0; how < 2; how++) {
        memset(&w, 0, sizeof w);
        w.cfg.history_count = 2;
        open_receipts(100);
        p = publish_padded(&w, "news", 3000);
        q = publish_padded(&w, "news", 3000);
        c = dial(&w);
        widen(c, 100);
        get_as(c, "/api/poll/news", "slow");
        settle(&w);
        if (how) CHECK_INT(lp_channel_delete(w.s, lp_s("news")), LP_OK);
        publish_n(&w, "news", 3); /* with how 1 it has the first one's SEQ */
        widen(c, SIZE_MAX);
        settle(&w);
        CHECK_INT(count_of(take(c)->body, "\"pad\""), 2);
        page.position = 0;
        CHECK_INT(lp_receipts_read(w.s, lp_s("news"), lp_s(p.id), &page), LP_ERR_NOT_FOUND);
        if (!how) CHECK_HANDED("news", q.id, "slow");
        CHECK_INT(w.s->hub.receipts.used, !how);
        close_world(&w);
    }
}

/* The whole channel may be forgotten, and its record be another's, or freed. */
TEST(receipts_of_a_forgotten_channel) {
    int how;
    for (how = 0; how < 2; how++) {
        peer *c = NULL;
        memset(&w, 0, sizeof w);
        w.cfg.history_age_ms = 1000;
        w.cfg.write_ms = 60000;
        open_receipts(100);
        publish_padded(&w, "news", 3000);
        c = dial(&w);
        widen(c, 100);
        get_as(c, "/api/poll/news", "slow");
        settle(&w);
        pass(&w, 3000);
        CHECK_INT(stats_of(&w).channels, 0);
        if (how) publish_n(&w, "other", 1);
        widen(c, SIZE_MAX);
        settle(&w);
        CHECK_INT(take(c)->status, 200);
        CHECK_INT(w.s->hub.receipts.used, 0);
        close_world(&w);
    }
}

TEST(receipts_in_a_drain) {
    lp_published p;
    peer *c;
    open_receipts(100);
    c = wait_as("/api/poll/news", "last");
    lp_stop(w.s);
    turn(&w, 0);
    p = publish_n(&w, "news", 1);
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    CHECK_HANDED("news", p.id, "last");
    close_world(&w);
}

/* ---- how long, and how many ---- */

TEST(receipts_go_with_their_messages) {
    lp_published p[3];
    lp_receipts page;
    peer *c;
    int i;
    w.cfg.history_count = 2;
    open_receipts(100);
    for (i = 0; i < 2; i++) p[i] = publish_n(&w, "news", i);
    c = dial(&w);
    read_as(c, "/api/poll/news", "a");
    leave(&w, c);
    CHECK_INT(w.s->hub.names.used, 1); /* receipts refer to it */
    p[2] = publish_n(&w, "news", 2);
    page.position = 7;
    CHECK_INT(lp_receipts_read(w.s, lp_s("news"), lp_s(p[0].id), &page), LP_ERR_NOT_FOUND);
    CHECK_INT(page.position, 7);
    CHECK_HANDED("news", p[1].id, "a");
    CHECK_INT(receipts_of("news", p[0].id, "")->status, 404);
    CHECK_INT(lp_channel_delete(w.s, lp_s("news")), LP_OK);
    check_no_names();
    CHECK_STR(member(receipts_of("news", p[1].id, "")->body, "error"), "No such message");
    close_world(&w);
}

TEST(receipts_of_no_message) {
    static const char *const bad[] = {"x", "now", "0", "0123456789abcdef", "0123456789abcdef-",
                                      "0123456789ABCDEF-1", "0123456789abcdef-01"};
    lp_published p;
    char id[60];
    size_t i;
    open_receipts(100);
    p = publish_n(&w, "news", 1);
    for (i = 0; i < LPI_COUNT(bad); i++) {
        answer *a = receipts_of("news", bad[i], "");
        if (a->status != 400) unit_fail(__FILE__, __LINE__, "%s: %d", bad[i], a->status);
        CHECK_STR(member(a->body, "error"), "Bad channel name or id");
    }
    CHECK_INT(receipts_of("news", "0123456789abcdef-1", "")->status, 404);
    CHECK_INT(receipts_of("other", p.id, "")->status, 404);
    sprintf(id, "%.17s0", p.id);
    CHECK_INT(receipts_of("news", id, "")->status, 404);
    sprintf(id, "%.17s2", p.id);
    CHECK_INT(receipts_of("news", id, "")->status, 404);
    sprintf(id, "%.17s18446744073709551615", p.id);
    CHECK_INT(receipts_of("news", id, "")->status, 404);
    close_world(&w);
}

/* One more than track_receipts drops the oldest of all, and its message tells. */
TEST(receipts_are_so_many_at_most) {
    lp_published p, q;
    open_receipts(3);
    p = publish_n(&w, "a", 1);
    q = publish_n(&w, "b", 1);
    read_as(dial(&w), "/api/poll/a", "1");
    read_as(dial(&w), "/api/poll/b", "2");
    read_as(dial(&w), "/api/poll/a", "3");
    CHECK_HANDED("a", p.id, "1,3");
    read_as(dial(&w), "/api/poll/a", "3"); /* none that is new: nothing is dropped */
    CHECK_HANDED("a", p.id, "1,3");
    read_as(dial(&w), "/api/poll/a", "4");
    CHECK_HANDED("a", p.id, "3,4!");
    CHECK_HANDED("b", q.id, "2");
    CHECK_STR(receipts_of("a", p.id, "")->body,
              "{\"delivered_to\":[\"3\",\"4\"],\"complete\":false}");
    read_as(dial(&w), "/api/poll/a", "1"); /* again, as if for the first time */
    CHECK_HANDED("a", p.id, "3,4,1!");
    CHECK_HANDED("b", q.id, "!");
    CHECK_INT(w.s->hub.receipts.used, 3);
    close_world(&w);
}

TEST(receipts_one_at_most) {
    lp_published p[5];
    int i;
    open_receipts(1);
    for (i = 0; i < 5; i++) p[i] = publish_n(&w, "a", i);
    read_as(dial(&w), "/api/poll/a", "x");
    for (i = 0; i < 4; i++) CHECK_HANDED("a", p[i].id, "!");
    CHECK_HANDED("a", p[4].id, "x");
    close_world(&w);
}

TEST(receipts_come_in_pages) {
    char id[40], name[20], query[60];
    static char all[4000];
    answer *a;
    int i, limit, want;
    lp_slice next;
    open_receipts(1000);
    strcpy(id, publish_n(&w, "news", 1).id);
    for (i = 0; i < 150; i++) {
        sprintf(name, "c%d", i);
        read_as(dial(&w), "/api/poll/news", name);
    }
    strcpy(all, handed_to("news", id)); /* in pages of 64 */
    CHECK_INT(count_of(lp_s(all), ","), 149);
    CHECK(!strncmp(all, "c0,c1,c2,", 9) && strstr(all, ",c63,c64,c65,"));
    CHECK_INT(count_of(receipts_of("news", id, "")->body, "\"c"), 101); /* and "complete" */
    for (limit = 1; limit <= 1000; limit += limit < 70 ? 23 : 310) {
        strcpy(query, "");
        for (i = 0, want = 0; i < 151; i++) {
            sprintf(query, "?limit=%d&after=%d", limit, want);
            a = receipts_of("news", id, query);
            next = member(a->body, "next");
            want += count_of(a->body, "\"c") - 1;
            sprintf(name, "[\"c%d\"", i * limit);
            CHECK(has(a->body, name));
            if (!next.bytes) break;
            sprintf(name, "%d", want);
            CHECK_STR(next, name);
        }
        CHECK_INT(want, 150);
    }
    CHECK_STR(receipts_of("news", id, "?after=150")->body,
              "{\"delivered_to\":[],\"complete\":true}");
    CHECK_STR(receipts_of("news", id, "?after=4294967294")->body,
              "{\"delivered_to\":[],\"complete\":true}");
    close_world(&w);
}

/* Names are kept only if receipts are noted. */
TEST(receipts_are_off_unless_asked_for) {
    lp_published p;
    open_receipts(0);
    p = publish_n(&w, "news", 1);
    read_as(dial(&w), "/api/poll/news", "a");
    wait_as("/api/poll/news?last_id=now", "b");
    check_no_names();
    CHECK_INT(w.s->loops[0].reader_capacity, 0);
    CHECK_HANDED("news", p.id, "");
    close_world(&w);
}

/* What the manual says they take. */
TEST(receipts_take_what_is_said) {
    size_t before, after;
    char name[20];
    int i;
    peer *c;
    w.cfg.history_count = 4096;
    open_receipts(LPI_CHUNK * 64);
    for (i = 0; i < 4096; i++) publish_n(&w, "news", i);
    c = dial(&w);
    read_as(c, "/api/poll/news?limit=1000", "warm");
    leave(&w, c);
    before = w.m.bytes;
    for (i = 0; i < LPI_CHUNK * 8; i++) {
        sprintf(name, "c%d", i);
        c = dial(&w);
        read_as(c, "/api/poll/news?limit=1", name);
        leave(&w, c);
    }
    after = w.m.bytes;
    CHECK(after - before <= (size_t)LPI_CHUNK * 8 * (48 + 160) + 4096);
    close_world(&w);
}

/* ---- memory fails ---- */

/* A poll that is answered at once, a parked one, a stream, and one that reads slowly. Whatever
   fails is one client's loss or a receipt that is known to be lost. */
static void receipts_with_failures(size_t k, int for_ever) {
    peer *c[4];
    lp_published p;
    lp_receipts page;
    int i;
    publish_n(&w, "warm", 1);
    for (i = 0; i < 4; i++) c[i] = dial(&w);
    ask(&w, c[0], "/api/poll/warm");
    settle(&w);
    w.m.fail_at = w.m.calls + k;
    w.m.fail_forever = for_ever;
    get_as(c[0], "/api/poll/warm", "zero");
    get_as(c[1], "/api/poll/news", "one");
    get_as(c[2], "/api/stream/news", "two");
    get_as(c[3], "/api/poll/news", "three");
    settle(&w);
    widen(c[3], 100);
    if (lp_publish(w.s, lp_s("news"), lp_s("{\"n\":1}"), &p) == LP_OK) {
        settle(&w);
        widen(c[3], SIZE_MAX);
        settle(&w);
        page.position = 0;
        CHECK_INT(lp_receipts_read(w.s, lp_s("news"), lp_s(p.id), &page), LP_OK);
        CHECK(page.count == 3 || w.m.failed);
        for (i = 1; i < 4; i++) { /* who is named has had it */
            static const char *const names[] = {"zero", "one", "two", "three"};
            uint32_t n, named = 0;
            for (n = 0; n < page.count; n++) named += !strcmp(page.client_ids[n], names[i]);
            CHECK(named <= 1);
            if (named) CHECK(has(unheard(c[i]), "\"n\":1"));
            else if (has(unheard(c[i]), "\"n\":1}")) CHECK(!page.complete || c[i]->closed);
        }
    }
    for (i = 0; i < 4; i++)
        if (!c[i]->closed) finish(c[i]);
    settle(&w);
}

TEST(receipts_memory_fails_once_anywhere) {
    size_t k, failed;
    int for_ever;
    for (for_ever = 0; for_ever < 2; for_ever++) {
        for (k = 1, failed = 1; failed; k++) {
            peer *c;
            lp_published p;
            memset(&w, 0, sizeof w);
            open_receipts(100);
            receipts_with_failures(k, for_ever);
            failed = w.m.failed;
            w.m.fail_at = 0;
            c = dial(&w);
            p = publish_n(&w, "fresh", 1); /* it serves as before */
            read_as(c, "/api/poll/fresh", "fresh");
            CHECK_HANDED("fresh", p.id, "fresh");
            (void)lp_channel_delete(w.s, lp_s("news"));
            (void)lp_channel_delete(w.s, lp_s("warm"));
            (void)lp_channel_delete(w.s, lp_s("fresh"));
            leave(&w, c);
            check_no_names();
            close_world(&w);
        }
        CHECK(k > 8);
    }
}

/* ---- all at random ---- */

enum { RANDOM_READERS = 12, RANDOM_MESSAGES = 400 };

/* A client is named for a message if and only if it heard the whole of it, or that was dropped. */
TEST(receipts_at_random) {
    int round;
    for (round = 0; round < unit_rounds(20); round++) {
        peer *c[RANDOM_READERS];
        char name[20], target[60];
        int i, step;
        memset(&w, 0, sizeof w);
        w.cfg.history_count = 1 + unit_below(20);
        open_receipts(1 + unit_below(200));
        for (i = 0; i < RANDOM_READERS; i++) c[i] = dial(&w);
        settle(&w);
        for (step = 0; step < RANDOM_MESSAGES; step++) {
            i = (int)unit_below(RANDOM_READERS);
            switch (unit_below(8)) {
            case 0: reset(c[i]); settle(&w); c[i] = dial(&w); break;
            case 1: widen(c[i], unit_below(400)); break;
            case 2: widen(c[i], SIZE_MAX); break;
            case 3: publish_padded(&w, unit_one_in(2) ? "a" : "b", 20 + unit_below(400)); break;
            case 4: if (unit_one_in(10)) (void)lp_channel_delete(w.s, lp_s("a")); break;
            default:
                sprintf(name, "c%u", unit_below(6));
                sprintf(target, "/api/%s/%s", unit_one_in(4) ? "stream" : "poll",
                        unit_one_in(2) ? "a" : unit_one_in(2) ? "b" : "b,a");
                if (!c[i]->closed) get_as(c[i], target, name);
            }
            if (unit_one_in(2)) turn(&w, 0);
        }
        for (i = 0; i < RANDOM_READERS; i++)
            if (!c[i]->closed) reset(c[i]);
        settle(&w);
        (void)lp_channel_delete(w.s, lp_s("a"));
        (void)lp_channel_delete(w.s, lp_s("b"));
        check_no_names();
        close_world(&w);
    }
}
