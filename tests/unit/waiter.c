/* >>waiter: polls are parked and let go, and what they are told when they are. The end of
   the file holds polls, messages and limits against a model. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"
#include "../store.h"

static world w;

/* ---- the inside, here alone: a store that is elsewhere, which only tests have yet ---- */

/* New channels are fetching from now on. */
static void go_remote(void) { store_open(&w.s->hub); }

/* The state of the channel is here, if there is such a channel and it is fetching. */
static void loaded(const char *name) {
    lpi_hub *hub = &w.s->hub;
    uint32_t index;
    lpi_hub_lock(hub);
    index = lpi_channel_find(hub, lp_s(name), lpi_channel_hash(hub, lp_s(name)), now_ms(&w));
    if (index != LPI_NONE && store_is_fetching(lpi_channel_at(hub, index)))
        store_load_channel(hub, index, now_ms(&w));
    lpi_hub_unlock_and_signal(hub);
}

/* ---- */

/* "/api/poll/CHANNEL?last_id=..." of the message's epoch and that SEQ. */
static const char *at_cursor(const char *channel, const lp_published *p, unsigned seq) {
    static char text[4][100];
    static int next;
    char *to = text[next++ % 4];
    snprintf(to, 100, "/api/poll/%s?last_id=%.16s-%u", channel, p->id, seq);
    return to;
}

/* The next answer has these messages, and this as its reset ("a":"evicted"), or none. */
static answer *check_take(peer *c, const char *ns, const char *reset) {
    answer *a = take(c);
    char want[100];
    CHECK_INT(a->status, 200);
    CHECK_STR(lp_s(ns_of(a)), ns);
    snprintf(want, sizeof want, ",\"reset\":{%s}}", reset);
    if (*reset) CHECK(has(a->body, want));
    else CHECK(!has(a->body, "\"reset\""));
    return a;
}

/* ---- refusals: in this order, and exactly at the edge ---- */

/* The poll of a new connection is refused, or, without an error, parked. */
static peer *check_poll(const char *target, const char *client, const char *error) {
    peer *c = dial(&w);
    uint64_t refused = stats_of(&w).refused;
    uint32_t waiters = stats_of(&w).waiters;
    get_as(c, target, client);
    settle(&w);
    CHECK_INT(stats_of(&w).refused, refused + (error != NULL));
    CHECK_INT(stats_of(&w).waiters, waiters + (error == NULL));
    if (error) {
        answer *a = take(c);
        CHECK_INT(a->status, 429);
        CHECK_STR(member(a->body, "error"), error);
    }
    CHECK_SILENT(c);
    return c;
}

static const char *const refusals[] = {"Server at capacity", "Too many connections from client",
                                     "Channel at capacity",
                                     "Too many connections from address"};

TEST(waiter_refused_at_each_edge) {
    uint32_t i, k;
    for (i = 0; i < 4; i++) {
        peer *first;
        memset(&w, 0, sizeof w);
        if (i == 0) w.cfg.waiters_max = 3;
        if (i == 1) w.cfg.waiters_per_client = 3;
        if (i == 2) w.cfg.waiters_per_channel = 3;
        if (i == 3) w.cfg.waiters_per_address = 3;
        open_world(&w);
        first = check_poll("/api/poll/a", "amy", NULL);
        for (k = 0; k < 2; k++) check_poll("/api/poll/a", "amy", NULL);
        check_poll("/api/poll/a", "amy", refusals[i]);
        leave(&w, first);
        check_poll("/api/poll/a", "amy", NULL);
        check_poll("/api/poll/a", "amy", refusals[i]);
        close_world(&w);
    }
}

/* Each of the first `i` limits is lifted. */
TEST(waiter_refusals_have_an_order) {
    uint32_t i;
    for (i = 0; i < 5; i++) {
        memset(&w, 0, sizeof w);
        w.cfg.waiters_max = i > 0 ? 2 : 1;
        w.cfg.waiters_per_client = i > 1 ? 2 : 1;
        w.cfg.waiters_per_channel = i > 2 ? 2 : 1;
        w.cfg.waiters_per_address = i > 3 ? 2 : 1;
        open_world(&w);
        check_poll("/api/poll/a", "amy", NULL);
        check_poll("/api/poll/a", "amy", i < 4 ? refusals[i] : NULL);
        close_world(&w);
    }
}

TEST(waiter_limits_are_apart) {
    w.cfg.waiters_per_client = 1;
    w.cfg.waiters_per_channel = 1;
    open_world(&w);
    check_poll("/api/poll/a", "amy", NULL);
    check_poll("/api/poll/b", "bob", NULL);
    check_poll("/api/poll/c,b", "eve", refusals[2]); /* any of its channels */
    check_poll("/api/poll/c,d", "eve", NULL);
    CHECK_INT(publish_n(&w, "c", 1).waiters, 1);
    CHECK_INT(publish_n(&w, "d", 1).waiters, 1);
    CHECK_INT(stats_of(&w).waiters, 3);
    close_world(&w);
}

/* What is answered at once counts nowhere. */
TEST(waiter_limits_do_not_touch_who_does_not_wait) {
    w.cfg.waiters_max = 1;
    open_world(&w);
    publish_n(&w, "a", 1);
    park_new(&w, "/api/poll/b");
    CHECK_STR(lp_s(ns_of(ask(&w, dial(&w), "/api/poll/a"))), "1");
    CHECK_STR(member(look(&w, "a", "now")->body, "status"), "timeout");
    CHECK_INT(stats_of(&w).refused, 0);
    close_world(&w);
}

TEST(waiter_limits_may_be_unlimited) {
    int i;
    w.cfg.waiters_max = w.cfg.waiters_per_client = LP_UNLIMITED;
    w.cfg.waiters_per_channel = w.cfg.waiters_per_address = LP_UNLIMITED;
    open_world(&w);
    for (i = 0; i < 100; i++) check_poll("/api/poll/a", "amy", NULL);
    close_world(&w);
}

/* ---- parking and leaving ---- */

TEST(waiter_of_many_channels_waits_on_each) {
    static const char all[] = "/api/poll/a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p";
    lp_published p[16];
    peer *c, *d;
    answer *a;
    char name[2] = "a", want[16 * 40 + 1] = "";
    int i, n = 0;
    w.cfg.loops = 2;
    open_world(&w);
    d = park_new(&w, "/api/poll/c");
    c = park_new(&w, all);
    for (i = 0; i < 16; i++, name[0]++) {
        p[i] = publish_n(&w, name, i);
        CHECK_INT(p[i].waiters, i == 2 ? 2 : 1);
        n += sprintf(want + n, "%s%.39s", i ? "," : "", p[i].id);
    }
    settle(&w);
    check_take(d, "2", "");
    a = check_take(c, "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "");
    CHECK_STR(member(a->body, "last_id"), want); /* in the order of the poll */
    get(c, all);
    settle(&w);
    check_take(c, "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "");
    sayf(c, "GET %s?last_id=now HTTP/1.1\r\nHost: localhost\r\n\r\n", all);
    settle(&w);
    CHECK_INT(stats_of(&w).waiters, 1);
    leave(&w, c);
    for (name[0] = 'a'; name[0] <= 'p'; name[0]++) CHECK_INT(publish_n(&w, name, 0).waiters, 0);
    close_world(&w);
}

TEST(waiter_of_two_channels_is_answered_once) {
    lp_published a, b;
    peer *c;
    char want[80];
    open_world(&w);
    c = park_new(&w, "/api/poll/a,b");
    CHECK_INT((b = publish_n(&w, "b", 1)).waiters, 1);
    tick(&w, 1);
    a = publish_n(&w, "a", 2);
    settle(&w);
    sprintf(want, "%s,%s", a.id, b.id);
    CHECK_STR(member(check_take(c, "1,2", "")->body, "last_id"), want);
    CHECK_INT(stats_of(&w).delivered, 2);
    CHECK_SILENT(c);
    close_world(&w);
}

TEST(waiter_leaves_in_any_order) {
    static const char *const targets[] = {"/api/poll/a", "/api/poll/b", "/api/poll/a,b",
                                          "/api/poll/b,a", "/api/poll/c,a,b"};
    int round, rounds = unit_rounds(100);
    w.cfg.loops = 3;
    w.cfg.waiters_per_client = 12;
    w.cfg.history_age_ms = 1000;
    open_world(&w);
    for (round = 0; round < rounds; round++) {
        peer *c[12];
        uint32_t n = 12, i;
        for (i = 0; i < n; i++) c[i] = park_new(&w, targets[unit_below(5)]);
        while (n) {
            i = unit_below(n--);
            leave(&w, c[i]);
            c[i] = c[n];
            CHECK_INT(stats_of(&w).waiters, n);
        }
        CHECK_INT(publish_n(&w, "a", 1).waiters + publish_n(&w, "b", 1).waiters, 0);
        pass(&w, 5000);
        CHECK_INT(stats_of(&w).channels, 0);
    }
    close_world(&w);
}

/* What a wait that ran out returns: the cursor that it was parked with. */
TEST(waiter_expires_with_its_own_cursor) {
    lp_published p;
    answer *a;
    peer *c;
    uint64_t start_us;
    int order;
    for (order = 0; order < 2; order++) { /* which channel is the younger */
        memset(&w, 0, sizeof w);
        open_world(&w);
        if (order) look(&w, "b", ""), tick(&w, 5);
        publish_n(&w, "a", 1);
        publish_n(&w, "a", 2);
        p = publish_n(&w, "a", 3);
        tick(&w, 5);
        start_us = us_of(member(look(&w, "b", "")->body, "timestamp"));
        c = park_new(&w, "/api/poll/a,b?last_id=now&timeout=1");
        pass(&w, 1002);
        a = check_take(c, "", "");
        CHECK_STR(member(a->body, "status"), "timeout");
        CHECK_BYTES(member(a->body, "last_id").bytes, 18, p.id, 18);
        CHECK_BYTES(member(a->body, "last_id").bytes + 35, 2, "-0", 2);
        CHECK_INT(us_of(member(a->body, "timestamp")), order ? p.timestamp_us : start_us);
        close_world(&w);
    }
}

/* Published, and not yet delivered when the wait runs out: it gets it now, and once. */
TEST(waiter_expires_with_what_has_come) {
    peer *c, *other;
    open_world(&w);
    c = park_new(&w, "/api/poll/a?timeout=1");
    other = park_new(&w, "/api/poll/a?timeout=60");
    publish_n(&w, "a", 1);
    tick(&w, 2000);
    settle(&w);
    check_take(c, "1", "");
    check_take(other, "1", "");
    CHECK_SILENT(c);
    CHECK_INT(stats_of(&w).delivered, 2);
    close_world(&w);
}

/* ---- compare and park: in the history, or woken; never neither ---- */

TEST(waiter_gets_what_came_before_its_poll_or_is_parked) {
    lp_published p;
    peer *c[2];
    answer *a;
    int i;
    open_world(&w);
    for (i = 1; i <= 5; i++) p = publish_n(&w, "a", i);
    a = ask(&w, dial(&w), at_cursor("a", &p, 3));
    CHECK_STR(lp_s(ns_of(a)), "4,5");
    CHECK_STR(member(a->body, "last_id"), p.id);
    CHECK_INT(us_of(member(a->body, "timestamp")), p.timestamp_us);
    c[0] = park_new(&w, at_cursor("a", &p, 5));
    c[1] = park_new(&w, "/api/poll/a?last_id=now");
    CHECK_INT(publish_n(&w, "a", 6).waiters, 2);
    settle(&w);
    for (i = 0; i < 2; i++) check_take(c[i], "6", "");
    close_world(&w);
}

/* ---- resets when the poll comes: at once, with nothing held too ---- */

TEST(waiter_reset_is_answered_at_once) {
    lp_published p, other;
    peer *c;
    int i, gone;
    w.cfg.history_count = 3;
    w.cfg.history_age_ms = 1000;
    open_world(&w);
    for (i = 1; i <= 5; i++) p = publish_n(&w, "a", i);
    other = p;
    other.id[3] = other.id[3] == '0' ? '1' : '0';
    c = dial(&w);
    for (gone = 0; gone < 2; gone++) {
        const char *held = gone ? "" : "3,4,5";
        get(c, at_cursor("a", &p, 1)), settle(&w);
        check_take(c, held, "\"a\":\"evicted\"");
        get(c, at_cursor("a", &p, gone ? 4 : 1)), settle(&w);
        check_take(c, held, "\"a\":\"evicted\"");
        get(c, at_cursor("a", &p, 6)), settle(&w);
        check_take(c, held, "\"a\":\"ahead\"");
        get(c, at_cursor("a", &other, 4)), settle(&w);
        CHECK_STR(member(check_take(c, held, "\"a\":\"epoch\"")->body, "last_id"), p.id);
        CHECK_INT(stats_of(&w).resets, 4 * (gone + 1));
        if (!gone) get(c, at_cursor("a", &p, 2)), settle(&w), check_take(c, held, "");
        tick(&w, 1000);
    }
    close_world(&w);
}

TEST(waiter_reset_of_one_channel_of_several) {
    lp_published a, b;
    char target[120];
    peer *c;
    open_world(&w);
    a = publish_n(&w, "a", 1);
    b = publish_n(&w, "b", 2);
    sprintf(target, "/api/poll/a,b?last_id=%s,%.16s-2", a.id, b.id);
    get(c = dial(&w), target);
    settle(&w);
    check_take(c, "2", "\"b\":\"ahead\"");
    close_world(&w);
}

/* ---- the basic dialect: a reset with nothing held waits (poll.c has more) ---- */

TEST(waiter_basic_reset_rides_on_the_reply) {
    uint64_t us;
    peer *c;
    answer *a;
    int i;
    for (i = 0; i < 2; i++) {
        char target[80];
        memset(&w, 0, sizeof w);
        open_world(&w);
        us = us_of(member(look(&w, "a", "")->body, "timestamp")) + 99;
        snprintf(target, sizeof target, "/api/poll/a?timeout=1&since=%lu.%06lu",
                 (unsigned long)(us / 1000000), (unsigned long)(us % 1000000));
        c = park_new(&w, target);
        if (i) CHECK_INT(publish_n(&w, "a", 1).waiters, 1);
        if (i) settle(&w);
        else pass(&w, 1002);
        a = check_take(c, i ? "1" : "", "\"a\":\"ahead\"");
        CHECK_STR(member(a->body, "status"), i ? "message" : "timeout");
        close_world(&w);
    }
}

/* ---- judged again when it is answered ---- */

TEST(waiter_whose_next_messages_are_gone_is_told) {
    lp_published p;
    peer *c;
    int i;
    w.cfg.history_count = 3;
    open_world(&w);
    for (i = 1; i <= 2; i++) publish_n(&w, "a", i);
    c = park_new(&w, "/api/poll/a?last_id=now"); /* at 2 */
    for (i = 3; i <= 5; i++) publish_n(&w, "a", i); /* 3 is still held */
    settle(&w);
    check_take(c, "3,4,5", "");
    park(&w, c, "/api/poll/a?last_id=now"); /* at 5 */
    for (i = 6; i <= 9; i++) p = publish_n(&w, "a", i); /* 6 is gone */
    settle(&w);
    CHECK_STR(member(check_take(c, "7,8,9", "\"a\":\"evicted\"")->body, "last_id"), p.id);
    CHECK_INT(stats_of(&w).resets, 1);
    close_world(&w);
}

/* The first loop has swept before the poll's own one looked. */
TEST(waiter_whose_messages_are_all_gone_is_told) {
    lp_published p;
    peer *c;
    answer *a;
    w.cfg.loops = 2;
    w.cfg.history_age_ms = 100;
    open_world(&w);
    dial(&w);
    c = park_new(&w, "/api/poll/a?timeout=60");
    CHECK_INT(c->loop, 1);
    publish_n(&w, "a", 1);
    p = publish_n(&w, "a", 2);
    tick(&w, 5000);
    settle_loop(&w, 0);
    settle_loop(&w, 0);
    CHECK_INT(stats_of(&w).messages, 0);
    settle(&w);
    a = check_take(c, "", "\"a\":\"evicted\"");
    CHECK_STR(member(a->body, "status"), "messages");
    CHECK_STR(member(a->body, "last_id"), p.id);
    CHECK_INT(us_of(member(a->body, "timestamp")), p.timestamp_us);
    close_world(&w);
}

/* The other channel's place is its own. */
TEST(waiter_of_two_channels_one_of_which_lost_some) {
    lp_published a, b;
    char want[80];
    peer *c;
    int i;
    w.cfg.history_count = 2;
    open_world(&w);
    c = park_new(&w, "/api/poll/a,b");
    for (i = 1; i <= 3; i++) a = publish_n(&w, "a", i);
    tick(&w, 1);
    b = publish_n(&w, "b", 4);
    settle(&w);
    sprintf(want, "%s,%s", a.id, b.id);
    CHECK_STR(member(check_take(c, "2,3,4", "\"a\":\"evicted\"")->body, "last_id"), want);
    close_world(&w);
}

/* ---- deliveries in batches (deliver.c has more) ---- */

TEST(waiter_crowd_of_all_loops_is_served_by_each) {
    enum { N = 300 };
    peer *c[N];
    uint32_t loop;
    int i;
    w.cfg.loops = 3;
    w.cfg.waiters_per_client = N;
    open_world(&w);
    for (i = 0; i < N; i++) get(c[i] = dial(&w), "/api/poll/a");
    settle(&w);
    CHECK_INT(publish_n(&w, "a", 1).waiters, N);
    for (loop = 0; loop < 3; loop++) {
        int answered = 0;
        settle_loop(&w, loop);
        for (i = 0; i < N; i++) {
            if (c[i]->loop == loop) check_take(c[i], "1", ""), answered++;
            else if (c[i]->loop > loop) CHECK_SILENT(c[i]);
        }
        CHECK_INT(answered, N / 3);
    }
    CHECK_INT(stats_of(&w).delivered, N);
    CHECK_INT(stats_of(&w).waiters, 0);
    close_world(&w);
}

/* The room for messages runs out before a batch is full of polls. */
TEST(waiter_batch_is_full_of_messages) {
    peer *c[4];
    char target[60];
    int i;
    open_world(&w);
    for (i = 0; i < 4; i++) { /* each with a reply of its own */
        sprintf(target, "/api/poll/a?last_id=now&limit=%d", 1000 - i);
        c[i] = park_new(&w, target);
    }
    for (i = 0; i < 1000; i++) publish_n(&w, "a", i);
    settle(&w);
    for (i = 0; i < 4; i++) {
        answer *a = take(c[i]);
        CHECK_INT(atoi(text_of(a->body, "count")), 1000 - i);
        CHECK_INT(count_of(a->body, "\"n\":"), 1000 - i);
        CHECK_INT(has(a->body, ",\"more\":true"), i > 0);
    }
    CHECK_INT(stats_of(&w).delivered, 1000 + 999 + 998 + 997);
    close_world(&w);
}

static void publish_9(world *v) {
    publish_n(v, "a", 9);
    CHECK_INT(stats_of(v).messages, 1);
}

/* A message is kept for a reply that is on its way when the history lets go of it. */
TEST(waiter_reply_outlives_the_history) {
    peer *c;
    w.cfg.history_count = 1;
    open_world(&w);
    publish_n(&w, "a", 1);
    c = dial(&w);
    settle(&w);
    get(c, "/api/poll/a");
    during(&w, K_SEND, publish_9); /* another thread does, while it is sent */
    settle(&w);
    check_take(c, "1", "");
    park(&w, c, "/api/poll/a?last_id=now");
    publish_n(&w, "a", 2);
    during(&w, K_SEND, publish_9);
    settle(&w);
    check_take(c, "2", "");
    close_world(&w);
}

/* To the byte, never below one message. */
TEST(waiter_reply_is_cut_at_its_bytes) {
    static const struct { uint32_t times, minus; const char *ns; int more; } cases[] = {
        {3, 0, "1,2,3", 1}, {3, 1, "1,2", 1}, {1, 5, "1", 1}, {5, 0, "1,2,3,4,5", 0}};
    size_t i, length = 0;
    for (i = 0; i <= LPI_COUNT(cases); i++) {
        answer *a;
        const char *message;
        int n;
        memset(&w, 0, sizeof w);
        if (i) w.cfg.reply_bytes_max =
            cases[i - 1].times * (uint32_t)length - cases[i - 1].minus;
        open_world(&w);
        for (n = 1; n <= 5; n++) publish_n(&w, "a", n);
        a = ask(&w, dial(&w), i ? "/api/poll/a" : "/api/poll/a?limit=1");
        if (i) CHECK_STR(lp_s(ns_of(a)), cases[i - 1].ns);
        if (i) CHECK_INT(has(a->body, "\"more\":true"), cases[i - 1].more);
        message = (const char *)memmem(a->body.bytes, a->body.length, "{\"id\"", 5);
        CHECK(message);
        if (!i) length = (size_t)(strchr(message, '}') + 1 - message);
        close_world(&w);
    }
}

/* ---- fetching ---- */

TEST(fetching_poll_is_neither_answered_nor_parked) {
    peer *c;
    open_world(&w);
    go_remote();
    c = park_new(&w, "/api/poll/a?last_id=00000000000000aa-5");
    CHECK_INT(publish_n(&w, "a", 1).waiters, 0);
    settle(&w);
    CHECK_SILENT(c);
    CHECK_INT(stats_of(&w).waiters, 1);
    close_world(&w);
}

TEST(fetching_poll_is_judged_when_the_state_is_here) {
    static const struct { int seq; const char *reset, *ns; } polls[] = {
        /* of five messages the last is held; -1 another epoch, -2 start, -3 now */
        {5, "", NULL}, {4, "", "5"}, {3, "\"a\":\"evicted\"", "5"}, {6, "\"a\":\"ahead\"", "5"},
        {-1, "\"a\":\"epoch\"", "5"}, {-2, "", "5"}, {-3, "", NULL}};
    uint32_t i, n;
    for (i = 0; i < LPI_COUNT(polls); i++) {
        lp_published p;
        peer *c;
        memset(&w, 0, sizeof w);
        w.cfg.loops = 2;
        w.cfg.history_count = 1;
        open_world(&w);
        go_remote();
        dial(&w);
        for (n = 1; n <= 5; n++) p = publish_n(&w, "a", (int)n);
        if (polls[i].seq == -1) memcpy(p.id, "00000000000000aa", 16);
        c = park_new(&w, polls[i].seq == -2 ? "/api/poll/a" : polls[i].seq == -3
                         ? "/api/poll/a?last_id=now"
                         : at_cursor("a", &p, polls[i].seq < 0 ? 5 : (unsigned)polls[i].seq));
        CHECK_INT(c->loop, 1);
        loaded("a");
        settle(&w);
        if (polls[i].ns) {
            check_take(c, polls[i].ns, polls[i].reset);
        } else {
            CHECK_SILENT(c);
            CHECK_INT(publish_n(&w, "a", 6).waiters, 1);
            settle(&w);
            check_take(c, "6", "");
        }
        close_world(&w);
    }
}

TEST(fetching_poll_waits_for_all_its_channels) {
    peer *c;
    open_world(&w);
    go_remote();
    publish_n(&w, "a", 1);
    loaded("a");
    c = park_new(&w, "/api/poll/a,b?last_id=now");
    CHECK_INT(publish_n(&w, "a", 2).waiters, 0); /* it doesn't wake it yet */
    settle(&w);
    CHECK_SILENT(c);
    loaded("b");
    settle(&w);
    CHECK_SILENT(c); /* "now" is when it is judged */
    CHECK_INT(publish_n(&w, "a", 3).waiters, 1);
    settle(&w);
    check_take(c, "3", "");
    park(&w, c, "/api/poll/a,c");
    tick(&w, 1);
    publish_n(&w, "c", 4); /* on its way */
    settle(&w);
    CHECK_SILENT(c);
    loaded("c");
    settle(&w);
    check_take(c, "1,2,3,4", "");
    close_world(&w);
}

TEST(fetching_cursors_keep_the_order_of_the_poll) {
    lp_published a, b, c;
    char want[120], target[200];
    peer *p;
    open_world(&w);
    go_remote();
    a = publish_n(&w, "a", 1);
    b = publish_n(&w, "b", 1), b = publish_n(&w, "b", 2);
    c = publish_n(&w, "c", 1), c = publish_n(&w, "c", 2), c = publish_n(&w, "c", 3);
    sprintf(want, "%s,%s,%s", a.id, b.id, c.id);
    sprintf(target, "/api/poll/a,b,c?timeout=1&last_id=%s", want);
    p = park_new(&w, target);
    loaded("c");
    loaded("a");
    settle(&w);
    loaded("b");
    settle(&w);
    CHECK_SILENT(p);
    pass(&w, 1002);
    CHECK_STR(member(check_take(p, "", "")->body, "last_id"), want);
    close_world(&w);
}

TEST(fetching_basic_reset_rides_on_the_reply) {
    peer *c;
    open_world(&w);
    go_remote();
    c = park_new(&w, "/api/poll/a?since=9999999999");
    loaded("a");
    settle(&w);
    CHECK_SILENT(c);
    CHECK_INT(publish_n(&w, "a", 1).waiters, 1);
    settle(&w);
    check_take(c, "1", "\"a\":\"ahead\"");
    close_world(&w);
}

/* It has come, and before its loop looks the poll is gone and the channel is unwanted. */
TEST(fetching_poll_leaves_before_and_after_it_has_come) {
    peer *c, *d;
    w.cfg.channels_max = 1;
    w.cfg.waiters_per_client = 1;
    open_world(&w);
    go_remote();
    d = park_new(&w, "/api/poll/a");
    leave(&w, d);
    c = park_new(&w, "/api/poll/a"); /* and it counts no more */
    loaded("a");
    finish(c);
    (void)lp_publish(w.s, lp_s("b"), lp_s("{}"), NULL); /* may be LP_ERR_FULL until it looks */
    settle(&w);
    CHECK(c->closed);
    CHECK_INT(lp_publish(w.s, lp_s("b"), lp_s("{}"), NULL), LP_OK);
    settle(&w);
    close_world(&w);
}

TEST(fetching_polls_count_in_the_limits) {
    w.cfg.waiters_per_channel = 2;
    open_world(&w);
    go_remote();
    park_new(&w, "/api/poll/a");
    park_new(&w, "/api/poll/a");
    check_poll("/api/poll/a", "amy", refusals[2]);
    loaded("a");
    settle(&w);
    check_poll("/api/poll/a", "amy", refusals[2]);
    CHECK_INT(publish_n(&w, "a", 1).waiters, 2);
    close_world(&w);
}

/* More polls than a batch holds wait for one channel. */
TEST(fetching_crowd_is_judged_in_batches) {
    enum { N = 200 };
    peer *c[N];
    lp_published p;
    int i;
    w.cfg.waiters_per_client = N;
    w.cfg.history_count = 1;
    open_world(&w);
    go_remote();
    for (i = 1; i <= 5; i++) p = publish_n(&w, "a", i);
    for (i = 0; i < N; i++) get(c[i] = dial(&w), at_cursor("a", &p, i % 2 ? 5 : 1));
    settle(&w);
    CHECK_INT(stats_of(&w).waiters, N);
    loaded("a");
    settle(&w);
    for (i = 0; i < N; i += 2) check_take(c[i], "5", "\"a\":\"evicted\"");
    CHECK_INT(publish_n(&w, "a", 6).waiters, N / 2);
    settle(&w);
    for (i = 1; i < N; i += 2) check_take(c[i], "6", "");
    close_world(&w);
}

/* ---- without memory: each allocation in turn, and everything is as before ---- */

/* How many allocations a poll takes. `others` polls are parked before it. */
static int park_failing(const char *target, int others, int remote, int forever) {
    int k, failed = 1;
    for (k = 1; failed; k++) {
        char name[30];
        peer *c;
        int i;
        memset(&w, 0, sizeof w);
        w.cfg.waiters_per_address = LP_UNLIMITED;
        open_world(&w);
        for (i = 0; i < others; i++) {
            sprintf(name, "/api/poll/%d", i);
            check_poll(name, name + 10, NULL);
        }
        c = dial(&w);
        ask(&w, c, "/api/poll/z?timeout=0"); /* to have what a loop keeps */
        if (remote) go_remote();
        w.m.fail_at = w.m.calls + (size_t)k;
        w.m.fail_forever = forever;
        get(c, target);
        settle(&w);
        failed = w.m.failed != 0;
        w.m.fail_at = 0;
        if (unheard(c).length || c->closed) {
            CHECK(failed);
            if (unheard(c).length) CHECK_INT(take(c)->status, 503);
            CHECK_INT(stats_of(&w).waiters, others);
            if (c->closed) c = dial(&w);
            get(c, target);
            settle(&w);
        }
        CHECK_SILENT(c);
        CHECK_INT(stats_of(&w).waiters, others + 1);
        close_world(&w);
    }
    return k - 2;
}

#define LONG "a-name-that-needs-memory"

TEST(waiter_parks_without_memory) {
    CHECK(park_failing("/api/poll/" LONG, 1, 0, 0) >= 1); /* the name; slabs have room */
    CHECK(park_failing("/api/poll/" LONG, 1, 0, 1) >= 1);
    CHECK(park_failing("/api/poll/a" LONG ",b" LONG ",c" LONG, 1, 0, 0) >= 3);
    CHECK(park_failing("/api/poll/" LONG, 1, 1, 0) >= 2); /* and what is requested */
    CHECK(park_failing("/api/poll/a" LONG ",b" LONG ",c" LONG, 1, 1, 1) >= 4);
}

/* The first poll of all, and the slabs full to the brim. */
TEST(waiter_parks_without_memory_for_records) {
    CHECK(park_failing("/api/poll/a,b", 0, 0, 0) >= 1);
    CHECK(park_failing("/api/poll/a,b", LPI_CHUNK - 1, 0, 0) >= 1);
    CHECK(park_failing("/api/poll/a,b", LPI_CHUNK, 0, 0) >= 1);
}

/* A fetching poll is parked for certain: its places are those that it had. */
TEST(fetching_poll_is_parked_without_memory) {
    int others, i;
    for (others = 0; others < 300; others += 253) {
        peer *c;
        memset(&w, 0, sizeof w);
        w.cfg.waiters_per_client = LP_UNLIMITED;
        open_world(&w);
        go_remote();
        c = park_new(&w, "/api/poll/a,b");
        for (i = 0; i < others; i++) park_new(&w, "/api/poll/z");
        loaded("a");
        loaded("b");
        w.m.fail_at = w.m.calls + 1;
        w.m.fail_forever = 1;
        settle(&w);
        w.m.fail_at = 0;
        CHECK_SILENT(c);
        CHECK_INT(publish_n(&w, "a", 1).waiters, 1);
        settle(&w);
        check_take(c, "1", "");
        close_world(&w);
    }
}

/* ---- all of it against a simple model ----

   Six names, three loops that look when they like, limits so tight that all of them are
   met, a wall clock that jumps. The model keeps plain arrays and follows DESIGN.md 3 by the
   letter; each reply, refusal, count and timestamp is compared. Nothing grows old: hub.c has
   that, and the promise below. */

enum { NAMES = 6, HELD = 5, POLLS = 24, BODIES = 3, BUDGET = 14 };

typedef struct model_message { uint64_t seq, us, order, bytes; int n; } model_message;

typedef struct model_channel {
    char epoch[17]; /* empty: not seen yet */
    int exists;
    uint64_t start_us, last_us, evicted_us, last;
    model_message held[HELD + 1];
    uint32_t count;
} model_channel;

typedef struct model_poll {
    peer *c;
    int parked, basic;
    uint32_t count, names[3], limit, client, address;
    uint64_t seq[3], deadline_ms;
    const char *reset; /* of the basic dialect */
} model_poll;

static struct {
    model_channel channels[NAMES];
    model_poll polls[POLLS];
    uint64_t order, bytes, evicted, delivered, size[BODIES];
    int next_n;
    uint32_t parked, refused, resets, timeouts, cut, woken, why[4];
} model;

static const char *const bodies[BODIES] = {"{\"n\":%d}", "{\"n\":%d,\"a\":1}",
                                           "{\"n\":%d,\"text\":\"0123456789\"}"};

static lp_published model_send(const char *name, uint32_t body) {
    char json[80];
    snprintf(json, sizeof json, bodies[body], model.next_n++);
    return publish(&w, name, json);
}

/* What a message of each body takes: all N have six digits. */
static void model_measure(void) {
    uint32_t body;
    model.next_n = 100000;
    for (body = 0; body < BODIES; body++) {
        memset(&w, 0, sizeof w);
        open_world(&w);
        model_send("?", body);
        model.size[body] = stats_of(&w).history_bytes;
        close_world(&w);
    }
}

static uint64_t model_floor(const model_channel *ch) { return ch->last - ch->count; }

static void model_evict(model_channel *ch) {
    ch->evicted_us = ch->held[0].us;
    model.bytes -= ch->held[0].bytes;
    model.evicted++;
    memmove(ch->held, ch->held + 1, --ch->count * sizeof ch->held[0]);
}

/* The channel with the oldest message of all. */
static model_channel *model_oldest(void) {
    model_channel *ch, *best = NULL;
    for (ch = model.channels; ch < model.channels + NAMES; ch++)
        if (ch->count && (!best || ch->held[0].order < best->held[0].order)) best = ch;
    return best;
}

static model_channel *model_get(uint32_t name) {
    model_channel *ch = &model.channels[name];
    if (!ch->exists) ch->start_us = ch->last_us = w.k.wall_us + w.k.now_us;
    ch->exists = 1;
    return ch;
}

static void model_publish(uint32_t name) {
    char text[2] = "a", id[40];
    uint32_t body = unit_below(BODIES), i, k, woken = 0;
    model_channel *ch = model_get(name);
    lp_published out;
    text[0] = (char)('a' + name);
    out = model_send(text, body);
    for (i = 0; i < POLLS; i++)
        for (k = 0; model.polls[i].parked && k < model.polls[i].count; k++)
            woken += model.polls[i].names[k] == name && model.polls[i].seq[k] == ch->last;
    CHECK_INT(out.waiters, woken);
    model.woken += woken;
    if (ch->count == HELD) model_evict(ch);
    ch->last_us = lpi_max64(w.k.wall_us + w.k.now_us, ch->last_us + 1);
    CHECK_INT(out.timestamp_us, ch->last_us);
    ch->held[ch->count].seq = ++ch->last;
    ch->held[ch->count].us = ch->last_us;
    ch->held[ch->count].order = ++model.order;
    ch->held[ch->count].bytes = model.size[body];
    ch->held[ch->count++].n = model.next_n - 1;
    model.bytes += model.size[body];
    while (model.bytes > w.cfg.history_bytes) model_evict(model_oldest());
    if (!*ch->epoch) memcpy(ch->epoch, out.id, 16);
    snprintf(id, sizeof id, "%s-%lu", ch->epoch, (unsigned long)ch->last);
    CHECK_STR(lp_s(out.id), id);
}

/* ---- replies */

/* The reply to a poll that stands at `from`, with these resets ("" for none). */
static void model_check_reply(answer *a, const model_poll *poll, const uint64_t *from,
                              const char *const *reason) {
    char ns[200] = "", cursor[120] = "", resets[60] = "", text[80];
    uint64_t seq[3], us = 0;
    uint32_t i, n, best;
    memcpy(seq, from, sizeof seq);
    for (n = 0;; n++) {
        const model_message *next = NULL, *m;
        for (best = 3, i = 0; i < poll->count; i++) {
            const model_channel *ch = &model.channels[poll->names[i]];
            if (seq[i] == ch->last) continue;
            m = &ch->held[seq[i] - model_floor(ch)];
            if (!next || m->us < next->us) next = m, best = i;
        }
        if (best == 3 || n == poll->limit) break;
        sprintf(ns + strlen(ns), "%s%d", n ? "," : "", next->n);
        seq[best]++;
        us = next->us;
    }
    CHECK_INT(a->status, 200);
    CHECK_STR(lp_s(ns_of(a)), ns);
    CHECK_INT(atoi(text_of(a->body, "count")), n);
    CHECK_INT(has(a->body, ",\"more\":true"), best != 3 && !poll->basic);
    for (i = 0; i < poll->count; i++) {
        model_channel *ch = &model.channels[poll->names[i]];
        if (!*ch->epoch)
            memcpy(ch->epoch, member(a->body, "last_id").bytes + strlen(cursor) + !!i, 16);
        sprintf(cursor + strlen(cursor), "%s%s-%lu", i ? "," : "", ch->epoch,
                (unsigned long)seq[i]);
        if (!n) us = lpi_max64(us, ch->last_us);
        if (!*reason[i]) continue;
        sprintf(resets + strlen(resets), "%s\"%c\":\"%s\"", *resets ? "," : "",
                'a' + poll->names[i], reason[i]);
    }
    CHECK_STR(member(a->body, "last_id"), cursor);
    CHECK_INT(us_of(member(a->body, "timestamp")), us);
    snprintf(text, sizeof text, ",\"reset\":{%s}}", resets);
    CHECK_INT(has(a->body, *resets ? text : "\"reset\""), *resets != 0);
    CHECK_STR(member(a->body, "status"), n ? poll->basic ? "message" : "messages"
                                          : *resets && !poll->basic ? "messages" : "timeout");
    model.resets += *resets != 0;
    model.delivered += n;
    model.timeouts += !n && !*resets;
    model.cut += best != 3;
}

static int model_behind(const model_poll *poll) {
    uint32_t i;
    for (i = 0; i < poll->count; i++)
        if (poll->seq[i] < model.channels[poll->names[i]].last) return 1;
    return 0;
}

/* The end of a wait: it is judged again. */
static void model_check_released(model_poll *poll) {
    const char *reason[3];
    uint64_t seq[3];
    uint32_t i;
    for (i = 0; i < poll->count; i++) {
        uint64_t floor = model_floor(&model.channels[poll->names[i]]);
        reason[i] = poll->reset;
        seq[i] = lpi_max64(poll->seq[i], floor);
        if (poll->seq[i] < floor && !*reason[i]) reason[i] = "evicted";
    }
    model_check_reply(take(poll->c), poll, seq, reason);
    poll->parked = 0;
}

/* The loop has looked: who is behind is answered, and who has waited long enough. */
static void model_look(uint32_t loop) {
    model_poll *poll;
    settle_loop(&w, loop);
    for (poll = model.polls; poll < model.polls + POLLS; poll++) {
        if (!poll->parked || poll->c->loop != loop) continue;
        if (model_behind(poll) || poll->deadline_ms + 2 < now_ms(&w) || unheard(poll->c).length) {
            CHECK(model_behind(poll) || poll->deadline_ms <= now_ms(&w));
            model_check_released(poll);
        }
        CHECK_SILENT(poll->c);
    }
}

/* ---- polls */

static const char *model_judge(const model_channel *ch, const char *epoch, uint64_t seq,
                               uint64_t *out) {
    *out = model_floor(ch);
    if (strcmp(epoch, ch->epoch)) return "epoch";
    if (seq < model_floor(ch)) return "evicted";
    if (seq > ch->last) return "ahead";
    *out = seq;
    return "";
}

/* One element of last_id=, into `text`; what it comes to. */
static const char *model_cursor(model_channel *ch, char *text, uint64_t *out) {
    char epoch[17];
    uint64_t seq;
    if (unit_one_in(4) || !*ch->epoch) {
        int from_now = unit_one_in(2);
        strcpy(text, from_now ? "now" : "0");
        *out = from_now ? ch->last : model_floor(ch);
        return "";
    }
    strcpy(epoch, ch->epoch);
    if (unit_one_in(20)) epoch[7] = epoch[7] == 'a' ? 'b' : 'a';
    seq = ch->last - (unit_one_in(4) ? unit_below(HELD + 3) : 0);
    if (seq > ch->last) seq = 0;
    if (unit_one_in(20)) seq = ch->last + unit_below(3);
    sprintf(text, "%s-%lu", epoch, (unsigned long)seq);
    return model_judge(ch, epoch, seq, out);
}

static const char *model_since(const model_channel *ch, char *text, uint64_t *out) {
    uint64_t us = ch->start_us;
    uint32_t i;
    if (unit_one_in(2)) us = ch->evicted_us;
    if (unit_one_in(2)) us = ch->last_us;
    if (ch->count && unit_one_in(2)) us = ch->held[unit_below(ch->count)].us;
    if (us && unit_one_in(3)) us = us - 1 + unit_below(3);
    if (unit_one_in(8)) us = 0;
    sprintf(text, "%lu.%06lu", (unsigned long)(us / 1000000), (unsigned long)(us % 1000000));
    *out = model_floor(ch);
    if (!us) return "";
    if (us < ch->start_us) return "epoch";
    if (us < ch->evicted_us) return "evicted";
    if (us > ch->last_us) return "ahead";
    for (i = 0; i < ch->count; i++)
        if (ch->held[i].us <= us) *out = ch->held[i].seq;
    return "";
}

static const char *model_refusal(const model_poll *poll) {
    uint32_t all = 0, client = 0, address = 0, full = 0, i, k;
    for (i = 0; i < POLLS; i++) {
        if (!model.polls[i].parked) continue;
        all++;
        address += model.polls[i].address == poll->address;
        client += model.polls[i].address == poll->address &&
                  model.polls[i].client == poll->client;
    }
    for (k = 0; k < poll->count; k++) {
        uint32_t waiters = 0, j;
        for (i = 0; i < POLLS; i++)
            for (j = 0; model.polls[i].parked && j < model.polls[i].count; j++)
                waiters += model.polls[i].names[j] == poll->names[k];
        full |= waiters >= w.cfg.waiters_per_channel;
    }
    if (all >= w.cfg.waiters_max) return refusals[0];
    if (client >= w.cfg.waiters_per_client) return refusals[1];
    if (full) return refusals[2];
    return address >= w.cfg.waiters_per_address ? refusals[3] : NULL;
}

/* Draw a poll and say it. Where it will stand, and why, go to poll->seq and `reason`; whether
   it must be answered at once. */
static int model_say(model_poll *poll, const char **reason) {
    static const char *const waits[] = {"0", "0.05", "60", "60"};
    static const uint32_t waits_ms[] = {0, 50, 60000, 60000};
    char names[8] = "", cursors[160] = "", text[60], *to = cursors, target[300], client[12];
    uint32_t i, k, wait = unit_below(4);
    int at_once = !wait;
    poll->basic = unit_one_in(5);
    poll->count = poll->basic ? 1 : 1 + unit_below(3);
    for (i = 0; i < poll->count; i++) {
        model_channel *ch;
        do {
            poll->names[i] = unit_below(NAMES);
            for (k = 0; k < i && poll->names[k] != poll->names[i];) k++;
        } while (k < i);
        ch = model_get(poll->names[i]);
        reason[i] = poll->basic ? model_since(ch, text, &poll->seq[i])
                                : model_cursor(ch, text, &poll->seq[i]);
        sprintf(names + strlen(names), "%s%c", i ? "," : "", 'a' + poll->names[i]);
        to += sprintf(to, "%s%s", i ? "," : "", text);
        if (poll->seq[i] < ch->last || (*reason[i] && !poll->basic)) at_once = 1;
    }
    poll->reset = poll->basic ? reason[0] : "";
    poll->limit = poll->basic ? 1 : 1 + unit_below(6);
    poll->client = unit_below(5);
    poll->deadline_ms = now_ms(&w) + waits_ms[wait];
    snprintf(client, sizeof client, "client-%u", poll->client);
    snprintf(target, sizeof target, "/api/poll/%s?%s=%s&timeout=%s&limit=%u", names,
             poll->basic ? "since" : "last_id", cursors, waits[wait], poll->limit);
    get_as(poll->c, target, client);
    return at_once;
}

static void model_ask(model_poll *poll) {
    const char *reason[3], *why = NULL;
    int at_once = model_say(poll, reason), i;
    if (!at_once) why = model_refusal(poll);
    settle_loop(&w, poll->c->loop);
    if (at_once) {
        model_check_reply(take(poll->c), poll, poll->seq, reason);
    } else if (why) {
        answer *a = take(poll->c);
        CHECK_INT(a->status, 429);
        CHECK_STR(member(a->body, "error"), why);
        model.refused++;
        for (i = 0; i < 4; i++) model.why[i] += why == refusals[i];
    } else {
        poll->parked = 1;
        model.parked++;
    }
    CHECK_SILENT(poll->c);
    model_look(poll->c->loop);
}

static void model_look_all(void) {
    uint32_t i;
    for (i = 0; i < 3; i++) model_look(i);
}

static void model_dial(model_poll *poll) {
    poll->address = unit_below(2);
    poll->c = dial_from(&w, poll->address ? "10.0.0.1" : "10.0.0.2");
    settle_loop(&w, 0);
    model_look_all();
}

static void model_time(void) {
    tick(&w, unit_below(unit_one_in(50) ? 70000 : 10));
    w.k.now_us += unit_below(1000);
    if (unit_one_in(50)) w.k.wall_us += UINT64_C(5000000);
    if (unit_one_in(50)) w.k.wall_us -= UINT64_C(5000000);
    if (unit_one_in(2)) w.k.wall_us -= 3000; /* so that it stands for a while */
}

/* What is held, and what is counted. */
static void model_compare(int deeply) {
    lp_stats stats = stats_of(&w);
    uint32_t i, k, waiters = 0;
    for (i = 0; i < POLLS; i++) waiters += model.polls[i].parked != 0;
    CHECK_INT(stats.waiters, waiters);
    CHECK_INT(stats.history_bytes, model.bytes);
    CHECK_INT(stats.evicted, model.evicted);
    for (i = 0; deeply && i < NAMES; i++) {
        char name[2] = "a", want[100] = "";
        model_channel *ch = &model.channels[i];
        name[0] = (char)('a' + i);
        if (!ch->exists) continue;
        for (k = 0; k < ch->count; k++)
            sprintf(want + strlen(want), "%s%d", k ? "," : "", ch->held[k].n);
        CHECK_STR(lp_s(ns_of(look(&w, name, "0"))), want);
        model.delivered += ch->count;
        model_look_all(); /* all loops have */
    }
}

TEST(waiter_model) {
    int i, rounds = unit_rounds(30000);
    model_measure();
    memset(&w, 0, sizeof w);
    w.cfg.loops = 3;
    w.cfg.history_count = HELD;
    w.cfg.history_age_ms = LP_UNLIMITED;
    w.cfg.history_bytes = BUDGET * model.size[1];
    w.cfg.waiters_max = 12;
    w.cfg.waiters_per_client = 3;
    w.cfg.waiters_per_channel = 6;
    w.cfg.waiters_per_address = 7;
    w.cfg.head_ms = w.cfg.idle_ms = LP_OFF;
    open_world(&w);
    for (i = 0; i < POLLS; i++) model_dial(&model.polls[i]);
    for (i = 0; i < rounds; i++) {
        model_poll *poll = &model.polls[unit_below(POLLS)];
        int busy = i / 500 % 4; /* by turns: quiet, with few polls; polls; messages */
        switch (unit_below(8)) {
        case 0:
            if (busy || unit_one_in(10)) model_publish(unit_below(busy == 1 ? 3 : NAMES));
            break;
        case 1:
            if (busy == 3) model_publish(unit_below(NAMES));
            break;
        case 2: model_look(unit_below(3)); break;
        case 3: model_time(); break;
        default:
            if (!poll->parked && (busy || unit_one_in(8))) {
                model_ask(poll);
            } else if (poll->parked && unit_one_in(busy ? 20 : 4)) {
                if (unit_one_in(2)) finish(poll->c);
                else reset(poll->c);
                settle_loop(&w, poll->c->loop);
                CHECK(poll->c->closed);
                CHECK_SILENT(poll->c);
                poll->parked = 0;
                model_look(poll->c->loop);
                model_dial(poll);
            }
        }
        model_compare(unit_one_in(100));
    }
    CHECK_INT(stats_of(&w).delivered, model.delivered);
    CHECK_INT(stats_of(&w).resets, model.resets);
    CHECK_INT(stats_of(&w).refused, model.refused);
    if (rounds > 20000) /* that it went everywhere */
        CHECK(model.resets > 500 && model.parked > 1000 && model.timeouts > 200 &&
              model.cut > 500 && model.woken > 500 && model.evicted > 500 &&
              model.why[0] && model.why[1] > 9 && model.why[2] > 9 && model.why[3] > 9);
    close_world(&w);
}

/* ---- the promise, as a client of a remote store sees it ----

   Channels are fetching at first, and again when they were forgotten and are made anew.
   Every client sends back the cursors that it was last given; what it then gets follows on,
   or it is told, and told for a reason. */

enum { STORED = 4, CLIENTS = 14 };

static const char *const stored[STORED] = {"a", "b", "c", "d"};

static struct {
    peer *c;
    int waits, count;
    char name[2], epoch[2][17]; /* had; empty: nothing yet */
    uint64_t seq[2];
} clients[CLIENTS];

static struct { int messages, epochs, evicted, unavailable; } seen;

static void client_read(int k, answer *a) {
    lp_slice list = member(a->body, "last_id"), rest = a->body, one;
    int i, more = has(a->body, "\"more\":true");
    clients[k].waits = 0;
    if (a->status == 503) { /* too long on its way */
        CHECK_STR(member(a->body, "error"), "Channel not available yet");
        seen.unavailable++;
        return;
    }
    CHECK_INT(a->status, 200);
    for (i = 0; i < clients[k].count; i++) {
        char name[40], epoch[17] = "";
        uint64_t seq, at = clients[k].seq[i], first = 0;
        int known = *clients[k].epoch[i] != 0, epoch_reset, evicted, n = 0;
        CHECK(lpi_split(&list, ',', &one));
        memcpy(epoch, one.bytes, 16);
        seq = strtoull(one.bytes + 17, NULL, 10);
        sprintf(name, "\"%c\":\"epoch\"", clients[k].name[i]);
        epoch_reset = has(a->body, name);
        sprintf(name, "\"%c\":\"evicted\"", clients[k].name[i]);
        evicted = has(a->body, name);
        CHECK(!has(a->body, "\"ahead\"")); /* nobody made a cursor up */
        CHECK(known || !epoch_reset); /* what was published after `now` may be evicted */
        if (known) CHECK_INT(epoch_reset, strcmp(epoch, clients[k].epoch[i]) != 0);
        sprintf(name, ",\"channel\":\"%c\"", clients[k].name[i]);
        rest = a->body;
        for (;;) { /* each message once, and in order */
            const char *id = (const char *)memmem(rest.bytes, rest.length, "{\"id\":\"", 7);
            uint64_t m;
            if (!id) break;
            rest.length -= (size_t)(id + 7 - rest.bytes);
            rest.bytes = id + 7;
            m = strtoull(rest.bytes + 17, NULL, 10);
            if (memcmp(strchr(rest.bytes, ','), name, strlen(name))) continue;
            CHECK_BYTES(rest.bytes, 16, epoch, 16);
            if (n++) CHECK_INT(m, at + 1);
            else first = m;
            at = m;
        }
        if (n) CHECK_INT(at, seq);
        if (n && known && !epoch_reset && !evicted) CHECK_INT(first, clients[k].seq[i] + 1);
        if (!n && known && !epoch_reset && !evicted) CHECK_INT(seq, clients[k].seq[i]);
        if (known && evicted) CHECK(n ? first > clients[k].seq[i] + 1 : more || seq > clients[k].seq[i]);
        strcpy(clients[k].epoch[i], epoch);
        clients[k].seq[i] = seq;
        seen.messages += n;
        seen.epochs += epoch_reset;
        seen.evicted += evicted;
    }
}

static void clients_read(void) {
    int k;
    for (k = 0; k < CLIENTS; k++)
        if (clients[k].c && unheard(clients[k].c).length) client_read(k, take(clients[k].c));
}

static void client_ask(int k) {
    char cursor[100] = "", names[4];
    int i;
    if (clients[k].c && clients[k].c->shut) finish(clients[k].c);
    if (!clients[k].c || clients[k].c->shut || clients[k].c->closed) {
        clients[k].c = dial(&w); /* on any loop: it goes on with its cursor */
        settle_loop(&w, 0);
        for (i = 0; i < 3; i++) settle_loop(&w, (uint32_t)i);
        clients_read();
    }
    for (i = 0; i < clients[k].count; i++)
        if (*clients[k].epoch[i])
            sprintf(cursor + strlen(cursor), "%s%s-%lu", i ? "," : "", clients[k].epoch[i],
                    (unsigned long)clients[k].seq[i]);
        else strcat(cursor, i ? ",now" : "now");
    snprintf(names, sizeof names, clients[k].count > 1 ? "%c,%c" : "%c", clients[k].name[0],
             clients[k].name[1]);
    sayf(clients[k].c, "GET /api/poll/%s?last_id=%s&limit=%u&timeout=%s HTTP/1.1\r\n"
                       "Host: localhost\r\nX-Client-ID: client-%d\r\n\r\n", names, cursor,
         1 + unit_below(5), unit_one_in(4) ? "60" : "0.03", k);
    clients[k].waits = 1;
    settle_loop(&w, clients[k].c->loop);
}

TEST(fetching_clients_get_everything_or_are_told) {
    int i, k, rounds = unit_rounds(40000), round;
    w.cfg.loops = 3;
    w.cfg.history_count = 4;
    w.cfg.history_age_ms = 1000;
    w.cfg.channel_linger_ms = 1000;
    open_world(&w);
    go_remote();
    for (k = 0; k < CLIENTS; k++) {
        clients[k].count = 1 + k % 2;
        for (i = 0; i < 2; i++) clients[k].name[i] = *stored[(k / 2 + i) % STORED];
    }
    for (round = 0; round < rounds; round++) {
        const char *name = stored[unit_below(STORED)];
        k = (int)unit_below(CLIENTS);
        switch (unit_below(10)) {
        case 0:
        case 1: publish_n(&w, name, round); break;
        case 2: loaded(name); break;
        case 3: settle_loop(&w, unit_below(3)); break;
        case 4:
            tick(&w, unit_below(20));
            if (!unit_one_in(150)) break;
            for (k = 0; k < CLIENTS; k++) { /* all go, and channels are forgotten */
                if (!clients[k].waits) continue;
                finish(clients[k].c);
                clients[k].waits = 0;
            }
            settle(&w);
            clients_read();
            pass(&w, 3000);
            break;
        default:
            if (!clients[k].waits) {
                client_ask(k);
            } else if (unit_one_in(12)) {
                finish(clients[k].c);
                settle_loop(&w, clients[k].c->loop);
                if (unheard(clients[k].c).length) client_read(k, take(clients[k].c));
                clients[k].waits = 0;
            }
        }
        clients_read();
    }
    for (round = 0; round < 2; round++) { /* nobody is left on the way, nor asleep */
        for (k = 0; k < CLIENTS; k++)
            if (!clients[k].waits) client_ask(k);
        for (i = 0; i < STORED; i++) loaded(stored[i]);
        settle(&w);
        clients_read();
    }
    for (i = 0; i < STORED; i++) publish_n(&w, stored[i], 1);
    settle(&w);
    clients_read();
    for (k = 0; k < CLIENTS; k++) CHECK(!clients[k].waits);
    if (rounds > 30000) /* that it went everywhere */
        CHECK(seen.messages > 3000 && seen.epochs > 50 && seen.evicted > 50 &&
              seen.unavailable > 10);
    close_world(&w);
}
