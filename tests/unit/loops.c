/* Several loops: the first accepts and hands over in turns; what is handed over is
   counted, kept in order and never lost; and how loops end. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;
static peer *peers[2000]; /* in the order in which they came */
static int dialed;

enum { TAKEN = 64 }; /* that a loop accepts, or takes in, in one step */

static void open_loops(uint32_t loops)
{
    w.cfg.loops = loops;
    w.cfg.head_ms = LP_OFF;
    open_world(&w);
}

static void dial_some(int count)
{
    while (count--) peers[dialed++] = dial(&w);
}

/* Those with the numbers from `from`, every `step`, up to `to`: the loop serves them, in that
   order, and the kernel watches them for it. */
static void check_has(uint32_t loop, int from, int step, int to)
{
    int i;
    uint32_t watched = 0;
    for (i = 0; i < w.k.count; i++)
        watched += w.k.all[i].kind == K_SOCKET && w.k.all[i].watched &&
                   w.k.all[i].slot == (int)loop;
    CHECK_INT(watched, from < to ? (to - from + step - 1) / step : 0);
    for (i = from; i < to; i += step) {
        CHECK_INT(peers[i]->loop, loop);
        CHECK(peers[i]->sets == 1 && !peers[i]->closed);
    }
}

static void check_rejected(peer *c)
{
    answer *a = take(c);
    CHECK_INT(a->status, 503);
    CHECK_STR(heading(a, "Retry-After"), "5");
    CHECK_STR(heading(a, "Connection"), "close");
    CHECK(c->closed);
}

static void step_loop(uint32_t loop) { CHECK_INT(turn_loop(&w, loop, 0), LP_OK); }

/* ---- handing over ---- */

TEST(loops_take_turns)
{
    int i;
    open_loops(3);
    dial_some(30);
    step_loop(0);
    CHECK_INT(stats_of(&w).connections, 30); /* from when they are accepted */
    check_has(0, 0, 3, 30);
    check_has(1, 1, 3, 0);
    CHECK_INT(w.k.signals[0], 0);
    CHECK_INT(w.k.signals[1], 1); /* for the first of them */
    CHECK_INT(w.k.signals[2], 1);
    step_loop(1);
    check_has(1, 1, 3, 30);
    dial_some(6);
    step_loop(0);
    CHECK_INT(w.k.signals[1], 2); /* it had taken all */
    CHECK_INT(w.k.signals[2], 1); /* it had not */
    step_loop(1);
    step_loop(2);
    for (i = 0; i < 3; i++) check_has((uint32_t)i, i, 3, 36);
    CHECK_INT(stats_of(&w).connections, 36);
    for (i = 0; i < 36; i++) CHECK_INT(ask(&w, peers[i], "/")->status, 404);
    close_world(&w);
}

/* In the next step the rest, since a storm is not to hold up those who are here. */
TEST(a_bounded_number_is_taken_in_per_step)
{
    open_loops(2);
    dial_some(4 * TAKEN);
    step_loop(0);
    step_loop(0);
    step_loop(0);
    step_loop(0); /* half of them are the other's: */
    CHECK_INT(stats_of(&w).connections, 4 * TAKEN);
    CHECK_INT(w.k.signals[1], 1);
    step_loop(1);
    check_has(1, 1, 2, 2 * TAKEN);
    CHECK_INT(w.k.signals[1], 2); /* by itself */
    dial_some(4);
    step_loop(0);
    CHECK_INT(w.k.signals[1], 3); /* its inbox was empty */
    step_loop(1);
    check_has(1, 1, 2, 4 * TAKEN);
    CHECK_INT(w.k.signals[1], 4);
    step_loop(1);
    check_has(1, 1, 2, 4 * TAKEN + 4);
    CHECK_INT(w.k.signals[1], 4);
    close_world(&w);
}

TEST(what_is_handed_over_counts_against_the_limit)
{
    w.cfg.connections_max = 4;
    open_loops(3);
    dial_some(6);
    step_loop(0);
    CHECK_INT(stats_of(&w).connections, 4);
    check_rejected(peers[4]);
    check_rejected(peers[5]);
    CHECK_INT(stats_of(&w).refused, 2);
    settle(&w);
    CHECK_INT(stats_of(&w).connections, 4);
    CHECK_INT(peers[1]->loop, 1);
    finish(peers[1]);
    settle(&w);
    CHECK_INT(stats_of(&w).connections, 3);
    dial_some(2);
    step_loop(0);
    CHECK_INT(stats_of(&w).connections, 4);
    check_rejected(peers[7]);
    settle(&w);
    CHECK_INT(peers[6]->loop, 1); /* 4 and 5 were nobody's turn: now it was the second's */
    CHECK_INT(ask(&w, peers[6], "/")->status, 404);
    close_world(&w);
}

TEST(without_memory_for_the_inbox_the_first_loop_serves_it)
{
    open_loops(2);
    dial_some(1);
    step_loop(0); /* it has a record's memory now */
    dial_some(3);
    w.m.fail_at = w.m.calls + 1;
    step_loop(0);
    CHECK_INT(w.m.failed, 1);
    w.m.fail_at = 0;
    settle(&w);
    CHECK_INT(peers[0]->loop + peers[1]->loop + peers[2]->loop, 0);
    CHECK_INT(peers[3]->loop, 1);
    CHECK_INT(stats_of(&w).connections, 4);
    close_world(&w);
}

/* Neither for the inbox nor for a record, as the first loop has no room for more. */
TEST(without_any_memory_one_is_turned_away)
{
    uint32_t before, closed = 0;
    int i;
    open_loops(2);
    while (stats_of(&w).connections < 512) dial_some(1), settle(&w);
    for (i = 0; i < 2; i++) /* to have what an answer needs */
        CHECK_INT(ask(&w, peers[i], "/")->status, 404);
    w.m.fail_at = w.m.calls + 1;
    w.m.fail_forever = 1;
    before = stats_of(&w).connections;
    dial_some(TAKEN);
    settle(&w);
    w.m.fail_at = 0;
    CHECK(w.m.failed);
    for (i = 512; i < dialed; i++) {
        if (!peers[i]->closed) continue;
        check_rejected(peers[i]);
        closed++;
    }
    CHECK(closed > 0);
    CHECK_INT(stats_of(&w).refused, closed);
    CHECK_INT(stats_of(&w).connections, before + TAKEN - closed);
    dial_some(2);
    CHECK_INT(ask(&w, peers[dialed - 1], "/")->status, 404);
    close_world(&w);
}

TEST(a_loop_whose_poller_takes_no_more_turns_away)
{
    open_loops(2);
    dial_some(4);
    step_loop(0);
    fault(&w, K_POLLER_SET, ENOSPC, 0, 2);
    step_loop(1);
    check_rejected(peers[1]);
    check_rejected(peers[3]);
    check_has(0, 0, 2, 4);
    CHECK_INT(stats_of(&w).connections, 2);
    dial_some(2);
    settle(&w);
    check_has(1, 5, 2, 6);
    close_world(&w);
}

/* ---- what waits for a loop ---- */

/* Of any number that is left for it, and however often it looks. */
TEST(handed_over_is_first_come_first_served)
{
    int round, rounds = unit_rounds(400), taken = 1, i;
    open_loops(2);
    for (round = 0; round < rounds && dialed < 1900; round++) {
        if (unit_one_in(2)) dial_some((int)unit_below(20));
        if (unit_one_in(2)) step_loop(0);
        if (!unit_one_in(8)) continue;
        step_loop(1);
        for (; taken < dialed && peers[taken]->sets; taken += 2) CHECK_INT(peers[taken]->loop, 1);
        for (i = taken; i < dialed; i += 2) CHECK(!peers[i]->sets); /* none before another */
    }
    settle(&w);
    for (i = 0; i < dialed; i++) CHECK_INT(peers[i]->loop, i % 2);
    CHECK_INT(stats_of(&w).connections, dialed);
    close_world(&w);
}

static void finish_all(void)
{
    while (dialed) finish(peers[--dialed]);
    settle(&w);
    CHECK_INT(stats_of(&w).connections, 0);
}

TEST(an_inbox_gives_back_what_a_storm_needed)
{
    enum { STORM = 2000 };
    size_t bytes[3];
    int round;
    open_loops(2);
    for (round = 0; round < 3; round++) {
        size_t before = w.m.bytes;
        dial_some(STORM);
        while (stats_of(&w).connections < STORM) step_loop(0);
        CHECK(w.m.bytes > before + STORM / 2 * (sizeof(int) + sizeof(lp_address)));
        settle(&w);
        finish_all();
        bytes[round] = w.m.bytes;
    }
    CHECK_INT(bytes[1], bytes[0]);
    CHECK_INT(bytes[2], bytes[0]);
    close_world(&w);
}

/* Its loop takes some in each step, and never all. */
TEST(an_inbox_that_never_empties_does_not_grow)
{
    size_t most = 0;
    int round, rounds = unit_rounds(200), i, left = 0;
    w.cfg.history_age_ms = LP_UNLIMITED;
    open_loops(2);
    for (round = 0; round < rounds; round++) {
        dial_some(TAKEN * (round ? 2 : 4));
        for (i = 0; i < (round ? 2 : 4); i++) step_loop(0);
        step_loop(1); /* takes as many as came, and half as many wait */
        if (round < 20 && w.m.bytes > most) most = w.m.bytes;
        CHECK(round < 20 || w.m.bytes <= most);
        for (i = left = 0; i < dialed; i++) {
            if (peers[i]->sets) finish(peers[i]);
            else peers[left++] = peers[i];
        }
        CHECK_INT(left, TAKEN);
        dialed = left;
        settle_loop(&w, 0);
    }
    settle(&w);
    CHECK_INT(stats_of(&w).connections, TAKEN);
    close_world(&w);
}

TEST(who_is_still_in_an_inbox_is_closed_with_its_loop)
{
    open_loops(3);
    dial_some(9);
    step_loop(0);
    CHECK_INT(stats_of(&w).connections, 9);
    CHECK_INT(peers[1]->sets + peers[2]->sets, 0);
    close_world(&w); /* the kernel has no descriptor left, and each was shut down */
}

/* ---- the end ---- */

/* Connections that are parked on each loop, `each` of them, from peers[0] on. A drain answers
   who has its first record at once, so that one is of another, who has gone. */
static void park_on_all(int each)
{
    int loops = (int)w.cfg.loops, i;
    peer *gone[3];
    for (i = 0; i < loops; i++) gone[i] = dial(&w);
    dial_some(each * loops);
    settle(&w);
    for (i = 0; i < loops; i++) finish(gone[i]);
    for (i = 0; i < dialed; i++) park(&w, peers[i], i % 2 ? "/api/poll/a,b" : "/api/poll/a");
    lp_stop(w.s);
    settle(&w);
    for (i = 0; i < dialed; i++) CHECK_SILENT(peers[i]);
}

TEST(a_loop_that_drains_takes_in_who_was_handed_over)
{
    int i;
    open_loops(2);
    dial_some(4 * TAKEN);
    lp_stop(w.s);
    step_loop(1); /* the door is open: 64 of those who are there, and there are none yet */
    check_has(1, 1, 2, 0);
    step_loop(0); /* all who wait outside, and then it shuts the door */
    CHECK_INT(stats_of(&w).connections, 4 * TAKEN);
    for (i = 0; i < 4 * TAKEN; i++) get(peers[i], "/api/poll/a?timeout=60");
    step_loop(1); /* takes in all, since this is the last time */
    check_has(1, 1, 2, 4 * TAKEN);
    while (turn(&w, 1000) == LP_OK) {}
    for (i = 0; i < 4 * TAKEN; i++) CHECK_INT(take(peers[i])->status, 200);
    close_world(&w);
}

static void stop_and_shut_the_door(world *v)
{
    lp_stop(v->s);
    turn_loop(v, 0, 0);
    CHECK_INT(v->k.signals[1], 1);
    CHECK_INT(v->k.signals[2], 1);
}

TEST(loops_that_sleep_are_woken_to_drain)
{
    open_loops(3);
    settle(&w);
    while_asleep(&w, 6, stop_and_shut_the_door);
    while (turn(&w, 0) == LP_OK) {}
    CHECK_STR(lp_s(w.log), "stopped");
    close_world(&w);
}

static void turn_loop_1_and_come(world *v)
{
    int i;
    for (i = 0; i < 4; i++) lpi_loop_step(&v->s->loops[1], 0);
    dial_some(4);
    get(peers[1], "/api/poll/a");
    get(peers[3], "/api/poll/a");
}

/* The others go on until all who wait outside are handed over. */
TEST(a_loop_does_not_end_before_the_door_is_shut)
{
    open_loops(2);
    lp_stop(w.s);
    during(&w, K_ACCEPT, turn_loop_1_and_come); /* as the first looks out a last time */
    step_loop(0);
    while (turn(&w, 1000) == LP_OK) {}
    CHECK_INT(take(peers[1])->status, 200);
    CHECK_INT(take(peers[3])->status, 200);
    close_world(&w);
}

static void end_loop_1(world *v)
{
    int steps = 0;
    while (turn_loop(v, 1, 0) == LP_OK) CHECK(++steps < 20);
}

/* The channel of the last poll is idle once its loop has closed it, and the first loop, which
   sweeps, may sleep for long. */
TEST(a_loop_that_ends_wakes_the_first_if_there_is_work)
{
    int work;
    for (work = 0; work < 2; work++) {
        memset(&w, 0, sizeof w);
        dialed = 0;
        w.cfg.history_age_ms = work ? 500 : LP_UNLIMITED;
        w.cfg.drain_ms = w.cfg.timeout_ms = 60000;
        open_loops(2);
        park_on_all(1); /* the second alone waits on b */
        pass(&w, 2000); /* and no sweep is due */
        finish(peers[1]);
        memset(w.k.signals, 0, sizeof w.k.signals);
        CHECK_SILENT(peers[0]);
        while_asleep(&w, 1, end_loop_1);
        CHECK_INT(w.k.signals[0], work);
        CHECK_INT(w.k.signals[1], 0);
        CHECK_INT(stats_of(&w).waiters, 1);
        CHECK_INT(stats_of(&w).connections, 1);
        CHECK_INT(lp_publish(w.s, lp_s("c"), lp_s("{}"), NULL), LP_OK);
        CHECK_INT(turn_loop(&w, 1, 0), LP_ERR_STOPPED);
        while (turn_loop(&w, 0, 1000) == LP_OK) {}
        CHECK_INT(take(peers[0])->status, 200);
        CHECK_INT(stats_of(&w).channels, work ? 0 : 3);
        CHECK_INT(lp_publish(w.s, lp_s("c"), lp_s("{}"), NULL), LP_ERR_STOPPED);
        close_world(&w);
    }
}

static void answer_the_last_and_end(world *v)
{
    v->k.now_us += 2000000; /* to its place in the drain */
    CHECK_INT(turn_loop(v, 1, 0), LP_ERR_STOPPED);
}

/* The last poll of a loop may be answered in the loop's last step: it sleeps no more, and has
   to tell the first as it ends. */
TEST(a_loop_that_ends_with_an_answer_wakes_the_first)
{
    w.cfg.history_age_ms = 500;
    w.cfg.linger_ms = LP_OFF;
    w.cfg.drain_ms = w.cfg.timeout_ms = 60000;
    open_loops(2);
    park_on_all(3);
    finish(peers[0]), finish(peers[2]); /* peers[4] waits for 51 s, */
    finish(peers[3]), finish(peers[5]); /* and peers[1] for 37 s */
    pass(&w, 36000);
    CHECK_SILENT(peers[1]);
    memset(w.k.signals, 0, sizeof w.k.signals);
    while_asleep(&w, 1, answer_the_last_and_end);
    CHECK_INT(take(peers[1])->status, 200);
    CHECK_INT(w.k.signals[0], 1);
    pass(&w, 2000);
    CHECK_INT(stats_of(&w).channels, 1); /* b was forgotten in its time */
    CHECK_SILENT(peers[4]);
    close_world(&w);
}

/* Only the last makes publishing end, in whatever order they end: each has a client that
   leaves when it is to. */
TEST(the_last_loop_stops_the_server)
{
    static const uint32_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                          {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    int o, i;
    for (o = 0; o < 6; o++) {
        memset(&w, 0, sizeof w);
        dialed = 0;
        w.cfg.drain_ms = w.cfg.timeout_ms = 60000;
        open_loops(3);
        park_on_all(1);
        for (i = 0; i < 3; i++) {
            publish(&w, "c", "{}");
            CHECK_INT(turn(&w, 0), LP_OK);
            finish(peers[orders[o][i]]);
            while (turn_loop(&w, orders[o][i], 0) == LP_OK) CHECK(peers[orders[o][i]]->closed);
        }
        CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s("{}"), NULL), LP_ERR_STOPPED);
        CHECK_INT(turn(&w, 0), LP_ERR_STOPPED);
        CHECK_STR(lp_s(w.log), "stopped");
        close_world(&w);
    }
}

static void publish_on_a(world *v)
{
    CHECK_INT(publish(v, "a", "{\"n\":1}").waiters, 4);
    publish(v, "a", "{\"n\":2}");
    CHECK_INT(v->k.signals[0], 0);
    CHECK_INT(v->k.signals[1], 1);
    CHECK_INT(v->k.signals[2], 1);
}

/* A message that comes while one loop has ended still reaches the others, each of which is
   signalled once. */
TEST(the_others_are_still_woken_once)
{
    int i;
    w.cfg.drain_ms = w.cfg.timeout_ms = 60000;
    w.cfg.history_age_ms = LP_UNLIMITED;
    open_loops(3);
    park_on_all(2);
    finish(peers[0]);
    finish(peers[3]);
    while (turn_loop(&w, 0, 0) == LP_OK) {}
    settle_loop(&w, 1), settle_loop(&w, 2);
    memset(w.k.signals, 0, sizeof w.k.signals);
    while_asleep(&w, 6, publish_on_a);
    settle_loop(&w, 1), settle_loop(&w, 2);
    for (i = 0; i < 6; i++)
        if (i % 3) CHECK_STR(lp_s(ns_of(take(peers[i]))), "1,2");
    close_world(&w);
}

/* A connection that comes while its loop sleeps wakes it, and is served by it alone. */
static void accept_two(world *v)
{
    dial_some(2);
    get(peers[dialed - 1], "/");
    turn_loop(v, 0, 0);
    CHECK_INT(v->k.signals[1], 1);
}

TEST(a_loop_that_sleeps_is_woken_for_a_connection)
{
    open_loops(2);
    settle(&w);
    while_asleep(&w, 2, accept_two);
    CHECK_INT(peers[1]->loop, 1);
    settle_loop(&w, 1);
    CHECK_INT(take(peers[1])->status, 404);
    close_world(&w);
}
