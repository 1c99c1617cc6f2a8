/* Delivering: one render for all who stand at the same place, in slices, and with one
   system call and no allocation each. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

static void lift_limits(void) {
    w.cfg.waiters_per_client = w.cfg.waiters_per_address = LP_UNLIMITED;
}

static void park_many(peer **c, int n, const char *target) {
    int i;
    for (i = 0; i < n; i++) {
        c[i] = dial(&w);
        get(c[i], target);
    }
    settle(&w);
}

/* ---- the steady state ---- */

TEST(one_recv_and_one_send_per_cycle) {
    peer *c, *p;
    uint32_t before[K_CALLS];
    int i, rounds = unit_rounds(1000);
    open_world(&w);
    c = dial(&w);
    p = dial(&w);
    for (i = 0; i < 4; i++) {
        get(c, "/api/poll/news?last_id=now");
        settle(&w);
        post(p, "/api/publish/news", "{\"n\":1}");
        settle(&w);
        take(p), take(c);
    }
    c->recvs = c->sends = p->recvs = p->sends = 0;
    memcpy(before, w.k.calls, sizeof before);
    for (i = 0; i < rounds; i++) {
        get(c, "/api/poll/news?last_id=now");
        settle(&w);
        post(p, "/api/publish/news", "{\"n\":1}");
        settle(&w);
        CHECK_INT(take(p)->status, 200);
        CHECK_STR(member(take(c)->body, "count"), "1");
    }
    CHECK_INT(c->recvs, rounds);
    CHECK_INT(c->sends, rounds);
    CHECK_INT(p->recvs, rounds);
    CHECK_INT(p->sends, rounds);
    CHECK_INT(c->sets, 1); /* when it was accepted */
    CHECK_INT(p->sets, 1);
    CHECK_INT(w.k.calls[K_POLLER_SET], before[K_POLLER_SET]);
    CHECK_INT(w.k.calls[K_WAKE_SIGNAL], before[K_WAKE_SIGNAL]); /* the loop is awake */
    CHECK_INT(w.k.calls[K_RANDOM], before[K_RANDOM]);
    close_world(&w);
}

/* From outside the step: one signal per burst. */
TEST(one_wake_for_many_publishes) {
    peer *c;
    uint32_t signals;
    int i;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/news,b");
    signals = w.k.calls[K_WAKE_SIGNAL];
    for (i = 0; i < 20; i++) publish_n(&w, i & 1 ? "news" : "b", i);
    CHECK_INT(w.k.calls[K_WAKE_SIGNAL], signals + 1);
    settle(&w);
    CHECK_INT(w.k.calls[K_WAKE_CLEAR], 1);
    CHECK_STR(member(take(c)->body, "count"), "20");
    signals = w.k.calls[K_WAKE_SIGNAL];
    publish_n(&w, "nobody", 1); /* and none for a channel that nobody waits on */
    CHECK_INT(w.k.calls[K_WAKE_SIGNAL], signals);
    close_world(&w);
}

/* The message itself is all. Its channel's ring is full, so that it has its size. */
TEST(no_allocation_in_the_steady_state) {
    peer *c, *d;
    size_t calls, bytes;
    int i, rounds = unit_rounds(1000);
    w.cfg.history_count = 8;
    open_world(&w);
    c = dial(&w);
    d = dial(&w);
    for (i = 0; i < 20; i++) {
        get(c, "/api/poll/news?last_id=now");
        get(d, "/api/poll/news,other?last_id=now");
        settle(&w);
        publish_n(&w, "news", 1);
        settle(&w);
        take(c), take(d);
    }
    calls = w.m.calls;
    bytes = w.m.bytes;
    for (i = 0; i < rounds; i++) {
        get(c, "/api/poll/news?last_id=now");
        get(d, "/api/poll/news,other?last_id=now");
        settle(&w);
        publish_n(&w, "news", 1);
        settle(&w);
        CHECK_STR(member(take(c)->body, "count"), "1");
        CHECK_STR(member(take(d)->body, "count"), "1");
    }
    CHECK_INT(w.m.calls - calls, rounds);
    CHECK_INT(w.m.bytes, bytes);
    close_world(&w);
}

TEST(nothing_is_allocated_to_park_and_time_out) {
    peer *c;
    size_t calls = 0;
    int i;
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < 200; i++) {
        if (i == 20) calls = w.m.calls;
        park(&w, c, "/api/poll/a,b,c?timeout=0.01");
        pass(&w, 12);
        CHECK_STR(member(take(c)->body, "status"), "timeout");
    }
    CHECK_INT(w.m.calls, calls);
    close_world(&w);
}

/* ---- fan-out ---- */

TEST(a_thousand_waiters_get_the_same_bytes_once) {
    enum { N = 1000 };
    static peer *c[N];
    answer *first, *a;
    int i;
    uint32_t sends;
    size_t calls;
    w.unchecked = 1;
    lift_limits();
    open_world(&w);
    park_many(c, N, "/api/poll/news");
    CHECK_INT(stats_of(&w).waiters, N);
    sends = w.k.calls[K_SEND];
    calls = w.m.calls;
    CHECK_INT(publish(&w, "news", "{\"text\":\"hello\"}").waiters, N);
    settle(&w);
    CHECK_INT(w.k.calls[K_SEND] - sends, N);
    CHECK(w.m.calls - calls <= 5); /* the message, its ring, the body, the waiter list's */
    first = take(c[0]);
    CHECK_STR(member(first->body, "text"), "hello");
    for (i = 1; i < N; i++) {
        a = take(c[i]);
        CHECK_BYTES(a->body.bytes, a->body.length, first->body.bytes, first->body.length);
        CHECK_SILENT(c[i]);
        CHECK_INT(c[i]->sets, 1);
    }
    CHECK_INT(stats_of(&w).waiters, 0);
    CHECK_INT(stats_of(&w).delivered, N);
    w.unchecked = 0;
    close_world(&w);
}

/* Those who stand at other places, or ask for other things, get their own. */
TEST(what_is_shared_is_what_is_the_same) {
    peer *c[6];
    lp_published p;
    answer *a;
    open_world(&w);
    p = publish_n(&w, "news", 1);
    park_many(c, 1, "/api/poll/news?last_id=now");
    c[1] = dial(&w);
    park(&w, c[1], "/api/poll/news?last_id=now&limit=1");
    c[2] = dial(&w);
    park(&w, c[2], "/api/poll/other,news?last_id=now");
    c[3] = dial(&w);
    sayf(c[3], "GET /api/poll/news?since=%s HTTP/1.1\r\nHost: localhost\r\n\r\n",
         "1732412345.123457");
    c[4] = dial(&w);
    say(c[4], "GET /api/poll/news?last_id=now HTTP/1.0\r\n\r\n");
    c[5] = dial(&w);
    say(c[5], "GET /api/poll/news?last_id=now HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    settle(&w);
    CHECK_INT(stats_of(&w).waiters, 6);
    CHECK_INT(publish_n(&w, "news", 2).waiters, 6);
    publish_n(&w, "news", 3);
    settle(&w);
    a = take(c[0]);
    CHECK_STR(member(a->body, "count"), "2");
    CHECK(!heading(a, "Connection").bytes);
    a = take(c[1]);
    CHECK_STR(member(a->body, "count"), "1");
    CHECK(has(a->body, ",\"more\":true}"));
    a = take(c[2]);
    CHECK_STR(member(a->body, "count"), "2");
    CHECK_INT(count_of(member(a->body, "last_id"), ","), 1);
    a = take(c[3]);
    CHECK_STR(member(a->body, "status"), "message");
    CHECK_STR(member(a->body, "n"), "2");
    a = take(c[4]);
    CHECK_STR(heading(a, "Connection"), "close");
    a = take(c[5]);
    CHECK_STR(heading(a, "Connection"), "keep-alive");
    CHECK(strncmp(p.id, "x", 1));
    close_world(&w);
}

/* A fan-out goes in slices; other channels are served between. */
TEST(a_large_fan_out_does_not_hold_up_the_rest) {
    enum { N = 2000 };
    static peer *big[N];
    peer *c[10];
    uint64_t before;
    int i, steps = 0, later = 0;
    w.unchecked = 1;
    lift_limits();
    open_world(&w);
    park_many(big, N, "/api/poll/big");
    for (i = 0; i < 10; i++) {
        char target[40];
        snprintf(target, sizeof target, "/api/poll/small%d", i);
        c[i] = dial(&w);
        park(&w, c[i], target);
    }
    before = w.k.sent;
    publish_n(&w, "big", 1);
    for (i = 0; i < 10; i++) {
        char name[20];
        snprintf(name, sizeof name, "small%d", i);
        publish_n(&w, name, i);
    }
    while (w.s->hub.loops[0].ready_first != LPI_NONE) {
        CHECK_INT(turn(&w, 0), LP_OK);
        if (!steps++) { /* a step is bounded, and new requests are served between */
            CHECK(w.k.sent - before <= LPI_BATCHES * LPI_BATCH);
            get(c[0], "/nowhere");
        } else if (!later) {
            CHECK_STR(member(take(c[0])->body, "count"), "1");
            CHECK_INT(take(c[0])->status, 404);
            later = 1;
        }
    }
    CHECK(later && steps >= N / (LPI_BATCHES * LPI_BATCH));
    for (i = 1; i < 10; i++) {
        CHECK(c[i]->turn - before <= 3 * LPI_BATCH);
        CHECK_STR(member(take(c[i])->body, "count"), "1");
    }
    for (i = 0; i < N; i++) {
        CHECK_STR(member(take(big[i])->body, "count"), "1");
        CHECK_SILENT(big[i]);
    }
    close_world(&w);
}

TEST(many_ready_channels_take_turns) {
    enum { N = 300 };
    static peer *c[N];
    char text[40];
    int i;
    lift_limits();
    w.unchecked = 1;
    open_world(&w);
    for (i = 0; i < N; i++) {
        snprintf(text, sizeof text, "/api/poll/c%d", i);
        c[i] = dial(&w);
        get(c[i], text);
    }
    settle(&w);
    for (i = 0; i < N; i++) {
        snprintf(text, sizeof text, "c%d", i);
        publish_n(&w, text, i);
    }
    settle(&w);
    for (i = 0; i < N; i++) CHECK_INT(atoi(text_of(take(c[i])->body, "n")), i);
    close_world(&w);
}

/* Messages that are published while the fan-out goes on reach those who still wait, and
   those who were told already by their next poll: each exactly once. */
TEST(publishing_into_a_fan_out) {
    enum { N = 600 };
    static peer *c[N];
    int i, seen[N] = {0}, n = 0;
    lift_limits();
    w.unchecked = 1;
    open_world(&w);
    park_many(c, N, "/api/poll/news?last_id=now");
    publish_n(&w, "news", ++n);
    do {
        if (n < 5) publish_n(&w, "news", ++n);
        CHECK_INT(turn(&w, 0), LP_OK);
        for (i = 0; i < N; i++) {
            while (unheard(c[i]).length) {
                answer *a = take(c[i]);
                lp_slice rest = a->body, at;
                while ((at = member(rest, "n")).bytes) {
                    CHECK_INT(strtol(at.bytes, NULL, 10), ++seen[i]);
                    rest = lpi_slice(at.bytes, rest.length - (size_t)(at.bytes - rest.bytes));
                }
                sayf(c[i], "GET /api/poll/news?last_id=%s HTTP/1.1\r\nHost: localhost\r\n\r\n",
                     text_of(a->body, "last_id"));
            }
        }
    } while (kernel_is_ready(&w.k) || w.s->hub.loops[0].ready_first != LPI_NONE || n < 5);
    for (i = 0; i < N; i++) CHECK_INT(seen[i], 5);
    CHECK_INT(stats_of(&w).waiters, N);
    w.unchecked = 0;
    close_world(&w);
}

/* ---- what a reply holds ---- */

TEST(channels_are_merged_by_timestamp) {
    answer *a;
    lp_slice rest, at;
    int i, want = 0;
    open_world(&w);
    for (i = 0; i < 12; i++) {
        publish_n(&w, i % 3 == 0 ? "a" : i % 3 == 1 ? "b" : "c", i);
        w.k.now_us += 100000;
    }
    a = ask(&w, dial(&w), "/api/poll/c,a,b");
    rest = a->body;
    while ((at = member(rest, "n")).bytes) {
        CHECK_INT(strtol(at.bytes, NULL, 10), want++);
        rest = lpi_slice(at.bytes, rest.length - (size_t)(at.bytes - rest.bytes));
    }
    CHECK_INT(want, 12);
    CHECK_INT(count_of(member(a->body, "last_id"), "-4"), 3); /* each channel's last */
    CHECK(has(member(a->body, "last_id"), "-4,"));
    close_world(&w);
}

TEST(at_the_same_time_the_order_of_the_list_decides) {
    answer *a;
    open_world(&w);
    publish_n(&w, "a", 1);
    publish_n(&w, "b", 2); /* in the same microsecond */
    a = ask(&w, dial(&w), "/api/poll/b,a");
    CHECK_STR(member(a->body, "n"), "2");
    a = ask(&w, dial(&w), "/api/poll/a,b");
    CHECK_STR(member(a->body, "n"), "1");
    close_world(&w);
}

/* limit cuts across channels, the cursor is where it was cut, and all come once. */
TEST(limit_cuts_and_the_cursor_goes_on) {
    peer *c;
    answer *a;
    char last_id[120] = "0";
    int i, n = 0, rounds = 0;
    open_world(&w);
    for (i = 0; i < 250; i++) {
        publish_n(&w, i % 7 ? "a" : "b", i);
        w.k.now_us += 1000;
    }
    c = dial(&w);
    a = ask(&w, c, "/api/poll/a,b");
    CHECK_STR(member(a->body, "count"), "100"); /* the default */
    CHECK(has(a->body, "],\"more\":true}"));
    do {
        lp_slice rest, at;
        a = askf(&w, c, "/api/poll/a,b?limit=7&timeout=0&last_id=%s", last_id);
        for (rest = a->body; (at = member(rest, "n")).bytes;
             rest = lpi_slice(at.bytes, rest.length - (size_t)(at.bytes - rest.bytes)))
            CHECK_INT(strtol(at.bytes, NULL, 10), n++);
        strcpy(last_id, text_of(a->body, "last_id"));
        CHECK(++rounds < 100);
    } while (has(a->body, "\"more\":true"));
    CHECK_INT(n, 250);
    CHECK_INT(rounds, 36);
    a = askf(&w, c, "/api/poll/a,b?limit=1000&timeout=0");
    CHECK_STR(member(a->body, "count"), "250");
    CHECK(!has(a->body, "more"));
    close_world(&w);
}

TEST(exactly_the_limit_is_not_more) {
    answer *a;
    open_world(&w);
    publish_n(&w, "a", 1);
    publish_n(&w, "a", 2);
    a = ask(&w, dial(&w), "/api/poll/a?limit=2");
    CHECK_STR(member(a->body, "count"), "2");
    CHECK(!has(a->body, "more"));
    close_world(&w);
}

TEST(a_reply_is_cut_at_a_mebibyte) {
    peer *c;
    answer *a;
    int i;
    open_world(&w);
    for (i = 0; i < 40; i++) publish_padded(&w, "a", 60000);
    c = dial(&w);
    a = ask(&w, c, "/api/poll/a?limit=1000");
    CHECK_STR(member(a->body, "count"), "17"); /* of 60,0xx bytes */
    CHECK(a->body.length < (1 << 20) + 300);
    CHECK(has(a->body, "],\"more\":true}"));
    a = askf(&w, c, "/api/poll/a?limit=1000&last_id=%s", text_of(a->body, "last_id"));
    CHECK_STR(member(a->body, "count"), "17");
    a = askf(&w, c, "/api/poll/a?limit=1000&last_id=%s", text_of(a->body, "last_id"));
    CHECK_STR(member(a->body, "count"), "6");
    CHECK(!has(a->body, "\"more\""));
    close_world(&w);
}

TEST(a_large_reply_leaves_no_large_buffer) {
    peer *c;
    int i;
    w.cfg.reply_bytes_max = 16 << 20;
    open_world(&w);
    for (i = 0; i < 120; i++) publish_padded(&w, "a", 60000);
    c = dial(&w);
    CHECK_STR(member(ask(&w, c, "/api/poll/a?limit=1000")->body, "count"), "120");
    CHECK(w.s->loops[0].json.text.capacity <= LPI_SCRATCH_MAX);
    CHECK_INT(ask(&w, c, "/")->status, 404);
    close_world(&w);
}

TEST(never_below_one_message) {
    answer *a;
    w.cfg.reply_bytes_max = 10;
    open_world(&w);
    publish_padded(&w, "a", 1000);
    publish_padded(&w, "a", 1000);
    a = ask(&w, dial(&w), "/api/poll/a");
    CHECK_STR(member(a->body, "count"), "1");
    CHECK(has(a->body, "\"more\":true"));
    close_world(&w);
}

TEST(the_members_of_a_reply_in_their_order) {
    answer *a;
    char want[400];
    lp_published p;
    open_world(&w);
    p = publish_n(&w, "a", 1);
    a = ask(&w, dial(&w), "/api/poll/a");
    snprintf(want, sizeof want,
             "{\"status\":\"messages\",\"last_id\":\"%s\",\"timestamp\":1732412345.123457,"
             "\"count\":1,\"messages\":[{\"id\":\"%s\",\"channel\":\"a\","
             "\"timestamp\":1732412345.123457,\"n\":1}]}", p.id, p.id);
    CHECK_STR(a->body, want);
    a = ask(&w, dial(&w), "/api/poll/a?timeout=0&last_id=now");
    snprintf(want, sizeof want,
             "{\"status\":\"timeout\",\"last_id\":\"%s\",\"timestamp\":1732412345.123457,"
             "\"count\":0,\"messages\":[]}", p.id);
    CHECK_STR(a->body, want);
    a = ask(&w, dial(&w), "/api/poll/a?since=0");
    snprintf(want, sizeof want,
             "{\"status\":\"message\",\"last_id\":\"%s\",\"timestamp\":1732412345.123457,"
             "\"count\":1,\"data\":{\"id\":\"%s\",\"channel\":\"a\","
             "\"timestamp\":1732412345.123457,\"n\":1}}", p.id, p.id);
    CHECK_STR(a->body, want);
    close_world(&w);
}

/* What a parked poll would have been told is pushed out before it is served. */
TEST(evicted_while_parked_is_a_reset) {
    peer *c, *d, *e;
    answer *a;
    int i;
    w.cfg.history_count = 3;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/a?last_id=now");
    d = dial(&w);
    park(&w, d, "/api/poll/b,a?last_id=now");
    e = dial(&w);
    park(&w, e, "/api/poll/a?since=0");
    for (i = 1; i <= 5; i++) publish_n(&w, "a", i); /* 1 and 2 are gone */
    settle(&w);
    a = take(c);
    CHECK_STR(member(a->body, "count"), "3");
    CHECK_STR(member(a->body, "n"), "3");
    CHECK(has(a->body, "\"reset\":{\"a\":\"evicted\"}}"));
    CHECK(has(take(d)->body, "\"reset\":{\"a\":\"evicted\"}}"));
    a = take(e);
    CHECK(has(a->body, "\"data\":"));
    CHECK(has(a->body, "\"reset\":{\"a\":\"evicted\"}}"));
    CHECK_INT(stats_of(&w).resets, 3);
    close_world(&w);
}

/* The name of a channel in a reset needs memory. Without it that poll is closed, and the
   others of its batch are answered. */
TEST(no_memory_for_a_reset_is_one_polls_loss) {
    peer *c[5];
    char target[64], name[2] = "a";
    int i, answered = 0;
    w.cfg.history_count = 1;
    open_world(&w);
    ask(&w, dial(&w), "/api/poll/warm?timeout=0");
    for (i = 0; i < 5; i++) {
        c[i] = dial(&w);
        sprintf(target, "/api/poll/%c", 'a' + i);
        park(&w, c[i], target);
    }
    for (i = 0; i < 5; i++) { /* in a batch; the third one's is a reset */
        *name = (char)('a' + i);
        publish(&w, name, "{}");
        if (i == 2) publish(&w, name, "{}");
    }
    w.m.calls = 0;
    w.m.fail_at = 1;
    w.m.fail_forever = 1;
    settle(&w);
    w.m.fail_at = 0;
    CHECK(w.m.failed > 0);
    for (i = 0; i < 5; i++) answered += !c[i]->closed && take(c[i])->status == 200;
    CHECK_INT(answered, 4);
    CHECK(c[2]->closed);
    close_world(&w);
}

TEST(messages_grow_old) {
    peer *c;
    answer *a;
    lp_published p;
    char epoch[20];
    w.cfg.history_age_ms = 10000;
    open_world(&w);
    p = publish_n(&w, "a", 1);
    pass(&w, 5000);
    publish_n(&w, "a", 2);
    c = dial(&w);
    pass(&w, 4998);
    c = dial(&w);
    CHECK_STR(member(ask(&w, c, "/api/poll/a")->body, "count"), "2");
    pass(&w, 3);
    a = ask(&w, c, "/api/poll/a");
    CHECK_STR(member(a->body, "count"), "1");
    CHECK_STR(member(a->body, "n"), "2");
    memcpy(epoch, p.id, 16);
    a = askf(&w, c, "/api/poll/a?last_id=%s", p.id); /* had the evicted one */
    CHECK(!has(a->body, "reset"));
    epoch[16] = 0;
    a = askf(&w, c, "/api/poll/a?last_id=%s-0", epoch);
    CHECK(has(a->body, "\"reset\":{\"a\":\"evicted\"}}"));
    pass(&w, 7000);
    CHECK_INT(stats_of(&w).messages, 0); /* swept without anybody asking */
    a = askf(&w, c, "/api/poll/a?timeout=0&last_id=%s-2", epoch);
    CHECK_STR(member(a->body, "status"), "timeout");
    a = askf(&w, c, "/api/poll/a?timeout=0&last_id=%s-1", epoch);
    CHECK(has(a->body, "\"count\":0,\"messages\":[],\"reset\":{\"a\":\"evicted\"}}"));
    pass(&w, 12000);
    CHECK_INT(stats_of(&w).channels, 0); /* idle for the history's age */
    a = askf(&w, c, "/api/poll/a?timeout=0&last_id=%s-2", epoch);
    CHECK(has(a->body, "\"reset\":{\"a\":\"epoch\"}}"));
    close_world(&w);
}

/* In a channel made again time goes on above all that a forgotten one gave. */
TEST(a_channel_made_again_is_younger) {
    lp_published p, q;
    w.cfg.history_age_ms = 1000;
    open_world(&w);
    p = publish_n(&w, "a", 1);
    pass(&w, 5000);
    CHECK_INT(stats_of(&w).channels, 0);
    w.k.wall_us -= 100000 * UINT64_C(1000000);
    q = publish_n(&w, "a", 1);
    CHECK(q.timestamp_us > p.timestamp_us);
    CHECK(strncmp(p.id, q.id, 16));
    close_world(&w);
}

/* Random clients, channels, limits, losses: every client is told every message once, in
   the order of each channel, or of a reset. */
TEST(the_promise_holds) {
    enum { N = 12, CHANNELS = 3 };
    struct { peer *c; char last_id[130]; int next[CHANNELS], busy; } client[N];
    static const char *const names[CHANNELS] = {"a", "b", "c"};
    int published[CHANNELS] = {0}, i, k, rounds = unit_rounds(4000), resets = 0;
    w.cfg.history_count = 12;
    lift_limits();
    open_world(&w);
    memset(client, 0, sizeof client);
    for (i = 0; i < N; i++) {
        strcpy(client[i].last_id, "0");
        for (k = 0; k < CHANNELS; k++) client[i].next[k] = -1; /* all that is held */
    }
    while (rounds--) {
        k = (int)unit_below(CHANNELS);
        if (unit_one_in(2)) publish_n(&w, names[k], published[k]++);
        i = (int)unit_below(N);
        if (!client[i].c || client[i].c->closed) {
            client[i].c = dial(&w);
            client[i].busy = 0;
        }
        if (!client[i].busy) {
            client[i].busy = 1;
            sayf(client[i].c, "GET /api/poll/a,b,c?limit=%d&timeout=%d&last_id=%s HTTP/1.1\r\n"
                 "Host: localhost\r\n\r\n", 1 + (int)unit_below(20), (int)unit_below(3),
                 client[i].last_id);
        } else if (unit_one_in(30)) {
            reset(client[i].c);
        }
        if (unit_one_in(10)) pass(&w, unit_below(1500));
        else if (unit_one_in(2)) settle(&w);
        for (i = 0; i < N; i++) {
            answer *a;
            lp_slice rest, at;
            if (!client[i].c || client[i].c->closed || !unheard(client[i].c).length) continue;
            a = take(client[i].c);
            client[i].busy = 0;
            CHECK_INT(a->status, 200);
            if (has(a->body, "\"reset\"")) {
                resets++;
                for (k = 0; k < CHANNELS; k++) {
                    char key[20];
                    snprintf(key, sizeof key, "\"%s\":\"e", names[k]);
                    if (has(a->body, key)) client[i].next[k] = -1;
                }
            }
            for (rest = a->body; (at = member(rest, "n")).bytes;
                 rest = lpi_slice(at.bytes, rest.length - (size_t)(at.bytes - rest.bytes))) {
                lp_slice before = lpi_slice(rest.bytes, (size_t)(at.bytes - rest.bytes));
                int n = (int)strtol(at.bytes, NULL, 10);
                k = has(before, "\"channel\":\"a\"") ? 0 : has(before, "\"channel\":\"b\"") ? 1 : 2;
                if (client[i].next[k] >= 0) CHECK_INT(n, client[i].next[k]);
                client[i].next[k] = n + 1;
            }
            strcpy(client[i].last_id, text_of(a->body, "last_id"));
        }
    }
    if (unit_rounds(4000) == 4000) CHECK(resets > 10);
    close_world(&w);
}
