/* Several loops: the first accepts and hands over in turns; what is handed over is
   counted, kept in order and never lost; and how loops end. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "fake.h"

/* ---- sockets that say only what became of them ---- */

enum { FIRST_FD = 1000, FDS = 1000 };

static uint8_t sent[FDS], closed[FDS]; /* how often */
static char said[600];
static int poller_refuses;

static long loops_send(void *ctx, int fd, const lp_slice *parts, int count)
{
    size_t all = 0;
    int i;
    (void)ctx;
    said[0] = 0;
    for (i = 0; i < count; i++) {
        CHECK(all + parts[i].length < sizeof said);
        memcpy(said + all, parts[i].bytes, parts[i].length);
        all += parts[i].length;
        said[all] = 0;
    }
    sent[fd - FIRST_FD]++;
    return (long)all;
}

static long loops_recv(void *ctx, int fd, void *bytes, size_t size)
{
    (void)ctx, (void)fd, (void)bytes, (void)size;
    return -EAGAIN;
}

static int loops_shutdown(void *ctx, int fd, uint32_t how)
{
    (void)ctx, (void)fd, (void)how;
    return 0;
}

static void loops_close(void *ctx, int fd)
{
    (void)ctx;
    if (fd >= FIRST_FD) closed[fd - FIRST_FD]++;
}

static int loops_poller_set(void *ctx, lp_poller *poller, int fd, uint32_t tag,
                            uint32_t was, uint32_t want)
{
    (void)ctx, (void)poller, (void)fd, (void)tag, (void)was;
    return want && poller_refuses ? -ENOSPC : 0;
}

static void loops_start(uint32_t count)
{
    fake_start(count);
    fake.server.os.send = loops_send;
    fake.server.os.recv = loops_recv;
    fake.server.os.shutdown = loops_shutdown;
    fake.server.os.close = loops_close;
    fake.server.os.poller_set = loops_poller_set;
    fake.server.serving = count;
}

/* Connections number `from` to `to`, which is not among them; each has an address of
   its own. */
static void hand_over(int from, int to)
{
    for (; from < to; from++) {
        lp_address peer;
        memset(&peer, 0, sizeof peer);
        peer.bytes[14] = (uint8_t)(from >> 8);
        peer.bytes[15] = (uint8_t)from;
        lpi_accept_hand_over(&fake.loops[0], FIRST_FD + from, &peer);
    }
}

static void wake(uint32_t loop)
{
    lp_event event;
    fake.server.os.wake_clear = loops_close; /* of a wake: nothing to do */
    event.tag = LPI_TAG_WAKE;
    event.what = LP_READ;
    lpi_loop_event(&fake.loops[loop], &event);
}

/* The loop's connections are those from `from` on, in steps, in that order. */
static void check_has(uint32_t loop, int from, int step, uint32_t count)
{
    uint32_t index = 0, n = 0;
    lpi_connection *c;
    for (; (c = lpi_loop_each(&fake.loops[loop], &index)); index++, n++) {
        int number = c->fd - FIRST_FD;
        CHECK_INT(number, from + (int)n * step);
        CHECK_INT(c->address[14] * 256 + c->address[15], number);
        CHECK_INT(c->phase, LPI_ACCEPTED);
        CHECK(lpi_timer_armed(&fake.loops[loop].wheel, index));
    }
    CHECK_INT(n, count);
    CHECK_INT(fake.loops[loop].phases[LPI_ACCEPTED], count);
}

static void check_untouched(int from, int to)
{
    for (; from < to; from++) CHECK(!sent[from] && !closed[from]);
}

static void check_turned_away(int fd)
{
    CHECK_INT(sent[fd], 1);
    CHECK_INT(closed[fd], 1);
    CHECK(!strncmp(said, "HTTP/1.1 503 ", 13));
    CHECK(strstr(said, "Retry-After: 5\r\n") && strstr(said, "Connection: close\r\n"));
}

/* ---- handing over ---- */

TEST(loops_take_turns)
{
    loops_start(3);
    hand_over(0, 30);
    CHECK_INT(fake.hub->connections, 30); /* from when they are accepted */
    check_has(0, 0, 3, 10);
    check_has(1, 1, 3, 0);
    CHECK_INT(fake.signals[0], 0);
    CHECK_INT(fake.signals[1], 1); /* for the first of them */
    CHECK_INT(fake.signals[2], 1);
    wake(1);
    check_has(1, 1, 3, 10);
    hand_over(30, 36);
    CHECK_INT(fake.signals[1], 2); /* it had taken all */
    CHECK_INT(fake.signals[2], 1); /* it had not */
    wake(1), wake(2);
    check_has(0, 0, 3, 12);
    check_has(1, 1, 3, 12);
    check_has(2, 2, 3, 12);
    check_untouched(0, 36);
    CHECK_INT(fake.hub->connections, 36);
    fake_end();
    CHECK_INT(fake.hub->connections, 0);
}

TEST(one_loop_keeps_all)
{
    loops_start(1);
    hand_over(0, 10);
    check_has(0, 0, 1, 10);
    CHECK_INT(fake.signals[0], 0);
    fake_end();
}

/* In the next step the rest, since a storm is not to hold up those who are here. */
TEST(a_bounded_number_is_taken_in_per_step)
{
    loops_start(2);
    hand_over(0, 2 * 150);
    CHECK_INT(fake.signals[1], 1);
    wake(1);
    check_has(1, 1, 2, 64);
    CHECK_INT(fake.signals[1], 2); /* by itself */
    hand_over(300, 304);
    CHECK_INT(fake.signals[1], 2); /* that one is on its way */
    wake(1);
    check_has(1, 1, 2, 128);
    CHECK_INT(fake.signals[1], 3);
    wake(1);
    check_has(1, 1, 2, 152);
    CHECK_INT(fake.signals[1], 3);
    check_untouched(0, 304);
    fake_end();
}

TEST(what_is_handed_over_counts_against_the_limit)
{
    loops_start(3);
    fake.config->connections_max = 4;
    hand_over(0, 6);
    CHECK_INT(fake.hub->connections, 4);
    check_untouched(0, 4);
    check_turned_away(4);
    check_turned_away(5);
    CHECK_INT(fake.hub->stats.refused, 2);
    wake(1), wake(2);
    CHECK_INT(fake.hub->connections, 4);
    fake_hang_up(1, 0);
    CHECK_INT(fake.hub->connections, 3);
    hand_over(6, 8);
    CHECK_INT(fake.hub->connections, 4);
    check_untouched(6, 7);
    check_turned_away(7);
    wake(1); /* 4 and 5 were nobody's turn: now it was the second loop's */
    check_has(1, 6, 0, 1);
    fake_end();
    CHECK_INT(fake.hub->connections, 0);
}

TEST(without_memory_for_the_inbox_the_first_loop_serves_it)
{
    loops_start(2);
    hand_over(0, 1); /* it has a record's memory now */
    fake.memory.calls = 0;
    fake.memory.fail_at = 1;
    hand_over(1, 4);
    CHECK_INT(fake.memory.failed, 1);
    CHECK_INT(fake.loops[0].phases[LPI_ACCEPTED], 3); /* 0, 1 and 2 */
    CHECK_INT(fake.signals[1], 1);                 /* for 3 */
    wake(1);
    check_has(1, 3, 1, 1);
    check_untouched(0, 4);
    CHECK_INT(fake.hub->connections, 4);
    fake_end();
    CHECK_INT(fake.hub->connections, 0);
}

TEST(without_any_memory_one_is_turned_away)
{
    loops_start(2);
    hand_over(0, 2);
    wake(1);
    while (fake.loops[0].connections.roomy != LPI_NONE)
        fake_connect(0); /* until there is no record left */
    fake_hang_up(1, 0);
    lpi_free(&fake.server.memory, fake.loops[1].inbox.handovers,
             fake.loops[1].inbox.handovers_capacity);
    fake.loops[1].inbox.handovers = NULL;
    fake.loops[1].inbox.handovers_capacity = 0;
    {
        uint32_t before = fake.hub->connections;
        lpi_date(&fake.loops[0]);
        lpi_reserve(&fake.server.memory, &fake.loops[0].head.bytes,
                    &fake.loops[0].head.capacity, 1000); /* to say so */
        lpi_body_error(&fake.loops[0], "Server at capacity");
        fake.memory.calls = 0;
        fake.memory.fail_at = 1;
        fake.memory.fail_forever = 1;
        fake.server.next_loop = 1;
        hand_over(2, 4);
        fake.memory.fail_at = 0;
        check_turned_away(2);
        check_turned_away(3);
        CHECK_INT(fake.hub->connections, before);
        CHECK_INT(fake.hub->stats.refused, 2);
    }
    fake_end();
}

TEST(a_loop_whose_poller_takes_no_more_turns_away)
{
    loops_start(2);
    hand_over(0, 4);
    poller_refuses = 1;
    wake(1);
    check_turned_away(1);
    check_turned_away(3);
    check_untouched(0, 1);
    CHECK_INT(fake.hub->connections, 2);
    CHECK_INT(fake.loops[1].connections.used, 0);
    poller_refuses = 0;
    hand_over(4, 6);
    wake(1);
    check_has(1, 5, 1, 1);
    fake_end();
}

/* ---- the inbox ---- */

TEST(an_inbox_is_first_come_first_served)
{
    lpi_inbox *inbox;
    lpi_handover a, b;
    int in = 0, out = 0, round;
    memset(&a, 0, sizeof a);
    loops_start(2);
    inbox = &fake.loops[1].inbox;
    for (round = 0; round < unit_rounds(10000); round++) {
        if (unit_one_in(2)) {
            a.fd = in;
            a.peer.port = (uint16_t)in;
            CHECK_INT(lpi_inbox_hand_over(inbox, &fake.server.memory, &a), in == out);
            in++;
        } else {
            int some = lpi_inbox_handed_over(inbox, &fake.server.memory, &b);
            CHECK_INT(some, in > out);
            if (!some) continue;
            CHECK_INT(b.fd, out);
            CHECK_INT(b.peer.port, (uint16_t)out);
            out++;
        }
    }
    while (lpi_inbox_handed_over(inbox, &fake.server.memory, &b)) CHECK_INT(b.fd, out++);
    CHECK_INT(in, out);
    fake_end();
}

TEST(an_inbox_gives_back_what_a_storm_needed)
{
    lpi_inbox *inbox;
    lpi_handover a;
    size_t before;
    int i;
    memset(&a, 0, sizeof a);
    loops_start(2);
    inbox = &fake.loops[1].inbox;
    before = fake.memory.bytes;
    for (i = 0; i < 5000; i++) CHECK(lpi_inbox_hand_over(inbox, &fake.server.memory, &a) >= 0);
    CHECK(fake.memory.bytes > before + 5000 * sizeof a);
    while (lpi_inbox_handed_over(inbox, &fake.server.memory, &a)) {}
    CHECK_INT(fake.memory.bytes, before);
    CHECK_INT(lpi_inbox_hand_over(inbox, &fake.server.memory, &a), 1);
    while (lpi_inbox_handed_over(inbox, &fake.server.memory, &a)) {}
    CHECK(fake.memory.bytes <= before + LPI_INBOX_BYTES);
    before = fake.memory.bytes;
    fake.memory.calls = 0;
    for (i = 0; i < 1000; i++) { /* the usual one is kept */
        CHECK_INT(lpi_inbox_hand_over(inbox, &fake.server.memory, &a), 1);
        while (lpi_inbox_handed_over(inbox, &fake.server.memory, &a)) {}
    }
    CHECK_INT(fake.memory.bytes, before);
    CHECK_INT(fake.memory.calls, 0);
    fake_end();
}

/* Its loop takes some in each step, and never all. */
TEST(an_inbox_that_never_empties_does_not_grow)
{
    lpi_inbox *inbox;
    lpi_handover a, b;
    size_t before;
    int i, out = 0;
    memset(&a, 0, sizeof a);
    loops_start(2);
    inbox = &fake.loops[1].inbox;
    before = fake.memory.bytes;
    for (i = 0; i < unit_rounds(100000); i++) {
        a.fd = i;
        CHECK_INT(lpi_inbox_hand_over(inbox, &fake.server.memory, &a), i == 0);
        if (i < 50) continue;
        CHECK(lpi_inbox_handed_over(inbox, &fake.server.memory, &b));
        CHECK_INT(b.fd, out++);
    }
    CHECK(fake.memory.bytes <= before + 200 * sizeof a);
    while (lpi_inbox_handed_over(inbox, &fake.server.memory, &b)) CHECK_INT(b.fd, out++);
    fake_end();
}

TEST(who_is_still_in_an_inbox_is_closed_with_its_loop)
{
    int i;
    loops_start(3);
    hand_over(0, 9);
    fake_end();
    for (i = 0; i < 9; i++) CHECK_INT(closed[i], 1);
}

/* ---- the end ---- */

TEST(a_loop_that_drains_takes_in_who_was_handed_over)
{
    loops_start(2);
    hand_over(0, 2 * 150);
    lpi_loop_drain(&fake.loops[1], 1);
    CHECK_INT(fake.loops[1].drain_ms, 0); /* the door is open */
    fake.server.draining = 1;
    lpi_loop_drain(&fake.loops[1], 1);
    CHECK(fake.loops[1].drain_ms > 0);
    check_has(1, 1, 2, 150); /* all, since this is the last time */
    check_untouched(0, 300);
    fake_end();
}

/* The channel of the last poll is idle once its loop has closed it, and the first loop,
   which sweeps, may sleep for ever. */
TEST(a_loop_that_ends_wakes_the_first_if_there_is_work)
{
    loops_start(2);
    fake.config->history_age_ms = 1000;
    fake_park(1, "a", "");
    fake_tick(1000);
    fake_sweep(); /* it was idle before the poll: no more */
    fake_sleep(0);
    CHECK(fake.loops[0].sweep_ms == UINT64_MAX);
    fake_sleep(1);
    CHECK_INT(fake.signals[0], 0);
    lpi_loop_end(&fake.loops[1]);
    CHECK(fake.loops[1].ended);
    CHECK(!fake.hub->stopped);
    CHECK_INT(fake.server.serving, 1);
    CHECK_INT(fake.hub->stats.waiters, 0);
    CHECK_INT(fake.hub->connections, 0);
    CHECK_INT(fake.signals[0], 1);
    CHECK_INT(fake.signals[1], 0);
    lpi_loop_wake(&fake.loops[0]);
    fake_sleep(0);
    CHECK_INT(fake.loops[0].sweep_ms, fake_now() + 1000); /* it knows */
    CHECK_INT(fake.signals[0], 1);
    lpi_loop_wake(&fake.loops[0]);
    lpi_loop_end(&fake.loops[0]);
    CHECK(fake.hub->stopped);
    CHECK_INT(fake.signals[0], 1);
    fake_end();
}

TEST(a_loop_that_ends_with_nothing_wakes_nobody)
{
    loops_start(3);
    fake_park(0, "a", "");
    hand_over(0, 9);
    wake(1), wake(2);
    fake.signals[0] = fake.signals[1] = fake.signals[2] = 0;
    fake_sleep(0), fake_sleep(1);
    lpi_loop_end(&fake.loops[2]);
    CHECK_INT(fake.signals[0] + fake.signals[1] + fake.signals[2], 0);
    CHECK_INT(fake.hub->connections, 1 + 6);
    CHECK(!fake.hub->stopped);
    CHECK_INT(fake.server.serving, 2);
    fake_end();
}

/* Only the last makes publishing end, in whatever order they end. */
TEST(the_last_loop_stops_the_server)
{
    static const uint32_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                          {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    lp_published p;
    int o, i;
    for (o = 0; o < 6; o++) {
        loops_start(3);
        for (i = 0; i < 3; i++) {
            fake_publish("a");
            lpi_loop_end(&fake.loops[orders[o][i]]);
            CHECK_INT(fake.hub->stopped, i == 2);
        }
        CHECK_INT(fake_try_publish("a", "{}", &p), LP_ERR_STOPPED);
        fake_end();
    }
}

/* A message that comes while one loop has ended still reaches the others, each of which
   is signalled once in a turn. */
TEST(the_others_are_still_woken_once_a_turn)
{
    uint32_t i;
    loops_start(3);
    fake.config->history_age_ms = LP_UNLIMITED;
    for (i = 0; i < 3; i++) fake_park(i, "a", ""), fake_park(i, "a", "");
    fake_sleep(1), fake_sleep(2);
    lpi_loop_end(&fake.loops[0]);
    CHECK_INT(fake_publish("a").waiters, 4);
    fake_publish("a");
    CHECK_INT(fake.signals[0], 0);
    CHECK_INT(fake.signals[1], 1);
    CHECK_INT(fake.signals[2], 1);
    lpi_loop_wake(&fake.loops[1]);
    CHECK_INT(fake_deliver(1), 2);
    fake_flush(1);
    fake_park(1, "a", "now");
    fake_sleep(1);
    fake_publish("a");
    CHECK_INT(fake.signals[1], 2); /* its next turn */
    CHECK_INT(fake.signals[2], 1); /* still in the one before */
    lpi_loop_wake(&fake.loops[1]), lpi_loop_wake(&fake.loops[2]);
    CHECK_INT(fake_deliver(1) + fake_deliver(2), 3);
    check_hub();
    fake_end();
}
