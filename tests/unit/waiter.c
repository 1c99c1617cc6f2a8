/* >>waiter: polls are parked and let go, and what they are told when they are. The end of
   the file holds the whole of >>message to >>waiter against models. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "fake.h"

/* Answered at once: its plan. */
static const lpi_plan *answer(const char *channels, const char *last_id) {
    uint32_t c = fake_connect(0);
    lpi_asked ask = fake_ask(channels, last_id);
    CHECK_INT(fake_poll(0, c, &ask), 0);
    CHECK_INT(fake_phase(0, c), LPI_SERVING);
    return fake_plan(0, fake.loops[0].batch.entry_count - 1);
}

static const char *cursor(const char *name, uint64_t seq) {
    static char text[4][40];
    static int at;
    at = (at + 1) % 4;
    text[at][lpi_put_id(text[at], fake_channel(name)->epoch, seq)] = 0;
    return text[at];
}

static lpi_connection *connection(uint32_t loop, uint32_t index) {
    return lpi_connection_at(&fake.loops[loop], index);
}

/* ---- refusals: in this order, and exactly at the edge ---- */

static void check_refused(const lpi_asked *ask, const char *why) {
    uint32_t c = fake_connect(0);
    uint64_t refused = fake.hub->stats.refused;
    uint32_t waiters = fake.hub->stats.waiters;
    CHECK_INT(fake_poll(0, c, ask), 429);
    CHECK_STR(lp_s(fake.why), why);
    CHECK_INT(fake.hub->stats.refused, refused + 1);
    CHECK_INT(fake.hub->stats.waiters, waiters);
    CHECK_INT(fake_phase(0, c), LPI_SERVING);
    check_hub();
    fake_hang_up(0, c);
}

static uint32_t check_parked(const lpi_asked *ask) {
    uint32_t c = fake_connect(0);
    CHECK_INT(fake_poll(0, c, ask), 0);
    CHECK_INT(fake_phase(0, c), LPI_PARKED);
    check_hub();
    return c;
}

TEST(waiter_refused_at_each_edge) {
    lpi_asked ask;
    uint32_t first, i;
    for (i = 0; i < 4; i++) {
        static const char *const why[] = {"Server at capacity",
                                          "Too many connections from client",
                                          "Channel at capacity",
                                          "Too many connections from address"};
        fake_start(1);
        if (i == 0) fake.config->waiters_max = 3;
        if (i == 1) fake.config->waiters_per_client = 3;
        if (i == 2) fake.config->waiters_per_channel = 3;
        if (i == 3) fake.config->waiters_per_address = 3;
        ask = fake_ask("a", "");
        first = check_parked(&ask);
        check_parked(&ask);
        check_parked(&ask);
        check_refused(&ask, why[i]);
        fake_hang_up(0, first);
        check_parked(&ask);
        check_refused(&ask, why[i]);
        fake_end();
    }
}

TEST(waiter_refusals_have_an_order) {
    lpi_asked ask;
    fake_start(1);
    ask = fake_ask("a", "");
    check_parked(&ask);
    fake.config->waiters_max = 1;
    fake.config->waiters_per_client = 1;
    fake.config->waiters_per_channel = 1;
    fake.config->waiters_per_address = 1;
    check_refused(&ask, "Server at capacity");
    fake.config->waiters_max = 2;
    check_refused(&ask, "Too many connections from client");
    fake.config->waiters_per_client = 2;
    check_refused(&ask, "Channel at capacity");
    fake.config->waiters_per_channel = 2;
    check_refused(&ask, "Too many connections from address");
    fake.config->waiters_per_address = 2;
    check_parked(&ask);
    fake_end();
}

TEST(waiter_limits_are_apart) {
    lpi_asked one = fake_ask("a", ""), two = fake_ask("b", ""), both;
    fake_start(1);
    fake.config->waiters_per_client = 1;
    fake.config->waiters_per_channel = 1;
    one.client_key = 1;
    two.client_key = 2;
    check_parked(&one);
    check_parked(&two);
    both = fake_ask("c,b", ""); /* any of its channels */
    check_refused(&both, "Channel at capacity");
    both = fake_ask("c,d", "");
    check_parked(&both);
    CHECK_INT(fake_channel("c")->waiters, 1);
    CHECK_INT(fake_channel("d")->waiters, 1);
    CHECK_INT(fake.hub->stats.waiters, 3);
    check_hub();
    fake_end();
}

/* What is answered at once counts nowhere. */
TEST(waiter_limits_do_not_touch_who_does_not_wait) {
    lpi_asked ask;
    uint32_t c;
    fake_start(1);
    fake_publish("a");
    fake.config->waiters_max = 1;
    fake_park(0, "b", "");
    CHECK_INT(answer("a", "")->count, 1);
    ask = fake_ask("a", "now");
    ask.wait_ms = 0;
    c = fake_connect(0);
    CHECK_INT(fake_poll(0, c, &ask), 0);
    CHECK_INT(fake_plan(0, 1)->count, 0);
    CHECK_INT(fake.hub->stats.refused, 0);
    check_hub();
    fake_end();
}

TEST(waiter_limits_may_be_unlimited) {
    lpi_asked ask;
    int i;
    fake_start(1);
    fake.config->waiters_max = fake.config->waiters_per_client = LP_UNLIMITED;
    fake.config->waiters_per_channel = fake.config->waiters_per_address = LP_UNLIMITED;
    ask = fake_ask("a", "");
    for (i = 0; i < 100; i++) check_parked(&ask);
    fake_end();
}

/* ---- parking and leaving ---- */

TEST(waiter_of_many_channels_has_a_seat_in_each) {
    static const char all[] = "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p";
    lpi_position at[LPI_POLL_CHANNELS];
    uint32_t c, i;
    char name[2] = "a";
    fake_start(2);
    fake_park(0, "c", "");
    c = fake_park(1, all, "");
    check_hub();
    CHECK_INT(fake.hub->seats.used, 17);
    CHECK_INT(fake.hub->stats.waiters, 2);
    CHECK_INT(lpi_waiter_positions(fake.hub, connection(1, c), at), 16);
    for (i = 0; i < 16; i++, name[0]++) {
        CHECK_INT(at[i].channel, fake_find(name)); /* in the order of the poll */
        CHECK_INT(at[i].seq, 0);
        CHECK_INT(at[i].reason, LPI_NO_RESET);
        CHECK_INT(fake_channel(name)->waiters, i == 2 ? 2 : 1);
    }
    fake_hang_up(1, c);
    CHECK_INT(fake.hub->seats.used, 1);
    CHECK_INT(fake.hub->views.used, 1);
    CHECK(!fake_channel("c")->idle);
    CHECK(fake_channel("d")->idle);
    check_hub();
    fake_end();
}

TEST(waiter_of_two_channels_is_answered_once) {
    const lpi_plan *plan;
    uint32_t c;
    fake_start(1);
    c = fake_park(0, "a,b", "");
    CHECK_INT(fake_publish("b").waiters, 1);
    fake_tick(1);
    fake_publish("a");
    CHECK_INT(fake_deliver(0), 1);
    check_hub();
    plan = fake_plan(0, 0);
    CHECK_INT(fake.loops[0].batch.entries[0].connection, c);
    CHECK_INT(plan->positions, 2);
    CHECK_INT(plan->count, 2);
    CHECK_INT(fake_message(0, plan, 0)->channel, fake_find("b")); /* it was first */
    CHECK_INT(fake_message(0, plan, 1)->channel, fake_find("a"));
    CHECK_INT(plan->at[0].seq, 1);
    CHECK_INT(plan->at[1].seq, 1);
    CHECK(plan->at[0].epoch == fake_channel("a")->epoch);
    CHECK(plan->at[1].epoch == fake_channel("b")->epoch);
    CHECK_INT(fake.hub->stats.delivered, 2);
    CHECK_INT(fake_deliver(0), 0);
    fake_flush(0);
    check_hub();
    fake_end();
}

TEST(waiter_leaves_in_any_order) {
    int round, rounds = unit_rounds(300);
    for (round = 0; round < rounds; round++) {
        static const char *const lists[] = {"a", "b", "a,b", "b,a", "c,a,b"};
        uint32_t c[12], loop[12], n = 12, i;
        fake_start(3);
        for (i = 0; i < n; i++)
            c[i] = fake_park(loop[i] = unit_below(3), lists[unit_below(5)], "");
        while (n) {
            i = unit_below(n--);
            fake_hang_up(loop[i], c[i]);
            c[i] = c[n];
            loop[i] = loop[n];
            check_hub();
        }
        CHECK_INT(fake.hub->views.used, 0);
        CHECK_INT(fake.hub->tallies.used, 0);
        fake_end();
    }
}

/* What a wait that ran out returns: the cursor that it was parked with. */
TEST(waiter_expires_with_its_own_cursor) {
    const lpi_plan *plan;
    uint32_t c;
    fake_start(1);
    fake_publish_many("a", 3);
    c = fake_park(0, "a,b", "now");
    lpi_release(&fake.loops[0], c);
    check_hub();
    plan = fake_plan(0, 0);
    CHECK_INT(plan->count, 0);
    CHECK_INT(plan->resets, 0);
    CHECK_INT(plan->at[0].seq, 3);
    CHECK_INT(plan->at[1].seq, 0);
    CHECK_INT(plan->timestamp_us, lpi_max64(fake_channel("a")->last_us,
                                            fake_channel("b")->start_us));
    CHECK_INT(fake_phase(0, c), LPI_SERVING);
    fake_flush(0);
    check_hub();
    fake_end();
}

/* Published, and not yet delivered when the wait runs out: it gets it now. */
TEST(waiter_expires_with_what_has_come) {
    uint32_t c, other;
    fake_start(1);
    c = fake_park(0, "a", "");
    other = fake_park(0, "a", "");
    fake_publish("a");
    lpi_release(&fake.loops[0], c);
    check_hub();
    CHECK_INT(fake_plan(0, 0)->count, 1);
    CHECK_INT(fake_plan(0, 0)->at[0].seq, 1);
    CHECK_INT(fake_deliver(0), 1);
    CHECK_INT(fake.loops[0].batch.entries[1].connection, other);
    fake_flush(0);
    check_hub();
    fake_end();
}

/* ---- compare and park: in the history, or woken; never neither ---- */

TEST(waiter_gets_what_came_before_its_poll) {
    const lpi_plan *plan;
    fake_start(1);
    fake_publish_many("a", 5);
    plan = answer("a", cursor("a", 3));
    CHECK_INT(plan->count, 2);
    CHECK_INT(fake_message(0, plan, 0)->seq, 4);
    CHECK_INT(fake_message(0, plan, 1)->seq, 5);
    CHECK_INT(plan->at[0].seq, 5);
    CHECK_INT(plan->timestamp_us, fake_channel("a")->last_us);
    check_hub();
    fake_end();
}

TEST(waiter_at_the_end_is_parked) {
    fake_start(1);
    fake_publish_many("a", 5);
    fake_park(0, "a", cursor("a", 5));
    fake_park(0, "a", "now");
    CHECK_INT(fake_publish("a").waiters, 2);
    CHECK_INT(fake_deliver(0), 2);
    CHECK_INT(fake.loops[0].batch.plan_count, 1); /* they stand at one place */
    CHECK_INT(fake_plan(0, 0)->count, 1);
    CHECK_INT(fake_message(0, fake_plan(0, 0), 0)->seq, 6);
    check_hub();
    fake_end();
}

/* ---- resets when the poll comes ---- */

static void check_reset(const char *last_id, lpi_reason reason, uint32_t count) {
    const lpi_plan *plan = answer("a", last_id);
    CHECK_INT(plan->at[0].reason, reason);
    CHECK_INT(plan->resets, reason != LPI_NO_RESET);
    CHECK_INT(plan->count, count);
    CHECK_INT(plan->at[0].seq, fake_channel("a")->last);
    check_hub();
    fake_flush(0);
}

TEST(waiter_reset_is_answered_at_once) {
    char other[40];
    fake_start(1);
    fake.config->history_count = 3;
    fake_publish_many("a", 5);
    other[lpi_put_id(other, fake_channel("a")->epoch + 1, 4)] = 0;
    check_reset(cursor("a", 1), LPI_EVICTED, 3);
    check_reset(cursor("a", 2), LPI_NO_RESET, 3);
    check_reset(cursor("a", 6), LPI_AHEAD, 3);
    check_reset(other, LPI_EPOCH, 3);
    check_reset("", LPI_NO_RESET, 3);
    check_reset("0", LPI_NO_RESET, 3);
    CHECK_INT(fake.hub->stats.resets, 3);
    while (fake.hub->oldest) lpi_hub_evict(fake.hub, fake.hub->oldest, fake_now());
    check_reset(cursor("a", 4), LPI_EVICTED, 0); /* and with nothing held too */
    check_reset(cursor("a", 6), LPI_AHEAD, 0);
    check_reset(other, LPI_EPOCH, 0);
    fake_park(0, "a", cursor("a", 5));
    fake_end();
}

TEST(waiter_reset_of_one_channel_of_several) {
    const lpi_plan *plan;
    char list[100];
    fake_start(1);
    fake_publish("a");
    fake_publish("b");
    sprintf(list, "%s,%s", cursor("a", 1), cursor("b", 2));
    plan = answer("a,b", list);
    CHECK_INT(plan->at[0].reason, LPI_NO_RESET);
    CHECK_INT(plan->at[1].reason, LPI_AHEAD);
    CHECK_INT(plan->count, 1);
    CHECK_INT(fake_message(0, plan, 0)->channel, fake_find("b"));
    CHECK_BYTES(fake.loops[0].batch.names.bytes + plan->at[1].name_at,
                plan->at[1].name_length, "b", 1);
    fake_end();
}

/* ---- the basic dialect: a reset with nothing held waits ---- */

TEST(waiter_basic_reset_rides_on_the_reply) {
    lpi_asked ask;
    uint32_t c, i;
    for (i = 0; i < 2; i++) {
        fake_start(1);
        fake_make("a");
        ask = fake_ask_since("a", fake.wall_us + 99);
        c = fake_connect(0);
        CHECK_INT(fake_poll(0, c, &ask), 0);
        CHECK_INT(fake_phase(0, c), LPI_PARKED);
        CHECK_INT(connection(0, c)->reset, LPI_AHEAD);
        check_hub();
        if (i) {
            CHECK_INT(fake_publish("a").waiters, 1);
            CHECK_INT(fake_deliver(0), 1);
        } else {
            lpi_release(&fake.loops[0], c);
        }
        CHECK_INT(fake_plan(0, 0)->at[0].reason, LPI_AHEAD);
        CHECK_INT(fake_plan(0, 0)->count, i);
        CHECK_INT(fake_plan(0, 0)->basic, 1);
        check_hub();
        fake_end();
    }
}

TEST(waiter_basic_reset_with_something_held_is_answered) {
    lpi_asked ask;
    uint32_t c;
    fake_start(1);
    fake_publish_many("a", 2);
    ask = fake_ask_since("a", 1);
    c = fake_connect(0);
    CHECK_INT(fake_poll(0, c, &ask), 0);
    CHECK_INT(fake_plan(0, 0)->reason, LPI_EPOCH);
    CHECK_INT(fake_plan(0, 0)->count, 1); /* one at a time */
    CHECK_INT(fake_plan(0, 0)->more, 1);
    CHECK_INT(fake_plan(0, 0)->at[0].seq, 1);
    fake_flush(0);
    ask = fake_ask_since("a", fake_channel("a")->last_us - 1);
    c = fake_connect(0);
    CHECK_INT(fake_poll(0, c, &ask), 0);
    CHECK_INT(fake_plan(0, 0)->reason, LPI_NO_RESET);
    CHECK_INT(fake_plan(0, 0)->at[0].seq, 2);
    fake_flush(0);
    ask = fake_ask_since("a", fake_channel("a")->last_us);
    c = fake_connect(0);
    CHECK_INT(fake_poll(0, c, &ask), 0);
    CHECK_INT(fake_phase(0, c), LPI_PARKED);
    CHECK_INT(connection(0, c)->reset, LPI_NO_RESET);
    fake_end();
}

/* ---- judged again when it is answered ---- */

TEST(waiter_whose_next_messages_are_gone_is_told) {
    const lpi_plan *plan;
    fake_start(1);
    fake.config->history_count = 3;
    fake_publish_many("a", 2);
    fake_park(0, "a", "now"); /* at 2 */
    fake_publish_many("a", 3); /* 3, 4, 5: 3 is still held */
    CHECK_INT(fake_deliver(0), 1);
    plan = fake_plan(0, 0);
    CHECK_INT(plan->at[0].reason, LPI_NO_RESET);
    CHECK_INT(plan->count, 3);
    fake_flush(0);
    fake_park(0, "a", "now"); /* at 5 */
    fake_publish_many("a", 4); /* 6 to 9: 6 is gone */
    check_hub();
    CHECK_INT(fake_deliver(0), 1);
    plan = fake_plan(0, 0);
    CHECK_INT(plan->at[0].reason, LPI_EVICTED);
    CHECK_INT(plan->from, 6); /* the floor */
    CHECK_INT(plan->count, 3);
    CHECK_INT(fake_message(0, plan, 0)->seq, 7);
    CHECK_INT(plan->at[0].seq, 9);
    CHECK_INT(fake.hub->stats.resets, 1);
    check_hub();
    fake_end();
}

TEST(waiter_whose_messages_are_all_gone_is_told) {
    const lpi_plan *plan;
    fake_start(1);
    fake.config->history_age_ms = 100;
    fake_park(0, "a", "");
    fake_publish_many("a", 2);
    fake_tick(100);
    fake_sweep();
    CHECK_INT(fake_channel("a")->held, 0);
    check_hub();
    CHECK_INT(fake_deliver(0), 1);
    plan = fake_plan(0, 0);
    CHECK_INT(plan->at[0].reason, LPI_EVICTED);
    CHECK_INT(plan->count, 0);
    CHECK_INT(plan->at[0].seq, 2);
    CHECK_INT(plan->timestamp_us, fake_channel("a")->last_us);
    check_hub();
    fake_end();
}

/* The other channel's place is its own. */
TEST(waiter_of_two_channels_one_of_which_lost_some) {
    const lpi_plan *plan;
    fake_start(1);
    fake.config->history_count = 2;
    fake_park(0, "a,b", "");
    fake_publish_many("a", 3);
    fake_publish("b");
    CHECK_INT(fake_deliver(0), 1);
    plan = fake_plan(0, 0);
    CHECK_INT(plan->at[0].reason, LPI_EVICTED);
    CHECK_INT(plan->at[1].reason, LPI_NO_RESET);
    CHECK_INT(plan->count, 3);
    CHECK_INT(plan->at[0].seq, 3);
    CHECK_INT(plan->at[1].seq, 1);
    fake_end();
}

/* As the Redis part will do it: another life of the channel, and who waits is told. */
static void begin_epoch(const char *name) {
    lpi_channel *ch = fake_channel(name);
    while (ch->held) lpi_hub_evict(fake.hub, ch->ring[ch->ring_at], fake_now());
    ch->epoch = unit_random();
    ch->epoch_number++;
    ch->last = 0;
    ch->evicted_us = 0;
    ch->start_us = ++ch->last_us;
    ch->fresh = 0;
    lpi_channel_wake(fake.hub, ch);
}

TEST(waiter_of_another_epoch_is_told) {
    const lpi_plan *plan;
    uint32_t c;
    fake_start(1);
    fake_publish_many("a", 2);
    c = fake_park(0, "a", "now");
    begin_epoch("a");
    check_hub();
    CHECK_INT(fake_deliver(0), 1);
    plan = fake_plan(0, 0);
    CHECK_INT(fake.loops[0].batch.entries[0].connection, c);
    CHECK_INT(plan->at[0].reason, LPI_EPOCH);
    CHECK(plan->at[0].epoch == fake_channel("a")->epoch);
    CHECK_INT(plan->at[0].seq, 0);
    CHECK_INT(plan->count, 0);
    fake_flush(0);
    check_hub();
    fake_park(0, "a", "now"); /* at 0 */
    begin_epoch("a");
    fake_publish_many("a", 2);
    CHECK_INT(fake_deliver(0), 1);
    plan = fake_plan(0, 0);
    CHECK_INT(plan->at[0].reason, LPI_EPOCH); /* and not what 0 would get */
    CHECK_INT(plan->count, 2);
    fake_flush(0);
    check_hub();
    fake_end();
}

/* A poll of the epoch before, whose SEQ is by chance the last one, leaves: it is not one
   of those that the next message wakes. */
TEST(waiter_of_another_epoch_leaves) {
    uint32_t c;
    fake_start(1);
    fake_publish_many("a", 2);
    c = fake_park(0, "a", "now"); /* at 2 */
    begin_epoch("a");
    fake_publish_many("a", 2); /* at 2 again */
    fake_park(0, "a", "now");
    check_hub();
    fake_hang_up(0, c);
    check_hub();
    CHECK_INT(fake_publish("a").waiters, 1);
    fake_end();
}

/* ---- deliveries in batches ---- */

TEST(waiter_crowd_is_served_in_batches) {
    uint32_t i, got[3] = {0, 0, 0}, rounds = 0;
    fake_start(3);
    for (i = 0; i < 300; i++) fake_park(i % 3, "a", "");
    CHECK_INT(fake_publish("a").waiters, 300);
    for (i = 0; i < 3; i++) {
        lpi_loop *loop = &fake.loops[i];
        while (lpi_deliver_view(loop)) {
            uint32_t n = loop->batch.entry_count;
            CHECK(n <= LPI_BATCH);
            CHECK_INT(loop->batch.plan_count, 1);
            CHECK_INT(loop->batch.message_count, 1);
            check_hub();
            got[i] += n;
            fake_flush(i);
            CHECK(++rounds < 100);
        }
        CHECK_INT(got[i], 100);
    }
    CHECK_INT(fake.hub->views.used, 0);
    CHECK_INT(fake.hub->stats.delivered, 300);
    check_hub();
    fake_end();
}

/* A large crowd does not hold up the next channel. */
TEST(waiter_channels_take_turns) {
    uint32_t i, channel;
    fake_start(1);
    for (i = 0; i < 100; i++) fake_park(0, "a", "");
    fake_park(0, "b", "");
    fake_publish("a");
    fake_publish("b");
    CHECK(lpi_deliver_view(&fake.loops[0]));
    CHECK_INT(fake.loops[0].batch.entry_count, LPI_BATCH);
    fake_flush(0);
    CHECK(lpi_deliver_view(&fake.loops[0]));
    CHECK_INT(fake.loops[0].batch.entry_count, 1);
    channel = fake_plan(0, 0)->channel;
    CHECK_INT(channel, fake_find("b"));
    check_hub();
    fake_end();
}

/* The room for messages runs out before the batch does. */
TEST(waiter_batch_is_full_of_messages) {
    lpi_loop *loop;
    uint32_t i, c[4], served = 0;
    fake_start(1);
    loop = &fake.loops[0];
    for (i = 0; i < 4; i++) { /* each at a place of its own */
        c[i] = fake_connect(0);
        {
            lpi_asked ask = fake_ask("a", "now");
            ask.limit = (uint16_t)(1000 - i);
            CHECK_INT(fake_poll(0, c[i], &ask), 0);
        }
    }
    fake_publish_many("a", 1000);
    while (lpi_deliver_view(loop)) {
        CHECK(loop->batch.message_count <= loop->batch.message_capacity);
        served += loop->batch.entry_count;
        check_hub();
        fake_flush(0);
    }
    CHECK_INT(served, 4);
    CHECK_INT(fake.hub->stats.delivered, 1000 + 999 + 998 + 997);
    fake_end();
}

TEST(waiter_polls_share_a_plan_only_if_all_is_the_same) {
    uint32_t i;
    fake_start(1);
    fake_publish_many("a", 3);
    answer("a", "");
    answer("a", cursor("a", 0));
    CHECK_INT(fake.loops[0].batch.plan_count, 1);
    answer("a", cursor("a", 1)); /* another place */
    CHECK_INT(fake.loops[0].batch.plan_count, 2);
    answer("a", cursor("a", 9)); /* a reset */
    CHECK_INT(fake.loops[0].batch.plan_count, 3);
    answer("a,b", "");
    answer("a,b", ""); /* several channels never share */
    CHECK_INT(fake.loops[0].batch.plan_count, 5);
    for (i = 0; i < 2; i++) {
        lpi_asked ask = fake_ask("a", "");
        uint32_t c = fake_connect(0);
        ask.limit = 2;
        CHECK_INT(fake_poll(0, c, &ask), 0);
        CHECK_INT(fake.loops[0].batch.plan_count, 6);
    }
    CHECK_INT(fake_plan(0, 7)->count, 2);
    CHECK_INT(fake_plan(0, 7)->more, 1);
    CHECK_INT(fake_plan(0, 7)->at[0].seq, 2);
    check_hub();
    fake_end();
}

TEST(waiter_messages_are_merged_by_timestamp_then_by_the_list) {
    static const char want[] = "bacbc";
    const lpi_plan *plan;
    uint32_t i;
    fake_start(1);
    fake_make("a"), fake_make("b"), fake_make("c"), fake_tick(10);
    fake_publish("b"), fake_tick(10);
    fake_publish("c"); /* these two at one microsecond, a before c in the list */
    fake_publish("a"), fake_tick(10);
    fake_publish("b"), fake_tick(10);
    fake_publish("c");
    plan = answer("a,b,c", "");
    CHECK_INT(plan->count, 5);
    for (i = 0; i < 5; i++) {
        char name[2] = "";
        name[0] = want[i];
        CHECK_INT(fake_message(0, plan, i)->channel, fake_find(name));
    }
    fake_end();
}

TEST(waiter_reply_is_cut_at_its_bytes) {
    uint32_t length;
    fake_start(1);
    fake_publish_many("a", 5);
    length = fake_channel("a")->ring[0]->length;
    fake.config->reply_bytes_max = 3 * length;
    CHECK_INT(answer("a", "")->count, 3);
    CHECK_INT(fake_plan(0, 0)->more, 1);
    fake_flush(0);
    fake.config->reply_bytes_max = 3 * length - 1;
    CHECK_INT(answer("a", "")->count, 2);
    fake_flush(0);
    fake.config->reply_bytes_max = 1; /* never below one */
    CHECK_INT(answer("a", "")->count, 1);
    fake_flush(0);
    fake.config->reply_bytes_max = 5 * length;
    CHECK_INT(answer("a", "")->count, 5);
    CHECK_INT(fake_plan(0, 0)->more, 0);
    fake_end();
}

/* A message is kept by the batch when the history lets go of it. */
TEST(waiter_reply_outlives_the_history) {
    const lpi_plan *plan;
    fake_start(1);
    fake_publish("a");
    plan = answer("a", "");
    lpi_hub_evict(fake.hub, fake.hub->oldest, fake_now());
    CHECK_INT(fake_message(0, plan, 0)->refs, 1);
    CHECK_INT(lp_json_check(lpi_message_text(fake_message(0, plan, 0)), NULL), LP_OK);
    fake_flush(0);
    check_hub();
    fake_end();
}

/* ---- fetching ---- */

static void start_remote(uint32_t loops) {
    fake_start(loops);
    fake.hub->remote = 1;
}

/* What the store has had of the channel. */
static void arrive(const char *name, uint64_t epoch, uint64_t last) {
    lpi_channel *ch = fake_channel(name);
    ch->epoch = epoch;
    ch->last = last;
    lpi_hub_arrived(fake.hub, fake_find(name));
}

TEST(fetching_poll_is_neither_answered_nor_parked) {
    lpi_asked ask;
    uint32_t c;
    start_remote(1);
    c = fake_park(0, "a", "00000000000000aa-5");
    CHECK_INT(fake_phase(0, c), LPI_FETCHING);
    CHECK_INT(fake_channel("a")->waiters, 1);
    CHECK_INT(fake_channel("a")->fresh, 0);
    CHECK_INT(fake.hub->claims.used, 1);
    CHECK_INT(fake.hub->stats.waiters, 1);
    check_hub();
    CHECK_INT(fake_deliver(0), 0);
    c = fake_connect(0); /* who would not wait */
    ask = fake_ask("a", "");
    ask.wait_ms = 0;
    CHECK_INT(fake_poll(0, c, &ask), 503);
    check_hub();
    fake_end();
}

TEST(fetching_poll_is_judged_when_the_state_is_here) {
    static const struct { const char *last_id; lpi_reason reason; int parked; } polls[] = {
        {"00000000000000aa-5", LPI_NO_RESET, 1}, {"00000000000000aa-4", LPI_EVICTED, 0},
        {"00000000000000aa-6", LPI_AHEAD, 0},    {"00000000000000bb-5", LPI_EPOCH, 0},
        {"", LPI_NO_RESET, 1},                   {"now", LPI_NO_RESET, 1}};
    uint32_t i, c;
    for (i = 0; i < LPI_COUNT(polls); i++) {
        start_remote(2);
        c = fake_park(1, "a", polls[i].last_id);
        fake_sleep(1);
        fake_tick(10);
        arrive("a", 0xaa, 5); /* nothing held: only 5 is continuous */
        CHECK_INT(lpi_hub_sleepers(fake.hub), 2);
        check_hub();
        CHECK_INT(fake_deliver(1), !polls[i].parked);
        check_hub();
        CHECK_INT(fake.hub->claims.used, 0);
        CHECK_INT(fake_phase(1, c), polls[i].parked ? LPI_PARKED : LPI_SERVING);
        if (!polls[i].parked) {
            CHECK_INT(fake_plan(1, 0)->at[0].reason, polls[i].reason);
            CHECK_INT(fake_plan(1, 0)->at[0].seq, 5);
            CHECK_INT(fake_plan(1, 0)->count, 0);
        } else {
            CHECK_INT(fake_channel("a")->fresh, 1);
            CHECK_INT(fake_publish("a").waiters, 1);
            CHECK_INT(fake_deliver(1), 1);
            CHECK_INT(fake_message(1, fake_plan(1, 0), 0)->seq, 6);
        }
        fake_flush(1);
        check_hub();
        fake_end();
    }
}

TEST(fetching_poll_that_is_behind_is_answered) {
    uint32_t c;
    start_remote(1);
    c = fake_park(0, "a", "");
    fake_publish_many("a", 3); /* merged while it was on its way */
    CHECK_INT(fake_deliver(0), 0);
    CHECK_INT(fake_phase(0, c), LPI_FETCHING);
    check_hub();
    arrive("a", 0xaa, 3);
    CHECK_INT(fake_deliver(0), 1);
    CHECK_INT(fake_plan(0, 0)->count, 3);
    CHECK_INT(fake_plan(0, 0)->resets, 0);
    check_hub();
    fake_end();
}

TEST(fetching_poll_waits_for_all_its_channels) {
    uint32_t c;
    start_remote(1);
    fake_make("a");
    arrive("a", 0xaa, 5);
    c = fake_park(0, "a,b", "00000000000000aa-5,00000000000000bb-7");
    CHECK_INT(fake_phase(0, c), LPI_FETCHING);
    CHECK_INT(fake_publish("a").waiters, 0); /* it doesn't wake it yet */
    CHECK_INT(fake_deliver(0), 0);
    CHECK_INT(fake_phase(0, c), LPI_FETCHING);
    check_hub();
    arrive("b", 0xbb, 7);
    check_hub();
    CHECK_INT(fake_deliver(0), 1);
    CHECK_INT(fake_plan(0, 0)->count, 1); /* it came while the poll was fetching */
    CHECK_INT(fake_plan(0, 0)->resets, 0);
    CHECK_INT(fake_plan(0, 0)->at[0].seq, 6);
    CHECK_INT(fake_plan(0, 0)->at[1].seq, 7);
    check_hub();
    fake_end();
}

TEST(fetching_claims_keep_the_order_of_the_poll) {
    uint32_t c;
    lpi_position at[LPI_POLL_CHANNELS];
    start_remote(1);
    c = fake_park(0, "a,b,c", "00000000000000aa-1,00000000000000bb-2,00000000000000cc-3");
    arrive("c", 0xcc, 3);
    arrive("a", 0xaa, 1);
    CHECK_INT(fake_deliver(0), 0);
    check_hub();
    arrive("b", 0xbb, 2);
    CHECK_INT(fake_deliver(0), 0);
    CHECK_INT(fake_phase(0, c), LPI_PARKED);
    CHECK_INT(lpi_waiter_positions(fake.hub, connection(0, c), at), 3);
    CHECK_INT(at[0].seq, 1);
    CHECK_INT(at[1].seq, 2);
    CHECK_INT(at[2].seq, 3);
    CHECK_INT(at[0].reason + at[1].reason + at[2].reason, 0);
    check_hub();
    fake_end();
}

TEST(fetching_basic_reset_rides_on_the_reply) {
    lpi_asked ask;
    uint32_t c;
    start_remote(1);
    fake_make("a");
    ask = fake_ask_since("a", fake.wall_us + 1000);
    c = fake_connect(0);
    CHECK_INT(fake_poll(0, c, &ask), 0);
    arrive("a", 0xaa, 0);
    CHECK_INT(fake_deliver(0), 0);
    CHECK_INT(fake_phase(0, c), LPI_PARKED);
    CHECK_INT(connection(0, c)->reset, LPI_AHEAD);
    check_hub();
    fake_publish("a");
    CHECK_INT(fake_deliver(0), 1);
    CHECK_INT(fake_plan(0, 0)->at[0].reason, LPI_AHEAD);
    CHECK_INT(fake_plan(0, 0)->count, 1);
    fake_end();
}

TEST(fetching_poll_may_leave_or_run_out) {
    uint32_t c, d;
    start_remote(1);
    c = fake_park(0, "a,b", "");
    d = fake_park(0, "b", "");
    fake_hang_up(0, c); /* its client is gone */
    CHECK_INT(fake.hub->claims.used, 1);
    check_hub();
    lpi_lock(&fake.hub->mutex); /* as lpi_ring does before its 503 */
    lpi_waiter_leave(fake.hub, connection(0, d), fake_now());
    lpi_unlock(&fake.hub->mutex);
    lpi_set_phase(&fake.loops[0], connection(0, d), LPI_SERVING);
    CHECK_INT(fake.hub->claims.used, 0);
    CHECK_INT(fake.hub->views.used, 0);
    CHECK_INT(fake.hub->tallies.used, 0);
    check_hub();
    arrive("a", 0xaa, 1);
    CHECK_INT(fake_deliver(0), 0);
    fake_end();
}

/* It arrived, and before its loop looks the poll is gone and the channel is unwanted. */
TEST(fetching_poll_leaves_after_the_arrival) {
    lp_published out;
    uint32_t c;
    start_remote(1);
    fake.config->channels_max = 1;
    c = fake_park(0, "a", "");
    arrive("a", 0xaa, 5);
    fake_hang_up(0, c);
    check_hub();
    (void)fake_try_publish("b", "{}", &out); /* may be LP_ERR_FULL while the view is there */
    check_hub();
    CHECK_INT(fake_deliver(0), 0);
    CHECK_INT(fake_try_publish("b", "{}", &out), LP_OK);
    check_hub();
    fake_end();
}

TEST(fetching_polls_count_in_the_limits) {
    lpi_asked ask;
    start_remote(1);
    fake.config->waiters_per_channel = 2;
    fake_park(0, "a", "");
    fake_park(0, "a", "");
    ask = fake_ask("a", "");
    check_refused(&ask, "Channel at capacity");
    arrive("a", 0xaa, 0);
    CHECK_INT(fake_deliver(0), 0);
    check_refused(&ask, "Channel at capacity");
    fake_end();
}

/* More polls than a batch holds are waiting for one arrival. */
TEST(fetching_crowd_is_judged_in_batches) {
    uint32_t i, answered = 0, rounds = 0;
    start_remote(1);
    for (i = 0; i < 100; i++)
        fake_park(0, "a", i % 2 ? "00000000000000aa-5" : "00000000000000aa-1");
    arrive("a", 0xaa, 5);
    while (lpi_deliver_view(&fake.loops[0])) {
        answered += fake.loops[0].batch.entry_count;
        check_hub();
        fake_flush(0);
        CHECK(++rounds < 20);
    }
    CHECK_INT(answered, 50);
    CHECK_INT(fake_channel("a")->waiters, 50);
    CHECK_INT(fake_publish("a").waiters, 50);
    check_hub();
    fake_end();
}

/* The state is fetched once more, with polls parked: what waits is still counted. */
TEST(fetching_again_keeps_who_waits) {
    start_remote(1);
    fake_make("a");
    arrive("a", 0xaa, 5);
    fake_park(0, "a", "now");
    fake_channel("a")->fetching = 1;
    arrive("a", 0xaa, 5);
    CHECK_INT(fake_deliver(0), 0);
    check_hub();
    CHECK_INT(fake_publish("a").waiters, 1);
    CHECK_INT(fake_deliver(0), 1);
    fake_end();
}

/* ---- without memory: each allocation in turn, and everything is as before ---- */

/* The state that a failure must leave. */
static size_t park_failing(const char *channels, int remote, int forever) {
    size_t k;
    int failed = 1;
    for (k = 1; failed; k++) {
        lpi_asked ask;
        uint32_t c, status, seats, tallies;
        fake_start(2);
        fake_park(1, "z", "");
        fake.hub->remote = remote;
        ask = fake_ask(channels, "");
        c = fake_connect(0);
        seats = fake.hub->seats.used;
        tallies = fake.hub->tallies.used;
        fake.memory.fail_at = fake.memory.calls + k;
        fake.memory.fail_forever = forever;
        status = (uint32_t)fake_poll(0, c, &ask);
        failed = fake.memory.failed != 0;
        fake.memory.fail_at = 0;
        check_hub();
        if (status) {
            CHECK(failed);
            CHECK_INT(status, 503);
            CHECK_INT(fake_phase(0, c), LPI_SERVING);
            CHECK_INT(fake.hub->seats.used, seats);
            CHECK_INT(fake.hub->tallies.used, tallies);
            CHECK_INT(fake.hub->claims.used, 0);
            CHECK_INT(fake.hub->views.used, 1);
            CHECK_INT(fake.hub->stats.waiters, 1);
            CHECK_INT(fake_poll(0, c, &ask), 0);
        }
        CHECK_INT(fake_phase(0, c), remote ? LPI_FETCHING : LPI_PARKED);
        check_hub();
        fake_end();
    }
    return k - 2;
}

TEST(waiter_parks_without_memory) {
    CHECK(park_failing("a", 0, 0) >= 1); /* the name; slabs have room */
    CHECK(park_failing("a", 0, 1) >= 1);
    CHECK(park_failing("a,b,c", 0, 0) >= 3);
    CHECK(park_failing("a", 1, 0) >= 2); /* and claims */
    CHECK(park_failing("a,b,c", 1, 1) >= 4);
}

/* The first poll of all, and the slabs full to the brim. */
TEST(waiter_parks_without_memory_for_records) {
    uint32_t full;
    for (full = 0; full < 4; full++) {
        size_t k;
        int failed = 1;
        for (k = 1; failed; k++) {
            lpi_asked ask;
            uint32_t c, i, status, waiters;
            fake_start(1);
            for (i = 0; i < full * 64; i++) {
                char name[16];
                sprintf(name, "c%u", i);
                fake_park(0, name, "");
            }
            ask = fake_ask("a,b", "");
            waiters = fake.hub->stats.waiters;
            c = fake_connect(0);
            fake.memory.fail_at = fake.memory.calls + k;
            status = (uint32_t)fake_poll(0, c, &ask);
            failed = fake.memory.failed != 0;
            fake.memory.fail_at = 0;
            check_hub();
            CHECK(failed || !status);
            if (status) CHECK_INT(fake.hub->stats.waiters, waiters);
            if (status) CHECK_INT(fake_poll(0, c, &ask), 0);
            check_hub();
            fake_end();
        }
        CHECK(k > 3);
    }
}

/* A fetching poll that cannot be parked is answered with its own cursor. */
TEST(fetching_poll_is_parked_without_memory) {
    uint32_t i, n, full;
    for (full = 0; full < 2; full++) {
        start_remote(1);
        fake_park(0, "a,b", "00000000000000aa-5,00000000000000bb-6");
        /* Its seats are given back first, so that memory is wanted only if they were the
           last of their chunk: fill all others, as polls of another channel. */
        for (i = 0; full && i < 600; i++) fake_park(0, "z", "");
        arrive("a", 0xaa, 5);
        arrive("b", 0xbb, 6);
        fake.memory.fail_at = fake.memory.calls + 1;
        fake.memory.fail_forever = 1;
        n = fake_deliver(0);
        fake.memory.fail_at = 0;
        check_hub();
        CHECK_INT(n, 0);
        CHECK_INT(fake_channel("a")->waiters, 1);
        fake_end();
    }
}
