/* lp_recheck: who waits on a channel is let go, with nothing more, and has to ask again. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

/* Who may poll, and what happens while that is asked. */
static struct {
    char banned[32]; /* the X-Client-ID of somebody who may not */
    int asked;
    int rechecks; /* so often it calls lp_recheck itself */
    void (*amid)(void); /* called once                      */
} door;

static int door_asked(void *ctx, lp_request *request, lp_action action, lp_slice channel) {
    void (*amid)(void) = door.amid;
    int refused = *door.banned && lpi_equal(lp_header(request, "X-Client-ID"), lp_s(door.banned));
    (void)ctx, (void)action;
    door.asked++;
    door.amid = NULL;
    if (amid) amid();
    if (door.rechecks) {
        door.rechecks--;
        CHECK_INT(lp_recheck(w.s, channel), LP_OK);
    }
    return refused ? 403 : 0;
}

static void open_door(void) {
    memset(&door, 0, sizeof door);
    w.cfg.authorize.ask = door_asked;
    w.cfg.waiters_per_client = w.cfg.waiters_per_address = LP_UNLIMITED;
    open_world(&w);
}

static peer *park_door(const char *target, const char *client) {
    uint32_t before = stats_of(&w).waiters;
    peer *c = dial(&w);
    get_as(c, target, client);
    settle(&w);
    CHECK_INT(stats_of(&w).waiters, before + 1);
    return c;
}

static void recheck(const char *channel) { CHECK_INT(lp_recheck(w.s, lp_s(channel)), LP_OK); }

/* An answer as at its timeout, with that cursor. */
static void check_let_go(peer *c, const char *cursor) {
    answer *a = take(c);
    CHECK_INT(a->status, 200);
    CHECK_STR(member(a->body, "status"), "timeout");
    CHECK_STR(member(a->body, "count"), "0");
    CHECK_STR(member(a->body, "last_id"), cursor);
    CHECK(!has(a->body, "more") && !has(a->body, "reset"));
}

TEST(recheck_lets_go_with_its_own_cursor) {
    lp_published p;
    peer *c;
    open_door();
    p = publish_n(&w, "a", 1);
    c = park_door("/api/poll/a?last_id=now", "ann");
    recheck("a");
    settle(&w);
    check_let_go(c, p.id);
    CHECK_INT(stats_of(&w).waiters, 0);
    publish_n(&w, "a", 2);
    CHECK_STR(lp_s(ns_of(askf(&w, c, "/api/poll/a?last_id=%s", p.id))), "2");
    CHECK_INT(door.asked, 2);
    close_world(&w);
}

/* Not even what is published before the loop has let them go. */
TEST(recheck_gives_nothing_more) {
    lp_published p;
    peer *ann, *bob;
    open_door();
    p = publish_n(&w, "a", 1);
    ann = park_door("/api/poll/a?last_id=now", "ann");
    bob = park_door("/api/poll/a?last_id=now", "bob");
    strcpy(door.banned, "bob");
    recheck("a");
    publish_n(&w, "a", 2);
    settle(&w);
    check_let_go(ann, p.id);
    check_let_go(bob, p.id);
    sayf(ann, "GET /api/poll/a?last_id=%s HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: ann\r\n\r\n", p.id);
    sayf(bob, "GET /api/poll/a?last_id=%s HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: bob\r\n\r\n", p.id);
    settle(&w);
    CHECK_STR(lp_s(ns_of(take(ann))), "2"); /* nothing is lost */
    CHECK_INT(take(bob)->status, 403);
    close_world(&w);
}

/* Nor if the poll's timeout comes first. */
TEST(recheck_gives_nothing_at_a_timeout) {
    lp_published p;
    peer *c;
    open_door();
    p = publish_n(&w, "a", 1);
    c = park_door("/api/poll/a?last_id=now&timeout=1", "ann");
    tick(&w, 2000);
    recheck("a");
    publish_n(&w, "a", 2);
    settle(&w);
    check_let_go(c, p.id);
    close_world(&w);
}

TEST(recheck_of_one_of_several_channels) {
    lp_published a, b;
    char cursor[90];
    peer *both, *other;
    open_door();
    a = publish_n(&w, "a", 1);
    b = publish_n(&w, "b", 1);
    both = park_door("/api/poll/a,b?last_id=now", "ann");
    other = park_door("/api/poll/b?last_id=now", "bob");
    recheck("a");
    publish_n(&w, "b", 2); /* wakes it by its other channel */
    settle(&w);
    sprintf(cursor, "%s,%s", a.id, b.id);
    check_let_go(both, cursor);
    CHECK_STR(lp_s(ns_of(take(other))), "2");
    close_world(&w);
}

TEST(recheck_in_the_basic_dialect) {
    peer *c;
    open_door();
    publish_n(&w, "a", 1);
    c = dial(&w);
    get(c, "/api/poll/a?since=99999999999");
    settle(&w);
    take(c); /* ahead: all that is held */
    c = park_door("/api/poll/b?since=0", "ann");
    recheck("b");
    publish_n(&w, "b", 1);
    settle(&w);
    CHECK_STR(member(take(c)->body, "status"), "timeout");
    close_world(&w);
}

/* Where what it has not had is gone by then, that is told all the same. */
TEST(recheck_tells_of_a_reset) {
    answer *a;
    peer *c;
    w.cfg.history_count = 1;
    open_door();
    publish_n(&w, "a", 1);
    c = park_door("/api/poll/a?last_id=now", "ann");
    recheck("a");
    publish_n(&w, "a", 2);
    publish_n(&w, "a", 3);
    settle(&w);
    a = take(c);
    CHECK_STR(member(a->body, "count"), "0");
    CHECK(has(a->body, "\"reset\":{\"a\":\"evicted\"}"));
    CHECK_STR(lp_s(ns_of(askf(&w, c, "/api/poll/a?last_id=%s", text_of(a->body, "last_id")))), "3");
    close_world(&w);
}

TEST(recheck_of_nobody) {
    open_door();
    recheck("a");
    look(&w, "a", "0");
    recheck("a");
    CHECK_INT(stats_of(&w).channels, 1);
    CHECK_INT(lp_recheck(w.s, lp_s("")), LP_ERR_ARG);
    CHECK_INT(lp_recheck(w.s, lp_s("a\n")), LP_ERR_ARG);
    CHECK_INT(lp_recheck(NULL, lp_s("a")), LP_ERR_ARG);
    park_door("/api/poll/a", "ann"); /* they are past */
    settle(&w);
    CHECK_INT(stats_of(&w).waiters, 1);
    close_world(&w);
}

/* So many that they are let go in turns: who comes meanwhile is none of them. */
TEST(recheck_of_a_crowd) {
    enum { CROWD = 3 * LPI_BATCH + 5 };
    peer *c[CROWD], *late[2];
    char name[20];
    lp_published p;
    int i, steps = 0;
    open_door();
    p = publish_n(&w, "a", 1);
    for (i = 0; i < CROWD; i++) {
        sprintf(name, "c%d", i);
        c[i] = park_door("/api/poll/a?last_id=now&timeout=50", name);
    }
    late[0] = dial(&w);
    settle(&w);
    recheck("a");
    get(late[0], "/api/poll/a?last_id=now&timeout=50"); /* it is read before they are let go */
    while (stats_of(&w).waiters > 1 || steps < 6) {
        turn(&w, 0);
        CHECK(++steps < 20);
        if (steps == 1) publish_n(&w, "b", 1);
    }
    late[1] = park_door("/api/poll/a?last_id=now&timeout=50", "late");
    settle(&w);
    for (i = 0; i < CROWD; i++) check_let_go(c[i], p.id);
    CHECK_SILENT(late[0]);
    CHECK_SILENT(late[1]);
    publish_n(&w, "a", 2);
    settle(&w);
    CHECK_STR(lp_s(ns_of(take(late[0]))), "2");
    CHECK_STR(lp_s(ns_of(take(late[1]))), "2");
    CHECK_INT(w.s->hub.lists.used, 0);
    close_world(&w);
}

TEST(recheck_over_several_loops) {
    peer *c[12];
    int i;
    w.cfg.loops = 3;
    open_door();
    for (i = 0; i < 12; i++) c[i] = park_door("/api/poll/a", "ann");
    recheck("a");
    recheck("a");
    settle(&w);
    for (i = 0; i < 12; i++) CHECK_STR(member(take(c[i])->body, "status"), "timeout");
    close_world(&w);
}

/* ---- streams ---- */

static peer *open_door_stream(const char *target, const char *client) {
    peer *c = park_door(target, client);
    CHECK(has(unheard(c), "retry: 1000"));
    return c;
}

TEST(recheck_ends_streams) {
    peer *a, *b;
    open_door();
    a = open_door_stream("/api/stream/a", "ann");
    b = open_door_stream("/api/stream/b", "bob");
    recheck("a");
    publish_n(&w, "a", 1);
    publish_n(&w, "b", 1);
    settle(&w);
    CHECK(a->closed || a->shut);
    CHECK(!has(unheard(a), "\"n\":1"));
    CHECK(!b->closed && !b->shut);
    CHECK(has(unheard(b), "\"n\":1"));
    CHECK_INT(stats_of(&w).waiters, 1);
    close_world(&w);
}

/* One that has something to write yet ends when that is out. */
TEST(recheck_ends_a_stream_that_does_not_wait) {
    peer *c;
    open_door();
    c = open_door_stream("/api/stream/a", "ann");
    widen(c, 0);
    publish_n(&w, "a", 1);
    settle(&w);
    CHECK_INT(stats_of(&w).waiters, 0);
    recheck("a");
    publish_n(&w, "a", 2);
    widen(c, SIZE_MAX);
    settle(&w);
    CHECK(c->closed || c->shut);
    CHECK(has(unheard(c), "\"n\":1"));
    CHECK(!has(unheard(c), "\"n\":2"));
    close_world(&w);
}

/* Nor does it help that its channel was forgotten since, and is made again. */
TEST(recheck_is_kept_for_channels_that_are_forgotten) {
    peer *c, *other;
    w.cfg.history_age_ms = 1000;
    open_door();
    c = open_door_stream("/api/stream/a", "ann");
    other = open_door_stream("/api/stream/b", "bob");
    widen(c, 0);
    publish_n(&w, "a", 1);
    settle(&w);
    recheck("a");
    pass(&w, 5000);
    CHECK_INT(stats_of(&w).channels, 1);
    recheck("c");
    widen(c, SIZE_MAX);
    settle(&w);
    CHECK(c->closed || c->shut);
    CHECK(!other->closed && !other->shut);
    close_world(&w);
}

/* ---- while access is asked for ---- */

static void recheck_amid(void) { recheck("a"); }

static void ban_amid(void) {
    strcpy(door.banned, "ann");
    recheck("a");
}

/* The answer of before does not count any more: of a channel that is there, and of one that is
   to be made. */
TEST(recheck_while_access_is_asked_for) {
    int made;
    for (made = 0; made < 2; made++) {
        peer *c;
        open_door();
        if (made) publish_n(&w, "a", 1);
        door.amid = recheck_amid;
        park_door("/api/poll/a?last_id=now", "ann");
        CHECK_INT(door.asked, 2);
        door.amid = ban_amid;
        c = dial(&w);
        get_as(c, "/api/poll/a?last_id=0", "ann");
        settle(&w);
        CHECK_INT(take(c)->status, 403);
        CHECK_INT(door.asked, 4);
        *door.banned = 0;
        door.amid = ban_amid;
        c = dial(&w);
        get_as(c, "/api/stream/a?last_id=0", "ann");
        settle(&w);
        CHECK_INT(take(c)->status, 403);
        CHECK_INT(stats_of(&w).streams, 0);
        close_world(&w);
        memset(&w, 0, sizeof w);
    }
}

static void recheck_another(void) { recheck("b"); }

TEST(recheck_of_another_channel_meanwhile) {
    open_door();
    look(&w, "a", "0");
    look(&w, "b", "0");
    door.asked = 0;
    door.amid = recheck_another;
    park_door("/api/poll/a", "ann");
    CHECK_INT(door.asked, 1);
    close_world(&w);
}

/* A hook that never comes to an end with it. */
TEST(recheck_again_and_again) {
    peer *c;
    open_door();
    door.rechecks = 1000;
    c = dial(&w);
    get(c, "/api/poll/a");
    settle(&w);
    CHECK_STR(member(take(c)->body, "error"), "Access is being changed");
    CHECK_INT(door.asked, 1 + LPI_POLL_TURNS);
    door.rechecks = LPI_POLL_TURNS;
    park(&w, c, "/api/poll/a");
    close_world(&w);
}

/* The numbers wrap. */
TEST(recheck_four_billion_times) {
    peer *a, *b;
    open_door();
    w.s->hub.rechecks = w.s->hub.forgotten_recheck = UINT32_MAX - 1;
    a = park_door("/api/poll/a", "ann");
    b = park_door("/api/poll/b", "bob");
    recheck("b");
    recheck("b");
    settle(&w);
    CHECK_INT(w.s->hub.rechecks, 0);
    CHECK_STR(member(take(b)->body, "status"), "timeout");
    park(&w, b, "/api/poll/b,c");
    door.amid = recheck_amid;
    CHECK_INT(look(&w, "a", "0")->status, 200);
    settle(&w);
    CHECK_STR(member(take(a)->body, "status"), "timeout");
    CHECK_INT(door.asked, 6); /* who looked is asked for twice */
    close_world(&w);
}
