/* >>hub: what is evicted and forgotten, and when; who is told, woken and signalled. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

enum { SWEEP = 256 }; /* things that one step gives back */

static void open_aged(uint32_t age_ms) {
    w.cfg.history_age_ms = age_ms;
    w.cfg.timeout_ms_max = 100000000;
    open_world(&w);
}

/* What one message {"n":N} takes on a channel with a name of one byte. */
static uint64_t message_bytes(void) {
    uint64_t bytes;
    open_world(&w);
    publish_n(&w, "?", 0);
    bytes = stats_of(&w).history_bytes;
    publish_n(&w, "?", 9);
    CHECK_INT(stats_of(&w).history_bytes, 2 * bytes);
    close_world(&w);
    memset(&w, 0, sizeof w);
    return bytes;
}

/* These messages are held. The channel is made if there is none. */
static void check_held(const char *name, const char *ns) {
    CHECK_STR(lp_s(ns_of(look(&w, name, "0"))), ns);
}

/* Of the channel, which is made if there is none. */
static const char *epoch_of(const char *name) {
    static char epochs[4][17];
    static int next;
    char *to = epochs[next++ % 4];
    answer *a = look(&w, name, "now");
    CHECK_INT(a->status, 200);
    memcpy(to, member(a->body, "last_id").bytes, 16);
    return to;
}

/* ---- what is evicted, and in what order ---- */

TEST(hub_evicts_by_count) {
    int n;
    w.cfg.history_count = 3;
    open_world(&w);
    for (n = 1; n <= 3; n++) publish_n(&w, "a", n);
    for (n = 1; n <= 3; n++) publish_n(&w, "b", n);
    CHECK_INT(stats_of(&w).evicted, 0);
    publish_n(&w, "a", 4);
    check_held("a", "2,3,4");
    check_held("b", "1,2,3"); /* has a count of its own */
    CHECK_INT(stats_of(&w).evicted, 1);
    CHECK_INT(stats_of(&w).messages, 6);
    close_world(&w);
}

/* A channel's own messages are looked at whenever it is found: no sweep is needed. */
TEST(hub_evicts_by_age_to_the_millisecond) {
    open_aged(1000);
    publish_n(&w, "a", 1);
    tick(&w, 400);
    publish_n(&w, "a", 2);
    tick(&w, 599);
    check_held("a", "1,2");
    tick(&w, 1);
    check_held("a", "2");
    tick(&w, 399);
    check_held("a", "2");
    tick(&w, 1);
    check_held("a", "");
    CHECK_INT(stats_of(&w).channels, 1);
    close_world(&w);
}

TEST(hub_age_may_be_unlimited) {
    char epoch[17];
    int i;
    open_aged(LP_UNLIMITED);
    publish_n(&w, "a", 1);
    strcpy(epoch, epoch_of("b"));
    for (i = 0; i < 8; i++) tick(&w, 1000000000), settle(&w); /* 92 days */
    CHECK(lp_wait_ms(w.s) > 86400 * 1000); /* and there is nothing to sweep, ever */
    check_held("a", "1");
    CHECK(!strcmp(epoch_of("b"), epoch));
    close_world(&w);
}

/* The oldest of all channels goes first. */
TEST(hub_evicts_by_bytes_over_all_channels) {
    uint64_t one = message_bytes();
    w.cfg.history_bytes = 4 * one;
    open_world(&w);
    publish_n(&w, "a", 1);
    publish_n(&w, "b", 2);
    publish_n(&w, "a", 3);
    publish_n(&w, "c", 4);
    CHECK_INT(stats_of(&w).messages, 4);
    CHECK_INT(stats_of(&w).history_bytes, 4 * one);
    publish_n(&w, "c", 5);
    check_held("a", "3");
    check_held("b", "2");
    publish_n(&w, "c", 6);
    check_held("b", "");
    publish_n(&w, "c", 7);
    check_held("a", "");
    check_held("c", "4,5,6,7");
    publish_n(&w, "c", 8);
    check_held("c", "5,6,7,8");
    CHECK_INT(stats_of(&w).evicted, 4);
    close_world(&w);
}

TEST(hub_newest_is_never_evicted_by_its_own_append) {
    int i;
    w.cfg.history_bytes = 1;
    open_world(&w);
    for (i = 0; i < 5; i++) {
        publish_n(&w, "a", i);
        CHECK_INT(stats_of(&w).messages, 1);
        CHECK_INT(atoi(ns_of(look(&w, "a", "0"))), i);
        publish_n(&w, "b", i);
        CHECK_INT(stats_of(&w).messages, 1);
        check_held("a", "");
        CHECK_INT(atoi(ns_of(look(&w, "b", "0"))), i);
    }
    close_world(&w);
}

/* Replies that slow readers hold up count in. */
TEST(hub_pinned_bytes_count_in) {
    enum { BUDGET = 100000, SIZE = 10000 };
    peer *slow;
    lp_stats stats;
    int i;
    w.cfg.history_bytes = BUDGET;
    open_world(&w);
    publish_padded(&w, "a", SIZE);
    slow = dial(&w);
    widen(slow, 100);
    get(slow, "/api/poll/a");
    settle(&w);
    CHECK(stats_of(&w).pinned_bytes > SIZE);
    for (i = 0; i < 10; i++) {
        publish_padded(&w, "a", SIZE);
        stats = stats_of(&w);
        CHECK(stats.history_bytes + stats.pinned_bytes <= BUDGET);
    }
    CHECK_INT(stats.messages, 8);
    widen(slow, SIZE_MAX);
    settle(&w);
    CHECK_INT(take(slow)->status, 200);
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    for (i = 0; i < 3; i++) publish_padded(&w, "a", SIZE);
    CHECK_INT(stats_of(&w).messages, 9);
    close_world(&w);
}

/* ---- idle channels, and forgetting them ---- */

/* The clock of a step is older than that of who publishes meanwhile: here on "a", whose
   message is pushed out at once, so that it is idle from a time that for the poll, in the
   same step, is still to come. (publish.c has the same of messages.) */
TEST(hub_channel_idle_since_later_is_not_forgotten) {
    peer *p, *c;
    answer *a;
    w.cfg.history_bytes = 1;
    open_aged(1000);
    p = dial(&w);
    c = dial(&w);
    settle(&w);
    w.k.cost_us[K_RECV] = 3000; /* a busy machine */
    post(p, "/api/publish/a", "{}");
    post(p, "/api/publish/b", "{}");
    get(c, "/api/poll/a?timeout=0");
    w.k.turn = p->fd; /* in the same step, and in this order */
    CHECK_INT(turn(&w, 0), LP_OK);
    a = take(p);
    CHECK_INT(take(p)->status, 200);
    CHECK_INT(stats_of(&w).messages, 1);
    CHECK_BYTES(member(take(c)->body, "last_id").bytes, 18,
                member(a->body, "message_id").bytes, 18);
    close_world(&w);
}

TEST(hub_idle_channel_is_forgotten_after_the_historys_age) {
    char epoch[17], id[20];
    open_aged(1000);
    publish_n(&w, "a", 1);
    strcpy(epoch, epoch_of("a"));
    tick(&w, 1000);
    check_held("a", ""); /* idle from here */
    tick(&w, 999);
    CHECK(!strcmp(epoch_of("a"), epoch));
    tick(&w, 1);
    CHECK(strcmp(epoch_of("a"), epoch));
    snprintf(id, sizeof id, "%s-0", epoch_of("a"));
    CHECK_STR(member(look(&w, "a", "0")->body, "last_id"), id);
    CHECK_INT(stats_of(&w).channels, 1);
    close_world(&w);
}

TEST(hub_waiter_or_message_keeps_a_channel) {
    char epoch[17];
    peer *a, *b;
    open_aged(1000);
    strcpy(epoch, epoch_of("a"));
    a = park_new(&w, "/api/poll/a?timeout=1000000");
    b = park_new(&w, "/api/poll/b?timeout=1000000");
    pass(&w, 100000);
    CHECK_INT(stats_of(&w).channels, 2);
    publish_n(&w, "b", 1);
    settle(&w);
    CHECK_STR(lp_s(ns_of(take(b))), "1");
    pass(&w, 990);
    CHECK_INT(stats_of(&w).channels, 2);
    pass(&w, 100000);
    CHECK_INT(stats_of(&w).channels, 1);
    CHECK_SILENT(a);
    CHECK(!strcmp(epoch_of("a"), epoch));
    leave(&w, a);
    pass(&w, 990);
    CHECK_INT(stats_of(&w).channels, 1);
    pass(&w, 1100);
    CHECK_INT(stats_of(&w).channels, 0);
    close_world(&w);
}

static void check_epoch_reset(const char *query) {
    answer *a = askf(&w, w.looker, "/api/poll/a?timeout=0&%s", query);
    CHECK(has(a->body, "\"reset\":{\"a\":\"epoch\"}"));
}

/* Its epoch and its timestamps are new, above those of all that were forgotten. */
TEST(hub_channel_made_again_is_another) {
    lp_published a, b, again;
    char query[80];
    open_aged(1000);
    a = publish_n(&w, "a", 1);
    tick(&w, 500);
    b = publish_n(&w, "b", 1); /* has the highest */
    pass(&w, 5000);
    CHECK_INT(stats_of(&w).channels, 0);
    w.k.wall_us = 5 - w.k.now_us; /* long ago */
    again = publish_n(&w, "a", 2);
    CHECK(again.timestamp_us > b.timestamp_us + 1); /* the channel's start is above it too */
    CHECK(strncmp(again.id, a.id, 16));
    CHECK_STR(lp_s(again.id + 16), "-1");
    check_held("a", "2");
    snprintf(query, sizeof query, "last_id=%s", a.id);
    check_epoch_reset(query);
    snprintf(query, sizeof query, "since=%lu.%06lu", (unsigned long)(a.timestamp_us / 1000000),
             (unsigned long)(a.timestamp_us % 1000000));
    check_epoch_reset(query);
    snprintf(query, sizeof query, "since=%lu.%06lu", (unsigned long)(b.timestamp_us / 1000000),
             (unsigned long)(b.timestamp_us % 1000000));
    check_epoch_reset(query);
    close_world(&w);
}

/* ---- a full table, against a model

   Channels that were never published on are idle while nobody waits. The model is the list
   of those that are idle, the longest so first. */

enum { TABLE = 5, TABLE_NAMES = 9 };

static struct {
    char epoch[TABLE_NAMES][17]; /* empty: there is no such channel */
    int waiting[TABLE_NAMES];
    uint64_t idle_since[TABLE_NAMES];
    uint64_t order;
    int full, forgotten;
} table;

/* Find or make; 0 if the table is full. Not those of `names` before `i` are forgotten. */
static int table_get(const int *names, int i) {
    int k, victim = -1, count = 0, pinned;
    if (*table.epoch[names[i]]) return 1;
    for (k = 0; k < TABLE_NAMES; k++) count += *table.epoch[k] != 0;
    for (k = 0; k < TABLE_NAMES && count == TABLE; k++) {
        for (pinned = 0; pinned < i && names[pinned] != k;) pinned++;
        if (!*table.epoch[k] || table.waiting[k] || pinned < i) continue;
        if (victim < 0 || table.idle_since[k] < table.idle_since[victim]) victim = k;
    }
    if (count == TABLE && victim < 0) return 0;
    if (victim >= 0) *table.epoch[victim] = 0, table.forgotten++;
    strcpy(table.epoch[names[i]], "?");
    table.idle_since[names[i]] = ++table.order;
    return 1;
}

/* Poll for one to three channels, which go to `list`; park if `c`. */
static void table_poll(peer *c, char *list) {
    int names[3], count = 1 + (int)unit_below(3), i, k, n = 0;
    const char *cursor;
    answer *a;
    for (i = 0; i < count; i++) {
        do {
            names[i] = (int)unit_below(TABLE_NAMES);
            for (k = 0; k < i && names[k] != names[i];) k++;
        } while (k < i);
        n += sprintf(list + n, "%s%c", i ? "," : "", 'a' + names[i]);
    }
    for (i = 0; i < count && table_get(names, i);) i++;
    a = look(&w, list, "now");
    if (i < count) {
        CHECK_INT(a->status, 503);
        CHECK_STR(member(a->body, "error"), "Too many channels");
        table.full++;
        return;
    }
    CHECK_INT(a->status, 200);
    cursor = member(a->body, "last_id").bytes;
    for (i = 0; i < count; i++, cursor += 19) {
        char *epoch = table.epoch[names[i]];
        if (*epoch == '?') memcpy(epoch, cursor, 16);
        CHECK_BYTES(cursor, 16, epoch, 16);
    }
    if (!c) return;
    sayf(c, "GET /api/poll/%s?timeout=1000000 HTTP/1.1\r\nHost: localhost\r\n\r\n", list);
    settle(&w);
    CHECK_SILENT(c);
    for (i = 0; i < count; i++) table.waiting[names[i]]++;
}

/* Channels fall idle in the order of the poll. */
static void table_leave(peer *c, const char *list) {
    const char *at;
    leave(&w, c);
    for (at = list; *at; at += at[1] ? 2 : 1) {
        if (--table.waiting[*at - 'a']) continue;
        table.idle_since[*at - 'a'] = ++table.order;
    }
}

TEST(hub_full_table_forgets_the_longest_idle) {
    enum { POLLS = 4 };
    peer *c[POLLS] = {0};
    char lists[POLLS][8], list[8];
    int i, rounds = unit_rounds(5000);
    w.cfg.channels_max = TABLE;
    open_aged(LP_UNLIMITED);
    for (i = 0; i < rounds; i++) {
        uint32_t k = unit_below(POLLS);
        peer **one = &c[k];
        if (unit_one_in(2)) {
            table_poll(NULL, list);
        } else if (*one) {
            table_leave(*one, lists[k]);
            *one = NULL;
        } else {
            *one = dial(&w);
            table_poll(*one, lists[k]);
            if (stats_of(&w).waiters < (uint32_t)(!!c[0] + !!c[1] + !!c[2] + !!c[3]))
                leave(&w, *one), *one = NULL; /* the table was full */
        }
        CHECK(stats_of(&w).channels <= TABLE);
    }
    if (rounds > 1000) CHECK(table.full > 100 && table.forgotten > 500);
    close_world(&w);
}

TEST(hub_full_table_without_an_idle_channel) {
    peer *b;
    w.cfg.channels_max = 2;
    open_world(&w);
    publish_n(&w, "a", 1);
    b = park_new(&w, "/api/poll/b");
    CHECK_INT(lp_publish(w.s, lp_s("c"), lp_s("{}"), NULL), LP_ERR_FULL);
    CHECK_INT(look(&w, "c", "")->status, 503);
    CHECK_INT(look(&w, "b,c", "")->status, 503);
    CHECK_INT(stats_of(&w).channels, 2);
    check_held("a", "1");
    CHECK_INT(publish_n(&w, "b", 2).waiters, 1);
    settle(&w);
    CHECK_STR(lp_s(ns_of(take(b))), "2");
    close_world(&w);
}

/* What is forgotten makes room for a channel; if that can't be made, nothing is. */
TEST(hub_forgets_none_for_a_channel_that_is_not_made) {
    static const char other[] = "a-name-that-needs-memory";
    char epoch[17];
    size_t k;
    int status;
    w.cfg.channels_max = 1;
    open_world(&w);
    strcpy(epoch, epoch_of("a"));
    fault(&w, K_RANDOM, EIO, 0, 2);
    CHECK_INT(lp_publish(w.s, lp_s(other), lp_s("{}"), NULL), LP_ERR_OS);
    CHECK_INT(look(&w, other, "")->status, 503);
    CHECK(!strcmp(epoch_of("a"), epoch));
    for (k = 1, status = 503; status != 200; k++) {
        w.m.fail_at = w.m.calls + k;
        status = look(&w, other, "")->status;
        w.m.fail_at = 0;
        if (status == 200) break;
        CHECK_INT(status, 503);
        CHECK(!strcmp(epoch_of("a"), epoch));
    }
    CHECK(k > 1);
    CHECK_INT(stats_of(&w).channels, 1);
    CHECK(strcmp(epoch_of("a"), epoch));
    close_world(&w);
}

/* ---- a list of waiters that its loop is to serve, though nobody is left in it ---- */

TEST(hub_full_table_keeps_what_a_loop_is_about_to_serve) {
    uint64_t one = message_bytes();
    int order;
    for (order = 0; order < 2; order++) {
        peer *c, *d;
        memset(&w, 0, sizeof w);
        w.cfg.channels_max = 2;
        w.cfg.history_bytes = one;
        open_world(&w);
        c = park_new(&w, "/api/poll/a");
        d = dial(&w);
        settle(&w);
        CHECK_INT(publish_n(&w, "a", 1).waiters, 1);
        publish_n(&w, "b", 2); /* pushes that message out: a is idle but for its waiter */
        finish(c);
        get(d, "/api/poll/c"); /* parked, or 503 while the list is there */
        w.k.turn = order ? c->fd : d->fd;
        CHECK_INT(turn(&w, 0), LP_OK);
        settle(&w);
        CHECK(c->closed);
        if (unheard(d).length) {
            CHECK_INT(take(d)->status, 503);
            check_held("c", "");
        } else {
            CHECK_INT(publish_n(&w, "c", 3).waiters, 1);
            settle(&w);
            CHECK_STR(lp_s(ns_of(take(d))), "3");
        }
        close_world(&w);
    }
}

/* The first loop sweeps the message away before the other looks, which then finds its poll
   gone; the channel falls idle only there. */
TEST(hub_aged_channel_with_a_poll_that_was_woken) {
    peer *c;
    w.cfg.loops = 2;
    open_aged(100);
    dial(&w);
    c = park_new(&w, "/api/poll/a?timeout=60");
    CHECK_INT(c->loop, 1);
    CHECK_INT(publish_n(&w, "a", 1).waiters, 1);
    tick(&w, 5000);
    settle_loop(&w, 0);
    settle_loop(&w, 0);
    CHECK_INT(stats_of(&w).messages, 0);
    finish(c);
    tick(&w, 5000);
    settle_loop(&w, 0);
    CHECK_INT(stats_of(&w).channels, 1);
    settle(&w);
    CHECK(c->closed);
    CHECK_SILENT(c);
    CHECK_INT(stats_of(&w).channels, 1);
    pass(&w, 1100);
    CHECK_INT(stats_of(&w).channels, 0);
    close_world(&w);
}

/* lp_publish, then lp_destroy, with polls parked. */
TEST(hub_is_freed_with_polls_that_were_woken) {
    int i;
    w.cfg.loops = 2;
    open_world(&w);
    for (i = 0; i < 4; i++) park_new(&w, i < 2 ? "/api/poll/a" : "/api/poll/a,b");
    CHECK_INT(publish_n(&w, "a", 1).waiters, 4);
    close_world(&w);
}

/* ---- sweeps ---- */

/* At their time, if none was in the second before; then an idle server sleeps. */
TEST(hub_sweeps_are_few_and_in_time) {
    open_aged(5000);
    CHECK(lp_wait_ms(w.s) > 86400 * 1000);
    publish_n(&w, "a", 1);
    tick(&w, 300);
    publish_n(&w, "a", 2);
    CHECK_INT(lp_wait_ms(w.s), 4700);
    CHECK(pass(&w, 4699) <= 3);
    CHECK_INT(stats_of(&w).messages, 2);
    pass(&w, 1);
    CHECK_INT(stats_of(&w).messages, 1);
    CHECK_INT(lp_wait_ms(w.s), 1000); /* and not 300 */
    CHECK(pass(&w, 999) <= 3);
    CHECK_INT(stats_of(&w).messages, 1);
    pass(&w, 1);
    CHECK_INT(stats_of(&w).messages, 0);
    CHECK_INT(lp_wait_ms(w.s), 5000); /* then a is forgotten */
    pass(&w, 4999);
    CHECK_INT(stats_of(&w).channels, 1);
    pass(&w, 1);
    CHECK_INT(stats_of(&w).channels, 0);
    CHECK(lp_wait_ms(w.s) > 86400 * 1000);
    close_world(&w);
}

/* Messages and channels in one bound; what is left is seen to at once again. */
TEST(hub_sweep_is_bounded) {
    uint32_t left = 1000;
    int i;
    open_aged(1000);
    for (i = 0; i < 500; i++) publish_n(&w, "a", i), publish_n(&w, "b", i);
    tick(&w, 1000);
    while (left) {
        CHECK_INT(lp_wait_ms(w.s), 0);
        CHECK_INT(turn(&w, 0), LP_OK);
        left -= left < SWEEP ? left : SWEEP;
        CHECK_INT(stats_of(&w).messages, left);
    }
    CHECK(lp_wait_ms(w.s) > 0);
    pass(&w, 5000);
    CHECK_INT(stats_of(&w).channels, 0);
    for (i = 0; i < 200; i++) {
        char name[16];
        sprintf(name, "%d", i);
        look(&w, name, "0");
    }
    for (i = 0; i < 100; i++) publish_n(&w, "m", i);
    tick(&w, 1000);
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(stats_of(&w).messages, 0);
    CHECK_INT(stats_of(&w).channels, 201 - (SWEEP - 100));
    CHECK_INT(lp_wait_ms(w.s), 0);
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(stats_of(&w).channels, 1);
    close_world(&w);
}

static void publish_on_z(world *v) { publish_n(v, "z", 1); }

static void publish_on_z_twice(world *v) {
    publish_n(v, "z", 1);
    publish_n(v, "z", 2);
}

TEST(hub_sweep_wakes_the_first_loop_only_if_it_is_sooner) {
    w.cfg.loops = 2;
    open_aged(5000);
    settle(&w);
    while_asleep(&w, 3, publish_on_z_twice);
    CHECK_INT(w.k.signals[0], 1); /* for the first: the second is no sooner */
    CHECK_INT(w.k.signals[1], 0); /* it does not sweep */
    settle(&w);
    tick(&w, 10);
    while_asleep(&w, 3, publish_on_z); /* later than it knows of */
    CHECK_INT(w.k.signals[0], 1);
    pass(&w, 4990);
    CHECK_INT(stats_of(&w).messages, 1);
    pass(&w, 1000);
    CHECK_INT(stats_of(&w).messages, 0);
    close_world(&w);
}

/* ---- who is told of channels (loop.c has the plain cases) ---- */

static char noted[600];

static void note_event(void *ctx, lp_channel_event event, lp_slice channel) {
    (void)ctx;
    CHECK(strlen(noted) + channel.length + 3 < sizeof noted);
    sprintf(noted + strlen(noted), "%c%.*s;", event == LP_CHANNEL_OCCUPIED ? '+' : '-',
            (int)channel.length, channel.bytes);
}

static void check_noted(const char *want) {
    CHECK_STR(lp_s(noted), want);
    noted[0] = 0;
}

static void open_noting(uint32_t loops, uint32_t linger_ms) {
    w.cfg.watch.channel = note_event;
    w.cfg.channel_linger_ms = linger_ms;
    w.cfg.loops = loops;
    open_world(&w);
}

TEST(hub_tells_of_each_deserted_channel) {
    peer *c[3];
    open_noting(1, LP_OFF);
    c[0] = park_new(&w, "/api/poll/a");
    c[1] = park_new(&w, "/api/poll/b");
    c[2] = park_new(&w, "/api/poll/c,b");
    check_noted("+a;+b;+c;");
    leave(&w, c[0]);
    leave(&w, c[1]);
    pass(&w, 1);
    check_noted("-a;");
    leave(&w, c[2]);
    pass(&w, 1);
    check_noted("-c;-b;");
    pass(&w, 10000);
    check_noted("");
    close_world(&w);
}

/* It counts as idle all the same, and what is forgotten is still told. */
TEST(hub_deserted_channel_that_is_forgotten_is_told) {
    w.cfg.channels_max = 1;
    open_noting(1, 5000);
    leave(&w, park_new(&w, "/api/poll/a"));
    check_noted("+a;");
    publish_n(&w, "b", 1);
    CHECK_INT(stats_of(&w).channels, 1);
    settle(&w);
    check_noted("-a;");
    leave(&w, park_new(&w, "/api/poll/b?last_id=now"));
    check_noted("+b;");
    close_world(&w); /* with b still untold */
}

/* What was told last about a channel with polls is that there are some. */
TEST(hub_channel_that_was_forgotten_and_is_waited_on_again) {
    w.cfg.history_age_ms = 100;
    open_noting(1, 5000);
    leave(&w, park_new(&w, "/api/poll/a"));
    tick(&w, 100); /* idle for long enough to be forgotten, before it is told of */
    park_new(&w, "/api/poll/a?timeout=60");
    check_noted("+a;-a;+a;");
    pass(&w, 6000);
    check_noted("");
    close_world(&w);
}

/* One that nobody waits on any more when it is told still was waited on; it has its time from
   then. */
TEST(hub_channel_that_is_left_before_it_is_told) {
    peer *c;
    open_noting(2, 5000);
    dial(&w);
    c = dial(&w); /* on the other loop; only the first tells */
    settle(&w);
    CHECK_INT(c->loop, 1);
    get(c, "/api/poll/a");
    settle_loop(&w, 1);
    finish(c);
    settle_loop(&w, 1);
    CHECK(c->closed);
    tick(&w, 1000);
    check_noted("");
    settle(&w);
    check_noted("+a;");
    pass(&w, 4999);
    check_noted("");
    pass(&w, 1);
    check_noted("-a;");
    close_world(&w);
}

static void poll_on_loop_2(world *v) {
    peer *c = v->peers; /* the latest */
    CHECK_INT(c->loop, 2);
    get(c, "/api/poll/a");
    settle_loop(v, 2);
    CHECK_INT(v->k.signals[0], 0);
    turn_loop(v, 2, 0); /* it would sleep now */
    CHECK_INT(v->k.signals[0], 1);
    check_noted("");
}

/* Another loop's news wake the first, which alone tells them. */
TEST(hub_news_wake_the_first_loop) {
    int i;
    w.cfg.history_age_ms = LP_UNLIMITED;
    open_noting(3, 5000);
    for (i = 0; i < 3; i++) dial(&w);
    settle(&w);
    memset(w.k.signals, 0, sizeof w.k.signals);
    while_asleep(&w, 1, poll_on_loop_2);
    settle(&w);
    check_noted("+a;");
    close_world(&w);
}

TEST(hub_name_of_255_bytes_is_told_in_full) {
    char name[256], target[300];
    memset(name, 'x', 255);
    name[255] = 0;
    snprintf(target, sizeof target, "/api/poll/%s", name);
    open_noting(1, LP_OFF);
    leave(&w, park_new(&w, target));
    pass(&w, 1);
    CHECK_INT(strlen(noted), 2 * 257);
    CHECK(!memcmp(noted + 1, name, 255) && !memcmp(noted + 258, name, 255));
    close_world(&w);
}

enum { MANY = 700 };

static struct { int waited_on, noted; } many[MANY];

static void watch_many(void *ctx, lp_channel_event event, lp_slice channel) {
    char text[8] = "";
    int i;
    memcpy(text, channel.bytes + 1, channel.length - 1);
    i = atoi(text);
    (void)ctx;
    CHECK(i >= 0 && i < MANY);
    CHECK_INT(event, many[i].waited_on ? LP_CHANNEL_VACATED : LP_CHANNEL_OCCUPIED);
    many[i].waited_on = event == LP_CHANNEL_OCCUPIED;
    many[i].noted++;
}

/* More channels than one sweep sees to are left and forgotten, and waited on anew before the
   first loop tells: of each name the news come in turns, and the last is that it is waited
   on. */
TEST(hub_news_of_many_channels_come_in_their_order) {
    static peer *c[MANY];
    int round, i;
    w.cfg.watch.channel = watch_many;
    w.cfg.channel_linger_ms = 5000;
    w.cfg.loops = 2;
    w.cfg.waiters_per_client = w.cfg.waiters_per_address = LP_UNLIMITED;
    open_aged(100);
    for (i = 0; i < MANY; i++) {
        dial(&w);
        c[i] = dial(&w);
    }
    settle(&w);
    for (round = 0; round < 3; round++) {
        for (i = 0; i < MANY; i++) {
            CHECK_INT(c[i]->loop, 1);
            sayf(c[i], "GET /api/poll/c%d?timeout=%s HTTP/1.1\r\nHost: localhost\r\n\r\n", i,
                 round < 2 ? "0.05" : "60");
        }
        settle_loop(&w, 1);
        if (round == 1) settle(&w);
        tick(&w, 60);
        while (round < 2 && stats_of(&w).waiters) settle_loop(&w, 1);
        for (i = 0; i < MANY && round < 2; i++) CHECK_INT(take(c[i])->status, 200);
        tick(&w, 200);
    }
    CHECK_INT(stats_of(&w).waiters, MANY);
    settle(&w);
    for (i = 0; i < MANY; i++) {
        CHECK(many[i].waited_on);
        CHECK_INT(many[i].noted, 5);
    }
    close_world(&w);
}

/* ---- publishing: who was woken, in what order, and by how many signals ---- */

TEST(hub_waiters_are_those_parked_since_the_last_append) {
    peer *c[4], *d;
    int i;
    w.cfg.loops = 2;
    open_world(&w);
    for (i = 0; i < 4; i++) c[i] = park_new(&w, "/api/poll/a");
    park_new(&w, "/api/poll/b");
    leave(&w, c[3]);
    d = dial(&w);
    settle(&w);
    CHECK_INT(d->loop, 1);
    CHECK_INT(publish_n(&w, "a", 1).waiters, 3);
    CHECK_INT(publish_n(&w, "a", 2).waiters, 0); /* woken already */
    /* One is gone before it is served, and another comes in its place. */
    finish(c[0]);
    get(d, "/api/poll/a?last_id=now");
    settle(&w);
    CHECK(c[0]->closed);
    CHECK_SILENT(c[0]);
    CHECK_STR(lp_s(ns_of(take(c[1]))), "1,2");
    CHECK_STR(lp_s(ns_of(take(c[2]))), "1,2");
    CHECK_INT(publish_n(&w, "a", 3).waiters, 1);
    settle(&w);
    CHECK_STR(lp_s(ns_of(take(d))), "3");
    CHECK_INT(publish_n(&w, "a", 4).waiters, 0);
    close_world(&w);
}

static void publish_on_c(world *v) { publish_n(v, "c", 0); }

static void publish_on_a_and_b(world *v) {
    CHECK_INT(publish_n(v, "a", 1).waiters, 3);
    CHECK_INT(v->k.signals[0], 1);
    CHECK_INT(v->k.signals[1], 0);
    CHECK_INT(v->k.signals[2], 1);
    publish_n(v, "a", 2);
    publish_n(v, "a", 3);
    CHECK_INT(publish_n(v, "b", 4).waiters, 1);
    CHECK_INT(v->k.signals[1], 1);
}

static void publish_on_a_again(world *v) { CHECK_INT(publish_n(v, "a", 5).waiters, 4); }

/* Each concerned loop that sleeps is signalled, once. */
TEST(hub_signals_the_concerned_loops_once) {
    peer *a[3], *b;
    int i;
    w.cfg.loops = 3;
    open_aged(LP_UNLIMITED);
    a[0] = park_new(&w, "/api/poll/a");
    b = park_new(&w, "/api/poll/b");
    a[1] = park_new(&w, "/api/poll/a");
    while (dial(&w), settle(&w), w.peers->loop != 2) {}
    a[2] = w.peers;
    park(&w, a[2], "/api/poll/a");
    memset(w.k.signals, 0, sizeof w.k.signals);
    while_asleep(&w, 7, publish_on_c); /* nobody's */
    CHECK_INT(w.k.signals[0] + w.k.signals[1] + w.k.signals[2], 0);
    while_asleep(&w, 7, publish_on_a_and_b);
    CHECK_INT(w.k.signals[0], 1);
    CHECK_INT(w.k.signals[1], 1);
    CHECK_INT(w.k.signals[2], 1);
    settle(&w);
    for (i = 0; i < 3; i++) CHECK_STR(lp_s(ns_of(take(a[i]))), "1,2,3");
    CHECK_STR(lp_s(ns_of(take(b))), "4");
    /* One that is awake looks by itself. */
    for (i = 0; i < 3; i++) park(&w, a[i], "/api/poll/a?last_id=now");
    park(&w, b, "/api/poll/a?last_id=now");
    while_asleep(&w, 5, publish_on_a_again);
    CHECK_INT(w.k.signals[0], 2);
    CHECK_INT(w.k.signals[1], 1);
    CHECK_INT(w.k.signals[2], 2);
    settle(&w);
    for (i = 0; i < 3; i++) CHECK_STR(lp_s(ns_of(take(a[i]))), "5");
    CHECK_STR(lp_s(ns_of(take(b))), "5");
    close_world(&w);
}

/* Channels are served in the order in which they were woken, each once. */
TEST(hub_channels_are_served_in_the_order_of_waking) {
    peer *c[3];
    open_world(&w);
    c[0] = park_new(&w, "/api/poll/a");
    c[1] = park_new(&w, "/api/poll/b");
    c[2] = park_new(&w, "/api/poll/c");
    publish_n(&w, "b", 1);
    publish_n(&w, "a", 2);
    publish_n(&w, "b", 3);
    publish_n(&w, "c", 4);
    settle(&w);
    CHECK_STR(lp_s(ns_of(take(c[0]))), "2");
    CHECK_STR(lp_s(ns_of(take(c[1]))), "1,3");
    CHECK_STR(lp_s(ns_of(take(c[2]))), "4");
    CHECK(c[1]->turn < c[0]->turn && c[0]->turn < c[2]->turn);
    close_world(&w);
}

/* A loop that was awake when a message came looks before it waits. */
TEST(hub_loop_does_not_wait_with_polls_to_serve) {
    uint64_t began;
    peer *c;
    open_world(&w);
    c = park_new(&w, "/api/poll/a");
    settle_loop(&w, 0); /* which, other than lp_step, leaves it awake */
    publish_n(&w, "a", 1);
    began = now_ms(&w);
    CHECK_INT(turn_loop(&w, 0, 1000), LP_OK);
    CHECK_INT(now_ms(&w), began);
    CHECK_STR(lp_s(ns_of(take(c))), "1");
    close_world(&w);
}

static void publish_on_a_once(world *v) { CHECK_INT(publish_n(v, "a", 1).waiters, 2); }

static int looked;

static void look_at_the_hub(world *v) {
    (void)stats_of(v); /* would wait for ever if the caller held it */
    looked++;
}

/* System calls take their time, and are made while nobody has to wait for the hub. */
TEST(hub_is_not_held_in_a_system_call) {
    static const kernel_call calls[] = {K_ACCEPT, K_RECV, K_SEND, K_SHUTDOWN, K_CLOSE,
                                        K_POLLER_SET, K_POLLER_WAIT, K_WAKE_SIGNAL,
                                        K_WAKE_CLEAR};
    size_t i;
    for (i = 0; i < LPI_COUNT(calls); i++) {
        peer *c, *d;
        memset(&w, 0, sizeof w);
        w.cfg.loops = 2;
        open_aged(LP_UNLIMITED);
        looked = 0;
        during(&w, calls[i], look_at_the_hub);
        c = park_new(&w, "/api/poll/a");
        d = park_new(&w, "/api/poll/a");
        settle(&w);
        during(&w, calls[i], look_at_the_hub);
        while_asleep(&w, 3, publish_on_a_once);
        settle(&w);
        CHECK_INT(take(c)->status, 200);
        CHECK_INT(take(d)->status, 200);
        finish(c);
        reset(d);
        settle(&w);
        CHECK(looked);
        close_world(&w);
    }
}

/* ---- without random numbers, without memory ---- */

TEST(hub_without_random_numbers) {
    prepare_world(&w);
    fault(&w, K_RANDOM, EIO, 0, 1);
    CHECK(lp_create(&w.s, &w.cfg) == LP_ERR_OS);
    CHECK_INT(w.m.blocks, 0);
    open_world(&w);
    fault(&w, K_RANDOM, EIO, 0, 1);
    CHECK_INT(look(&w, "a", "")->status, 503);
    CHECK_INT(stats_of(&w).channels, 0);
    CHECK_INT(look(&w, "a", "")->status, 200);
    close_world(&w);
}

/* Each allocation of a publish fails in turn, on a new channel and on one with waiters. How
   many there are. */
static size_t publish_failing(const char *name, int forever) {
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        lp_published out;
        lp_result result;
        peer *c[2];
        int i;
        memset(&w, 0, sizeof w);
        w.cfg.loops = 2;
        open_world(&w);
        for (i = 0; i < 8; i++) publish_n(&w, "full", i); /* its ring must grow */
        for (i = 0; i < 2; i++) c[i] = park_new(&w, "/api/poll/waited");
        w.m.fail_at = w.m.calls + k;
        w.m.fail_forever = forever;
        result = lp_publish(w.s, lp_s(name), lp_s("{\"n\":5}"), &out);
        failed = w.m.failed;
        CHECK_INT(result, failed ? LP_ERR_NOMEM : LP_OK);
        w.m.fail_at = 0;
        check_world(&w);
        out = publish_n(&w, name, 6);
        CHECK_INT(out.waiters, failed && !strcmp(name, "waited") ? 2 : 0);
        settle(&w);
        CHECK_INT(atoi(out.id + 17), (!strcmp(name, "full") ? 9 : 1) + !failed);
        for (i = 0; i < 2 && !strcmp(name, "waited"); i++)
            CHECK_STR(lp_s(ns_of(take(c[i]))), failed ? "6" : "5,6");
        close_world(&w);
    }
    return k - 2;
}

TEST(hub_publish_without_memory) {
    CHECK(publish_failing("new, and its name is long", 0) >= 3); /* message, name, ring */
    CHECK(publish_failing("new, and its name is long", 1) >= 3);
    CHECK(publish_failing("new", 0) >= 2);
    CHECK(publish_failing("full", 0) >= 2);
    CHECK(publish_failing("full", 1) >= 2);
    CHECK(publish_failing("waited", 0) >= 2);
}

/* What a burst of channels took is given back. */
TEST(hub_burst_leaves_nothing_behind) {
    char name[16];
    int i, round, count = unit_rounds(10000);
    size_t before, after[3];
    open_aged(1000);
    w.unchecked = 1;
    before = w.m.bytes;
    for (round = 0; round < 3; round++) {
        for (i = 0; i < count; i++) {
            sprintf(name, "c%d", i);
            publish_n(&w, name, i);
        }
        CHECK(w.m.bytes > before + (size_t)count * 200);
        pass(&w, 10000);
        CHECK_INT(stats_of(&w).channels, 0);
        after[round] = w.m.bytes;
    }
    CHECK(after[0] < before + 64 * 1024);
    CHECK_INT(after[1], after[0]);
    CHECK_INT(after[2], after[0]);
    w.unchecked = 0;
    close_world(&w);
}
