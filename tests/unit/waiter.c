/* >>waiter: polls are parked and let go, and what they are told when they are. The end of
   the file holds the whole of >>message to >>waiter against models. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "fake.h"

/* Answered at once: its reply. */
static const lpi_reply *answer(const char *channels, const char *last_id) {
    uint32_t c = fake_connect(0);
    lpi_poll_request ask = fake_ask(channels, last_id);
    CHECK_INT(fake_poll(0, c, &ask), 0);
    CHECK_INT(fake_phase(0, c), LPI_SERVING);
    return fake_plan(0, fake.loops[0].batch.recipient_count - 1);
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

static void check_refused(const lpi_poll_request *ask, const char *why) {
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

static uint32_t check_parked(const lpi_poll_request *ask) {
    uint32_t c = fake_connect(0);
    CHECK_INT(fake_poll(0, c, ask), 0);
    CHECK_INT(fake_phase(0, c), LPI_PARKED);
    check_hub();
    return c;
}

TEST(waiter_refused_at_each_edge) {
    lpi_poll_request ask;
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
    lpi_poll_request ask;
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
    lpi_poll_request one, two, both;
    fake_start(1);
    one = fake_ask("a", "");
    two = fake_ask("b", "");
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
    lpi_poll_request ask;
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
    lpi_poll_request ask;
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
    lpi_cursor at[LPI_POLL_CHANNELS];
    uint32_t c, i;
    char name[2] = "a";
    fake_start(2);
    fake_park(0, "c", "");
    c = fake_park(1, all, "");
    check_hub();
    CHECK_INT(fake.hub->waiters.used, 17);
    CHECK_INT(fake.hub->stats.waiters, 2);
    CHECK_INT(lpi_waiters_cursors(fake.hub, connection(1, c), at), 16);
    for (i = 0; i < 16; i++, name[0]++) {
        CHECK_INT(at[i].channel, fake_find(name)); /* in the order of the poll */
        CHECK_INT(at[i].seq, 0);
        CHECK_INT(at[i].reason, LPI_NO_RESET);
        CHECK_INT(fake_channel(name)->waiters, i == 2 ? 2 : 1);
    }
    fake_hang_up(1, c);
    CHECK_INT(fake.hub->waiters.used, 1);
    CHECK_INT(fake.hub->lists.used, 1);
    CHECK(!fake_channel("c")->idle);
    CHECK(fake_channel("d")->idle);
    check_hub();
    fake_end();
}

TEST(waiter_of_two_channels_is_answered_once) {
    const lpi_reply *reply;
    uint32_t c;
    fake_start(1);
    c = fake_park(0, "a,b", "");
    CHECK_INT(fake_publish("b").waiters, 1);
    fake_tick(1);
    fake_publish("a");
    CHECK_INT(fake_deliver(0), 1);
    check_hub();
    reply = fake_plan(0, 0);
    CHECK_INT(fake.loops[0].batch.recipients[0].connection, c);
    CHECK_INT(reply->channel_count, 2);
    CHECK_INT(reply->count, 2);
    CHECK_INT(fake_message(0, reply, 0)->channel, fake_find("b")); /* it was first */
    CHECK_INT(fake_message(0, reply, 1)->channel, fake_find("a"));
    CHECK_INT(reply->at[0].seq, 1);
    CHECK_INT(reply->at[1].seq, 1);
    CHECK(reply->at[0].epoch == fake_channel("a")->epoch);
    CHECK(reply->at[1].epoch == fake_channel("b")->epoch);
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
        CHECK_INT(fake.hub->lists.used, 0);
        CHECK_INT(fake.hub->counters.used, 0);
        fake_end();
    }
}

/* What a wait that ran out returns: the cursor that it was parked with. */
TEST(waiter_expires_with_its_own_cursor) {
    const lpi_reply *reply;
    uint32_t c;
    fake_start(1);
    fake_publish_many("a", 3);
    c = fake_park(0, "a,b", "now");
    lpi_deliver_release(&fake.loops[0], c);
    check_hub();
    reply = fake_plan(0, 0);
    CHECK_INT(reply->count, 0);
    CHECK_INT(reply->resets, 0);
    CHECK_INT(reply->at[0].seq, 3);
    CHECK_INT(reply->at[1].seq, 0);
    CHECK_INT(reply->timestamp_us, lpi_max64(fake_channel("a")->last_us,
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
    lpi_deliver_release(&fake.loops[0], c);
    check_hub();
    CHECK_INT(fake_plan(0, 0)->count, 1);
    CHECK_INT(fake_plan(0, 0)->at[0].seq, 1);
    CHECK_INT(fake_deliver(0), 1);
    CHECK_INT(fake.loops[0].batch.recipients[1].connection, other);
    fake_flush(0);
    check_hub();
    fake_end();
}

/* ---- compare and park: in the history, or woken; never neither ---- */

TEST(waiter_gets_what_came_before_its_poll) {
    const lpi_reply *reply;
    fake_start(1);
    fake_publish_many("a", 5);
    reply = answer("a", cursor("a", 3));
    CHECK_INT(reply->count, 2);
    CHECK_INT(fake_message(0, reply, 0)->seq, 4);
    CHECK_INT(fake_message(0, reply, 1)->seq, 5);
    CHECK_INT(reply->at[0].seq, 5);
    CHECK_INT(reply->timestamp_us, fake_channel("a")->last_us);
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
    CHECK_INT(fake.loops[0].batch.reply_count, 1); /* they stand at one place */
    CHECK_INT(fake_plan(0, 0)->count, 1);
    CHECK_INT(fake_message(0, fake_plan(0, 0), 0)->seq, 6);
    check_hub();
    fake_end();
}

/* ---- resets when the poll comes ---- */

static void check_reset(const char *last_id, lpi_reason reason, uint32_t count) {
    const lpi_reply *reply = answer("a", last_id);
    CHECK_INT(reply->at[0].reason, reason);
    CHECK_INT(reply->resets, reason != LPI_NO_RESET);
    CHECK_INT(reply->count, count);
    CHECK_INT(reply->at[0].seq, fake_channel("a")->last);
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
    const lpi_reply *reply;
    char list[100];
    fake_start(1);
    fake_publish("a");
    fake_publish("b");
    sprintf(list, "%s,%s", cursor("a", 1), cursor("b", 2));
    reply = answer("a,b", list);
    CHECK_INT(reply->at[0].reason, LPI_NO_RESET);
    CHECK_INT(reply->at[1].reason, LPI_AHEAD);
    CHECK_INT(reply->count, 1);
    CHECK_INT(fake_message(0, reply, 0)->channel, fake_find("b"));
    CHECK_BYTES(fake.loops[0].batch.names.bytes + reply->at[1].name_at,
                reply->at[1].name_length, "b", 1);
    fake_end();
}

/* ---- the basic dialect: a reset with nothing held waits ---- */

TEST(waiter_basic_reset_rides_on_the_reply) {
    lpi_poll_request ask;
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
            lpi_deliver_release(&fake.loops[0], c);
        }
        CHECK_INT(fake_plan(0, 0)->at[0].reason, LPI_AHEAD);
        CHECK_INT(fake_plan(0, 0)->count, i);
        CHECK_INT(fake_plan(0, 0)->basic, 1);
        check_hub();
        fake_end();
    }
}

TEST(waiter_basic_reset_with_something_held_is_answered) {
    lpi_poll_request ask;
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
    const lpi_reply *reply;
    fake_start(1);
    fake.config->history_count = 3;
    fake_publish_many("a", 2);
    fake_park(0, "a", "now"); /* at 2 */
    fake_publish_many("a", 3); /* 3, 4, 5: 3 is still held */
    CHECK_INT(fake_deliver(0), 1);
    reply = fake_plan(0, 0);
    CHECK_INT(reply->at[0].reason, LPI_NO_RESET);
    CHECK_INT(reply->count, 3);
    fake_flush(0);
    fake_park(0, "a", "now"); /* at 5 */
    fake_publish_many("a", 4); /* 6 to 9: 6 is gone */
    check_hub();
    CHECK_INT(fake_deliver(0), 1);
    reply = fake_plan(0, 0);
    CHECK_INT(reply->at[0].reason, LPI_EVICTED);
    CHECK_INT(reply->from, 6); /* the floor */
    CHECK_INT(reply->count, 3);
    CHECK_INT(fake_message(0, reply, 0)->seq, 7);
    CHECK_INT(reply->at[0].seq, 9);
    CHECK_INT(fake.hub->stats.resets, 1);
    check_hub();
    fake_end();
}

TEST(waiter_whose_messages_are_all_gone_is_told) {
    const lpi_reply *reply;
    fake_start(1);
    fake.config->history_age_ms = 100;
    fake_park(0, "a", "");
    fake_publish_many("a", 2);
    fake_tick(100);
    fake_sweep();
    CHECK_INT(fake_channel("a")->held, 0);
    check_hub();
    CHECK_INT(fake_deliver(0), 1);
    reply = fake_plan(0, 0);
    CHECK_INT(reply->at[0].reason, LPI_EVICTED);
    CHECK_INT(reply->count, 0);
    CHECK_INT(reply->at[0].seq, 2);
    CHECK_INT(reply->timestamp_us, fake_channel("a")->last_us);
    check_hub();
    fake_end();
}

/* The other channel's place is its own. */
TEST(waiter_of_two_channels_one_of_which_lost_some) {
    const lpi_reply *reply;
    fake_start(1);
    fake.config->history_count = 2;
    fake_park(0, "a,b", "");
    fake_publish_many("a", 3);
    fake_publish("b");
    CHECK_INT(fake_deliver(0), 1);
    reply = fake_plan(0, 0);
    CHECK_INT(reply->at[0].reason, LPI_EVICTED);
    CHECK_INT(reply->at[1].reason, LPI_NO_RESET);
    CHECK_INT(reply->count, 3);
    CHECK_INT(reply->at[0].seq, 3);
    CHECK_INT(reply->at[1].seq, 1);
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
    ch->waiters_since_publish = 0;
    lpi_channel_wake(fake.hub, ch);
}

TEST(waiter_of_another_epoch_is_told) {
    const lpi_reply *reply;
    uint32_t c;
    fake_start(1);
    fake_publish_many("a", 2);
    c = fake_park(0, "a", "now");
    begin_epoch("a");
    check_hub();
    CHECK_INT(fake_deliver(0), 1);
    reply = fake_plan(0, 0);
    CHECK_INT(fake.loops[0].batch.recipients[0].connection, c);
    CHECK_INT(reply->at[0].reason, LPI_EPOCH);
    CHECK(reply->at[0].epoch == fake_channel("a")->epoch);
    CHECK_INT(reply->at[0].seq, 0);
    CHECK_INT(reply->count, 0);
    fake_flush(0);
    check_hub();
    fake_park(0, "a", "now"); /* at 0 */
    begin_epoch("a");
    fake_publish_many("a", 2);
    CHECK_INT(fake_deliver(0), 1);
    reply = fake_plan(0, 0);
    CHECK_INT(reply->at[0].reason, LPI_EPOCH); /* and not what 0 would get */
    CHECK_INT(reply->count, 2);
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
        while (lpi_deliver_waiter_list(loop)) {
            uint32_t n = loop->batch.recipient_count;
            CHECK(n <= LPI_BATCH);
            CHECK_INT(loop->batch.reply_count, 1);
            CHECK_INT(loop->batch.message_count, 1);
            check_hub();
            got[i] += n;
            fake_flush(i);
            CHECK(++rounds < 100);
        }
        CHECK_INT(got[i], 100);
    }
    CHECK_INT(fake.hub->lists.used, 0);
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
    CHECK(lpi_deliver_waiter_list(&fake.loops[0]));
    CHECK_INT(fake.loops[0].batch.recipient_count, LPI_BATCH);
    fake_flush(0);
    CHECK(lpi_deliver_waiter_list(&fake.loops[0]));
    CHECK_INT(fake.loops[0].batch.recipient_count, 1);
    channel = fake_plan(0, 0)->channel;
    CHECK_INT(channel, fake_find("b"));
    check_hub();
    fake_end();
}

/* The room for messages runs out before the batch does. */
TEST(waiter_batch_is_full_of_messages) {
    lpi_loop *loop;
    uint32_t i, served = 0;
    fake_start(1);
    loop = &fake.loops[0];
    for (i = 0; i < 4; i++) { /* each with a reply of its own */
        lpi_poll_request ask = fake_ask("a", "now");
        ask.limit = (uint16_t)(1000 - i);
        CHECK_INT(fake_poll(0, fake_connect(0), &ask), 0);
    }
    fake_publish_many("a", 1000);
    while (lpi_deliver_waiter_list(loop)) {
        CHECK(loop->batch.message_count <= loop->batch.message_capacity);
        served += loop->batch.recipient_count;
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
    CHECK_INT(fake.loops[0].batch.reply_count, 1);
    answer("a", cursor("a", 1)); /* another place */
    CHECK_INT(fake.loops[0].batch.reply_count, 2);
    answer("a", cursor("a", 9)); /* a reset */
    CHECK_INT(fake.loops[0].batch.reply_count, 3);
    answer("a,b", "");
    answer("a,b", ""); /* several channels never share */
    CHECK_INT(fake.loops[0].batch.reply_count, 5);
    for (i = 0; i < 2; i++) {
        lpi_poll_request ask = fake_ask("a", "");
        uint32_t c = fake_connect(0);
        ask.limit = 2;
        CHECK_INT(fake_poll(0, c, &ask), 0);
        CHECK_INT(fake.loops[0].batch.reply_count, 6);
    }
    CHECK_INT(fake_plan(0, 7)->count, 2);
    CHECK_INT(fake_plan(0, 7)->more, 1);
    CHECK_INT(fake_plan(0, 7)->at[0].seq, 2);
    check_hub();
    fake_end();
}

TEST(waiter_messages_are_merged_by_timestamp_then_by_the_list) {
    static const char want[] = "bacbc";
    const lpi_reply *reply;
    uint32_t i;
    fake_start(1);
    fake_make("a"), fake_make("b"), fake_make("c"), fake_tick(10);
    fake_publish("b"), fake_tick(10);
    fake_publish("c"); /* these two at one microsecond, a before c in the list */
    fake_publish("a"), fake_tick(10);
    fake_publish("b"), fake_tick(10);
    fake_publish("c");
    reply = answer("a,b,c", "");
    CHECK_INT(reply->count, 5);
    for (i = 0; i < 5; i++) {
        char name[2] = "";
        name[0] = want[i];
        CHECK_INT(fake_message(0, reply, i)->channel, fake_find(name));
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
    const lpi_reply *reply;
    fake_start(1);
    fake_publish("a");
    reply = answer("a", "");
    lpi_hub_evict(fake.hub, fake.hub->oldest, fake_now());
    CHECK_INT(fake_message(0, reply, 0)->refs, 1);
    CHECK_INT(lp_json_check(lpi_message_text(fake_message(0, reply, 0)), NULL), LP_OK);
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
    lpi_hub_loaded(fake.hub, fake_find(name));
}

TEST(fetching_poll_is_neither_answered_nor_parked) {
    lpi_poll_request ask;
    uint32_t c;
    start_remote(1);
    c = fake_park(0, "a", "00000000000000aa-5");
    CHECK_INT(fake_phase(0, c), LPI_FETCHING);
    CHECK_INT(fake_channel("a")->waiters, 1);
    CHECK_INT(fake_channel("a")->waiters_since_publish, 0);
    CHECK_INT(fake.hub->requested.used, 1);
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
        CHECK_INT(fake.hub->requested.used, 0);
        CHECK_INT(fake_phase(1, c), polls[i].parked ? LPI_PARKED : LPI_SERVING);
        if (!polls[i].parked) {
            CHECK_INT(fake_plan(1, 0)->at[0].reason, polls[i].reason);
            CHECK_INT(fake_plan(1, 0)->at[0].seq, 5);
            CHECK_INT(fake_plan(1, 0)->count, 0);
        } else {
            CHECK_INT(fake_channel("a")->waiters_since_publish, 1);
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
    lpi_cursor at[LPI_POLL_CHANNELS];
    start_remote(1);
    c = fake_park(0, "a,b,c", "00000000000000aa-1,00000000000000bb-2,00000000000000cc-3");
    arrive("c", 0xcc, 3);
    arrive("a", 0xaa, 1);
    CHECK_INT(fake_deliver(0), 0);
    check_hub();
    arrive("b", 0xbb, 2);
    CHECK_INT(fake_deliver(0), 0);
    CHECK_INT(fake_phase(0, c), LPI_PARKED);
    CHECK_INT(lpi_waiters_cursors(fake.hub, connection(0, c), at), 3);
    CHECK_INT(at[0].seq, 1);
    CHECK_INT(at[1].seq, 2);
    CHECK_INT(at[2].seq, 3);
    CHECK_INT(at[0].reason + at[1].reason + at[2].reason, 0);
    check_hub();
    fake_end();
}

TEST(fetching_basic_reset_rides_on_the_reply) {
    lpi_poll_request ask;
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
    CHECK_INT(fake.hub->requested.used, 1);
    check_hub();
    lpi_lock(&fake.hub->mutex); /* as lpi_close_expired does before its 503 */
    lpi_hub_unpark(fake.hub, connection(0, d), fake_now());
    lpi_unlock(&fake.hub->mutex);
    lpi_set_phase(&fake.loops[0], connection(0, d), LPI_SERVING);
    CHECK_INT(fake.hub->requested.used, 0);
    CHECK_INT(fake.hub->lists.used, 0);
    CHECK_INT(lpi_counter_value(fake.hub, connection(0, d)->client), 0);
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
    (void)fake_try_publish("b", "{}", &out); /* may be LP_ERR_FULL while the waiter list is there */
    check_hub();
    CHECK_INT(fake_deliver(0), 0);
    CHECK_INT(fake_try_publish("b", "{}", &out), LP_OK);
    check_hub();
    fake_end();
}

TEST(fetching_polls_count_in_the_limits) {
    lpi_poll_request ask;
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
    while (lpi_deliver_waiter_list(&fake.loops[0])) {
        answered += fake.loops[0].batch.recipient_count;
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

/* How many allocations it takes. */
static size_t park_failing(const char *channels, int remote, int forever) {
    size_t k;
    int failed = 1;
    for (k = 1; failed; k++) {
        lpi_poll_request ask;
        uint32_t c, status, waiter_records, counters;
        fake_start(2);
        fake_park(1, "z", "");
        fake.hub->remote = remote;
        ask = fake_ask(channels, "");
        c = fake_connect(0);
        waiter_records = fake.hub->waiters.used;
        counters = fake.hub->counters.used;
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
            CHECK_INT(fake.hub->waiters.used, waiter_records);
            CHECK(fake.hub->counters.used <= counters + 2); /* kept for the next poll */
            CHECK_INT(fake.hub->requested.used, 0);
            CHECK_INT(fake.hub->lists.used, 1);
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
#define LONG "a name that needs memory"
    CHECK(park_failing(LONG, 0, 0) >= 1); /* the name; slabs have room */
    CHECK(park_failing(LONG, 0, 1) >= 1);
    CHECK(park_failing("a " LONG ",b " LONG ",c " LONG, 0, 0) >= 3);
    CHECK(park_failing(LONG, 1, 0) >= 2); /* and claims */
    CHECK(park_failing("a " LONG ",b " LONG ",c " LONG, 1, 1) >= 4);
    CHECK(park_failing("a", 1, 0) >= 1);
#undef LONG
}

/* The first poll of all, and the slabs full to the brim. */
TEST(waiter_parks_without_memory_for_records) {
    uint32_t full;
    for (full = 0; full < 4; full++) {
        size_t k;
        int failed = 1;
        for (k = 1; failed; k++) {
            lpi_poll_request ask;
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
        /* Its waiters are given back first, so that memory is wanted only if they were the
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

/* ---- all of it against a simple model ----

   Six names, three loops, limits so tight that all of them are met, clocks of the loops
   that lag. The model keeps plain arrays and follows DESIGN.md 3 by the letter; each
   reply, refusal, count and timestamp is compared, and after each step all is counted. */

enum { NAMES = 6, HELD = 8, POLLS = 24 };

typedef struct model_message { uint64_t seq, us, born_ms, order, bytes; } model_message;

typedef struct model_channel {
    int exists, idle, pinned;
    uint64_t epoch, start_us, last_us, evicted_us, last;
    uint64_t idle_ms, idle_order;
    model_message held[HELD + 1];
    uint32_t count;
} model_channel;

typedef struct model_poll {
    int parked;
    uint32_t loop, connection, count, names[3], limit, client, address;
    uint64_t seq[3];
    lpi_reason reset;
    int basic;
} model_poll;

static struct {
    model_channel channels[NAMES];
    model_poll polls[POLLS];
    uint64_t order, forgotten_us, bytes, old_epoch[NAMES];
    uint32_t made, answered, parked, refused, resets, forgotten, delivered;
} model;

static const char *model_name(uint32_t i) {
    static const char *const names[NAMES] = {"a", "b", "c", "d", "e", "f"};
    return names[i];
}

static uint32_t model_waiters(uint32_t name) {
    uint32_t i, k, n = 0;
    for (i = 0; i < POLLS; i++)
        for (k = 0; model.polls[i].parked && k < model.polls[i].count; k++)
            n += model.polls[i].names[k] == name;
    return n;
}

static void model_settle(uint32_t name, uint64_t now_ms) {
    model_channel *ch = &model.channels[name];
    uint32_t index = fake_find(model_name(name));
    /* A waiter list that its loop has still to look at keeps the channel, as the hub's own. */
    int kept = index != LPI_NONE && lpi_channel_at(fake.hub, index)->lists.head != LPI_NONE;
    int idle = ch->exists && !ch->count && !model_waiters(name) && !kept;
    if (idle == ch->idle) return;
    ch->idle = idle;
    ch->idle_ms = now_ms;
    ch->idle_order = ++model.order;
}

static uint64_t model_floor(const model_channel *ch) { return ch->last - ch->count; }

static void model_evict(uint32_t name, uint64_t now_ms) {
    model_channel *ch = &model.channels[name];
    ch->evicted_us = ch->held[0].us;
    model.bytes -= ch->held[0].bytes;
    memmove(ch->held, ch->held + 1, --ch->count * sizeof ch->held[0]);
    if (!ch->count) model_settle(name, now_ms);
}

static void model_forget(uint32_t name) {
    model_channel *ch = &model.channels[name];
    model.forgotten_us = lpi_max64(model.forgotten_us, ch->last_us);
    model.old_epoch[name] = ch->epoch;
    model.forgotten++;
    memset(ch, 0, sizeof *ch);
}

static int model_aged(uint64_t since_ms, uint64_t now_ms) {
    return now_ms >= since_ms + fake.config->history_age_ms;
}

/* The name of the oldest message, or of the channel that is idle first, or NAMES. */
static uint32_t model_oldest(void) {
    uint32_t i, best = NAMES;
    for (i = 0; i < NAMES; i++)
        if (model.channels[i].count &&
            (best == NAMES || model.channels[i].held[0].order <
                                  model.channels[best].held[0].order))
            best = i;
    return best;
}

static uint32_t model_idlest(void) {
    uint32_t i, best = NAMES;
    for (i = 0; i < NAMES; i++)
        if (model.channels[i].idle && !model.channels[i].pinned &&
            (best == NAMES || model.channels[i].idle_order < model.channels[best].idle_order))
            best = i;
    return best;
}

/* Find or make; 0 if the table is full. The epoch is not known yet. */
static int model_get(uint32_t name, uint64_t now_ms) {
    model_channel *ch = &model.channels[name];
    uint32_t i, n = 0;
    while (ch->exists && ch->count && model_aged(ch->held[0].born_ms, now_ms))
        model_evict(name, now_ms);
    if (ch->exists && ch->idle && model_aged(ch->idle_ms, now_ms)) model_forget(name);
    if (ch->exists) return 1;
    for (i = 0; i < NAMES; i++) n += (uint32_t)model.channels[i].exists;
    if (n == fake.config->channels_max) {
        if (model_idlest() == NAMES) return 0;
        model_forget(model_idlest());
    }
    ch->exists = 1;
    ch->start_us = ch->last_us = lpi_max64(fake.wall_us, model.forgotten_us + 1);
    model.made++;
    model_settle(name, now_ms);
    return 1;
}

/* The channels that are there, with the epochs that only the hub could draw. */
static void model_compare(void) {
    uint32_t i, k, name;
    for (i = 0; i < NAMES; i++) {
        model_channel *want = &model.channels[i];
        uint32_t index = fake_find(model_name(i));
        const lpi_channel *ch;
        CHECK_INT(index != LPI_NONE, want->exists);
        if (!want->exists) continue;
        ch = lpi_channel_at(fake.hub, index);
        if (!want->epoch) CHECK(ch->epoch != model.old_epoch[i]);
        if (!want->epoch) want->epoch = ch->epoch;
        CHECK(ch->epoch == want->epoch);
        CHECK_INT(ch->last, want->last);
        CHECK_INT(ch->held, want->count);
        CHECK_INT(ch->start_us, want->start_us);
        CHECK_INT(ch->last_us, want->last_us);
        CHECK_INT(ch->evicted_us, want->evicted_us);
        CHECK_INT(ch->waiters, model_waiters(i));
        CHECK_INT(ch->idle, want->idle);
        for (k = 0; k < want->count; k++)
            CHECK_INT(lpi_channel_message(ch, want->held[k].seq)->timestamp_us,
                      want->held[k].us);
    }
    CHECK_INT(fake.hub->stats.history_bytes, model.bytes);
    for (i = fake.hub->idle.head, k = NAMES; i != LPI_NONE; k = name) {
        const lpi_channel *ch = lpi_channel_at(fake.hub, i);
        name = (uint32_t)(*ch->name - 'a');
        CHECK_INT(ch->idle_ms, model.channels[name].idle_ms);
        CHECK(k == NAMES ||
              model.channels[k].idle_order < model.channels[name].idle_order);
        i = ch->idle_link.next;
    }
}

/* ---- publishing */

static void model_publish(uint32_t name) {
    static const char *const bodies[] = {"{}", "{\"a\":1}", "{\"text\":\"0123456789\"}"};
    uint64_t now_ms = fake_now(), bytes, oldest_us;
    model_channel *ch = &model.channels[name];
    lpi_message *m;
    lp_published out;
    lp_result result;
    size_t offset;
    uint32_t i, k, woken = 0;
    m = lpi_message_new(&fake.server.memory, lp_s(model_name(name)),
                        lp_s(bodies[unit_below(3)]), &result, &offset);
    CHECK(m);
    bytes = m->size;
    result = lpi_hub_publish(fake.hub, lp_s(model_name(name)), m, fake.now_us, &out);
    if (!model_get(name, now_ms)) {
        CHECK_INT(result, LP_ERR_FULL);
        lpi_message_unref(&fake.server.memory, m);
        return;
    }
    CHECK_INT(result, LP_OK);
    for (i = 0; i < POLLS; i++)
        for (k = 0; model.polls[i].parked && k < model.polls[i].count; k++)
            woken += model.polls[i].names[k] == name && model.polls[i].seq[k] == ch->last;
    CHECK_INT(out.waiters, woken);
    if (ch->count == fake.config->history_count) model_evict(name, now_ms);
    oldest_us = ch->last_us;
    ch->last_us = lpi_max64(fake.wall_us, ch->last_us + 1);
    CHECK(out.timestamp_us == ch->last_us && ch->last_us > oldest_us);
    ch->held[ch->count].seq = ++ch->last;
    ch->held[ch->count].us = ch->last_us;
    ch->held[ch->count].born_ms = now_ms;
    ch->held[ch->count].order = ++model.order;
    ch->held[ch->count].bytes = bytes;
    ch->count++;
    model.bytes += bytes;
    model_settle(name, now_ms);
    while (model.bytes > fake.config->history_bytes &&
           (model_oldest() != name || ch->count > 1))
        model_evict(model_oldest(), now_ms);
}

/* ---- judging */

static lpi_reason model_judge(const model_channel *ch, const lpi_requested *requested, uint64_t *seq) {
    uint64_t oldest_held = ch->count ? ch->held[0].seq : ch->last + 1;
    uint32_t i;
    *seq = oldest_held - 1;
    if (requested->kind == LPI_FROM_NOW) *seq = ch->last;
    if (requested->kind == LPI_FROM_CURSOR) {
        if (requested->epoch != ch->epoch) return LPI_EPOCH;
        if (requested->seq + 1 < oldest_held) return LPI_EVICTED;
        if (requested->seq > ch->last) return LPI_AHEAD;
        *seq = requested->seq;
    }
    if (requested->kind == LPI_FROM_TIME && requested->seq) {
        if (requested->seq < ch->start_us) return LPI_EPOCH;
        if (requested->seq < ch->evicted_us) return LPI_EVICTED;
        if (requested->seq > ch->last_us) return LPI_AHEAD;
        for (i = 0; i < ch->count; i++)
            if (ch->held[i].us <= requested->seq) *seq = ch->held[i].seq;
    }
    return LPI_NO_RESET;
}

static lpi_requested model_claim(const model_channel *ch, uint32_t name) {
    lpi_requested requested;
    memset(&requested, 0, sizeof requested);
    requested.kind = unit_one_in(4) ? (lpi_requested_kind)unit_below(2) : LPI_FROM_CURSOR;
    if (requested.kind != LPI_FROM_CURSOR) return requested;
    requested.epoch = unit_one_in(20) ? model.old_epoch[name] : ch->epoch;
    requested.seq = ch->last - (unit_one_in(4) ? unit_below(HELD) : 0);
    if (requested.seq > ch->last) requested.seq = 0;
    if (unit_one_in(20)) requested.seq = ch->last + unit_below(3);
    return requested;
}

static lpi_requested model_claim_time(const model_channel *ch) {
    lpi_requested requested;
    uint64_t at = ch->start_us;
    requested.kind = LPI_FROM_TIME;
    requested.epoch = 0;
    if (unit_one_in(2)) at = ch->evicted_us;
    if (unit_one_in(2)) at = ch->last_us;
    if (ch->count && unit_one_in(2)) at = ch->held[unit_below(ch->count)].us;
    requested.seq = at && !unit_one_in(8) ? at : 0;
    if (requested.seq && unit_one_in(3)) requested.seq = at - 1 + unit_below(3);
    return requested;
}

/* ---- replies */

/* The reply to a poll that stands at `seq`, for these reasons. */
static void model_check_reply(uint32_t loop, const lpi_reply *reply, const model_poll *poll,
                              const uint64_t *from, const lpi_reason *reason) {
    uint64_t seq[3], us = 0;
    uint32_t i, n, best, resets = 0;
    memcpy(seq, from, sizeof seq);
    for (n = 0;; n++) {
        uint64_t best_us = UINT64_MAX;
        best = 3;
        for (i = 0; i < poll->count; i++) {
            const model_channel *ch = &model.channels[poll->names[i]];
            if (seq[i] == ch->last) continue;
            if (ch->held[seq[i] - model_floor(ch)].us >= best_us) continue;
            best_us = ch->held[seq[i] - model_floor(ch)].us;
            best = i;
        }
        if (best == 3 || n == poll->limit) break;
        CHECK_STR(lpi_channel_name(lpi_channel_at(
                      fake.hub, fake_message(loop, reply, n)->channel)),
                  model_name(poll->names[best]));
        CHECK_INT(fake_message(loop, reply, n)->seq, ++seq[best]);
        us = best_us;
    }
    CHECK_INT(reply->count, n);
    CHECK_INT(reply->more, best != 3);
    CHECK_INT(reply->channel_count, poll->count);
    for (i = 0; i < poll->count; i++) {
        CHECK(reply->at[i].epoch == model.channels[poll->names[i]].epoch);
        CHECK_INT(reply->at[i].seq, seq[i]);
        CHECK_INT(reply->at[i].reason, reason[i]);
        resets |= reason[i] != LPI_NO_RESET;
        if (!n) us = lpi_max64(us, model.channels[poll->names[i]].last_us);
    }
    CHECK_INT(reply->resets, resets);
    CHECK_INT(reply->timestamp_us, us);
    model.answered++;
    model.resets += resets;
    model.delivered += n;
}

/* The end of a wait: it is judged again. */
static void model_check_released(uint32_t loop, const lpi_reply *reply, const model_poll *poll) {
    uint64_t seq[3];
    lpi_reason reason[3];
    uint32_t i;
    for (i = 0; i < poll->count; i++) {
        uint64_t floor = model_floor(&model.channels[poll->names[i]]);
        reason[i] = poll->reset;
        seq[i] = poll->seq[i];
        if (seq[i] >= floor) continue;
        seq[i] = floor;
        if (!reason[i]) reason[i] = LPI_EVICTED;
    }
    model_check_reply(loop, reply, poll, seq, reason);
}

static int model_behind(const model_poll *poll) {
    uint32_t i, behind = 0;
    for (i = 0; i < poll->count; i++)
        behind |= poll->seq[i] < model.channels[poll->names[i]].last;
    return poll->parked && behind;
}

static void model_gone(model_poll *poll, uint64_t now_ms) {
    uint32_t i;
    poll->parked = 0;
    for (i = 0; i < poll->count; i++) model_settle(poll->names[i], now_ms);
}

static void model_deliver(uint32_t loop_index) {
    lpi_loop *loop = &fake.loops[loop_index];
    int all = unit_one_in(2);
    uint32_t i, k;
    do {
        while (lpi_deliver_waiter_list(loop) && all && loop->batch.recipient_count < LPI_BATCH) {}
        for (i = 0; i < loop->batch.recipient_count; i++) {
            for (k = 0; k < POLLS; k++)
                if (model.polls[k].parked && model.polls[k].loop == loop_index &&
                    model.polls[k].connection == loop->batch.recipients[i].connection)
                    break;
            CHECK(k < POLLS && model_behind(&model.polls[k]));
            model_check_released(loop_index, fake_plan(loop_index, i), &model.polls[k]);
            model.polls[k].parked = 0;
        }
        fake_flush(loop_index);
    } while (all && loop->ready_first != LPI_NONE);
    /* In which order the channels fell idle is the hub's business, here. */
    for (i = 0; i < NAMES; i++) model_settle(i, loop->now_ms);
    for (i = 0; i < NAMES; i++) {
        uint32_t index = fake_find(model_name(i));
        const lpi_channel *ch;
        if (index == LPI_NONE || !model.channels[i].idle) continue;
        ch = lpi_channel_at(fake.hub, index);
        model.channels[i].idle_order = 0;
        CHECK(ch->idle);
    }
    for (i = fake.hub->idle.head; i != LPI_NONE; i = lpi_channel_at(fake.hub, i)->idle_link.next)
        model.channels[lpi_channel_at(fake.hub, i)->name[0] - 'a'].idle_order = ++model.order;
    for (k = 0; all && k < POLLS; k++)
        CHECK(model.polls[k].loop != loop_index || !model_behind(&model.polls[k]));
}

/* ---- polls */

static const char *model_refusal(const model_poll *poll) {
    uint32_t i, all = 0, client = 0, address = 0;
    for (i = 0; i < POLLS; i++) {
        if (!model.polls[i].parked) continue;
        all++;
        client += model.polls[i].client == poll->client;
        address += model.polls[i].address == poll->address;
    }
    if (all >= fake.config->waiters_max) return "Server at capacity";
    if (client >= fake.config->waiters_per_client) return "Too many connections from client";
    for (i = 0; i < poll->count; i++)
        if (model_waiters(poll->names[i]) >= fake.config->waiters_per_channel)
            return "Channel at capacity";
    if (address >= fake.config->waiters_per_address) return "Too many connections from address";
    return NULL;
}

static int model_get_all(const model_poll *poll, uint64_t now_ms) {
    uint32_t n, i;
    for (n = 0; n < poll->count && model_get(poll->names[n], now_ms); n++)
        model.channels[poll->names[n]].pinned = 1;
    for (i = 0; i < n; i++) model.channels[poll->names[i]].pinned = 0;
    return n == poll->count;
}

static lpi_poll_request model_ask(model_poll *poll) {
    lpi_poll_request ask;
    uint32_t i, k, name;
    memset(&ask, 0, sizeof ask);
    poll->basic = unit_one_in(5);
    poll->count = poll->basic ? 1 : 1 + unit_below(3);
    for (i = 0; i < poll->count; i++) {
        do {
            name = unit_below(NAMES);
            for (k = 0; k < i && poll->names[k] != name; k++) {}
        } while (k < i);
        poll->names[i] = name;
        ask.names[i] = lp_s(model_name(name));
        ask.hashes[i] = lpi_channel_hash(fake.hub, ask.names[i]);
        ask.requested[i] = poll->basic ? model_claim_time(&model.channels[name])
                                    : model_claim(&model.channels[name], name);
    }
    poll->limit = poll->basic ? 1 : 1 + unit_below(6);
    poll->client = unit_below(6);
    poll->address = unit_below(2);
    ask.count = poll->count;
    ask.basic = (uint8_t)poll->basic;
    ask.limit = (uint16_t)poll->limit;
    ask.wait_ms = unit_one_in(8) ? 0 : 30000;
    ask.client_key = 1000 + poll->client;
    ask.address_key = 2000 + poll->address;
    return ask;
}

static void model_ask_one(model_poll *poll) {
    lpi_poll_request ask;
    lpi_reason reason[3];
    const char *why;
    int status, answer = 0;
    uint32_t i;
    poll->loop = unit_below(3);
    ask = model_ask(poll);
    poll->connection = fake_connect(poll->loop);
    status = fake_poll(poll->loop, poll->connection, &ask);
    if (!model_get_all(poll, fake.loops[poll->loop].now_ms)) {
        CHECK_INT(status, 503);
        CHECK_INT(fake.result, LP_ERR_FULL);
        fake_hang_up(poll->loop, poll->connection);
        return;
    }
    CHECK_INT(fake.result, LP_OK);
    for (i = 0; i < poll->count; i++) { /* those made just now have their epoch */
        model_channel *ch = &model.channels[poll->names[i]];
        if (!ch->epoch) ch->epoch = fake_channel(model_name(poll->names[i]))->epoch;
        reason[i] = model_judge(ch, &ask.requested[i], &poll->seq[i]);
        if (poll->seq[i] < ch->last || (reason[i] && !poll->basic)) answer = 1;
    }
    if (answer || !ask.wait_ms) {
        CHECK_INT(status, 0);
        CHECK_INT(fake_phase(poll->loop, poll->connection), LPI_SERVING);
        model_check_reply(poll->loop, fake_plan(poll->loop, 0), poll, poll->seq, reason);
        fake_flush(poll->loop);
        return;
    }
    why = model_refusal(poll);
    if (why) {
        CHECK_INT(status, 429);
        CHECK_STR(lp_s(fake.why), why);
        fake_hang_up(poll->loop, poll->connection);
        model.refused++;
        return;
    }
    CHECK_INT(status, 0);
    CHECK_INT(fake_phase(poll->loop, poll->connection), LPI_PARKED);
    poll->reset = reason[0];
    poll->parked = 1;
    model.parked++;
    for (i = 0; i < poll->count; i++)
        model_settle(poll->names[i], fake.loops[poll->loop].now_ms);
}

/* The waiters are given back in the order of the poll. */
static void model_end_wait(model_poll *poll) {
    lpi_loop *loop = &fake.loops[poll->loop];
    if (unit_one_in(2)) {
        fake_hang_up(poll->loop, poll->connection);
    } else {
        lpi_deliver_release(loop, poll->connection);
        model_check_released(poll->loop, fake_plan(poll->loop, 0), poll);
        fake_flush(poll->loop);
    }
    model_gone(poll, loop->now_ms);
}

static void model_sweep(void) {
    uint64_t now_ms = fake.loops[0].now_ms;
    if (now_ms < fake.hub->sweep_ms) return;
    fake_sweep();
    while (model_oldest() != NAMES &&
           model_aged(model.channels[model_oldest()].held[0].born_ms, now_ms))
        model_evict(model_oldest(), now_ms);
    while (model_idlest() != NAMES &&
           model_aged(model.channels[model_idlest()].idle_ms, now_ms))
        model_forget(model_idlest());
}

static void model_time(void) {
    uint32_t i;
    fake.now_us += unit_below(unit_one_in(20) ? 600000 : 4000);
    if (unit_one_in(2)) fake.wall_us += unit_below(4000);
    if (unit_one_in(50)) fake.wall_us += UINT64_C(5000000);
    if (unit_one_in(50)) fake.wall_us -= UINT64_C(5000000);
    for (i = 0; i < 3; i++)
        if (unit_one_in(2) || fake.loops[i].now_ms + 5 < fake_now())
            fake.loops[i].now_ms = fake_now();
    fake.lag_ms = 1000; /* of what was noted by a clock that lagged, to be sure */
}

TEST(waiter_model) {
    int i, rounds = unit_rounds(100000);
    fake_start(3);
    memset(&model, 0, sizeof model);
    fake.config->channels_max = 5;
    fake.config->history_count = 5;
    fake.config->history_age_ms = 900;
    fake.config->history_bytes = 14 * 200;
    fake.config->waiters_max = 14;
    fake.config->waiters_per_client = 4;
    fake.config->waiters_per_channel = 6;
    fake.config->waiters_per_address = 9;
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
        case 2: model_deliver(unit_below(3)); break;
        case 3: model_sweep(); break;
        case 4: model_time(); break;
        default:
            if (poll->parked && unit_one_in(busy ? 12 : 2)) model_end_wait(poll);
            else if (!poll->parked && (busy || unit_one_in(8))) model_ask_one(poll);
        }
        model_compare();
        check_hub();
    }
    CHECK_INT(fake.hub->stats.delivered, model.delivered);
    CHECK_INT(fake.hub->stats.resets, model.resets);
    CHECK_INT(fake.hub->stats.refused, model.refused);
    if (rounds > 50000) /* that it went everywhere */
        CHECK(model.forgotten > 60 && model.refused > 100 && model.resets > 500 &&
              model.parked > 2000 && fake.hub->stats.evicted > 5000);
    fake_end();
}

/* ---- the promise, as a client of a remote store sees it ----

   Channels are fetched, fetched again, and now and then their store begins another epoch.
   Every client sends back the cursors that it was last given; what it then gets follows
   on, or it is told, and told for a reason. */

enum { STORED = 4, CLIENTS = 14 };

typedef struct remote_client {
    int waits;
    uint32_t loop, connection, count, names[2];
    uint64_t epoch[2], seq[2]; /* had; epoch 0: nothing yet */
} remote_client;

static struct {
    uint64_t epoch[STORED], last[STORED];
    remote_client clients[CLIENTS];
    uint32_t judged, resets, messages;
} remote;

static void remote_arrive(uint32_t name) {
    uint32_t index = fake_find(model_name(name));
    lpi_channel *ch;
    if (index == LPI_NONE) return;
    ch = lpi_channel_at(fake.hub, index);
    if (!ch->fetching) return;
    if (ch->epoch != remote.epoch[name]) {
        while (ch->held) lpi_hub_evict(fake.hub, ch->ring[ch->ring_at], fake_now());
        ch->epoch = remote.epoch[name];
        ch->epoch_number++;
        ch->last = remote.last[name];
        ch->waiters_since_publish = 0;
    }
    CHECK_INT(ch->last, remote.last[name]);
    lpi_hub_loaded(fake.hub, index);
}

/* It must be asked for again; the store may have lost everything meanwhile. */
static void remote_lose(uint32_t name) {
    uint32_t index = fake_find(model_name(name));
    if (index != LPI_NONE) lpi_channel_at(fake.hub, index)->fetching = 1;
    if (!unit_one_in(4)) return;
    if (index == LPI_NONE || lpi_channel_at(fake.hub, index)->fetching) {
        remote.epoch[name] = unit_random();
        remote.last[name] = unit_below(4);
    }
}

static void remote_publish(uint32_t name) {
    uint32_t index = fake_find(model_name(name));
    if (index == LPI_NONE || lpi_channel_at(fake.hub, index)->fetching) return;
    fake_publish(model_name(name));
    index = fake_find(model_name(name));
    if (lpi_channel_at(fake.hub, index)->fetching) { /* it was forgotten, and made again */
        remote.epoch[name] = lpi_channel_at(fake.hub, index)->epoch;
        remote.last[name] = 0;
    }
    remote.last[name]++;
}

static void remote_read(remote_client *client, uint32_t loop, const lpi_reply *reply) {
    uint32_t i, k;
    CHECK_INT(reply->channel_count, client->count);
    for (i = 0; i < client->count; i++) {
        const lpi_channel *ch = fake_channel(model_name(client->names[i]));
        uint64_t seq = client->seq[i], epoch = reply->at[i].epoch;
        CHECK(epoch == ch->epoch);
        if (reply->at[i].reason) {
            remote.resets++;
            CHECK(reply->at[i].reason != LPI_AHEAD); /* nobody made a cursor up */
            if (reply->at[i].reason == LPI_EPOCH) CHECK(client->epoch[i] != epoch);
            if (client->epoch[i] && reply->at[i].reason == LPI_EVICTED)
                CHECK(client->epoch[i] == epoch && seq < lpi_channel_floor(ch));
            seq = lpi_channel_floor(ch);
        } else if (client->epoch[i]) {
            CHECK(client->epoch[i] == epoch);
        } else { /* it asked for what comes from now on */
            seq = reply->at[i].seq;
            for (k = 0; k < reply->count; k++)
                seq -= lpi_channel_at(fake.hub, fake_message(loop, reply, k)->channel) == ch;
        }
        for (k = 0; k < reply->count; k++) {
            const lpi_message *m = fake_message(loop, reply, k);
            if (lpi_channel_at(fake.hub, m->channel) != ch) continue;
            CHECK_INT(m->seq, ++seq); /* exactly once, and in order */
            remote.messages++;
        }
        CHECK_INT(reply->at[i].seq, seq);
        client->epoch[i] = epoch;
        client->seq[i] = seq;
    }
    client->waits = 0;
}

static void remote_take(uint32_t loop_index) {
    lpi_loop *loop = &fake.loops[loop_index];
    uint32_t i, k;
    for (i = 0; i < loop->batch.recipient_count; i++) {
        for (k = 0; k < CLIENTS; k++)
            if (remote.clients[k].waits && remote.clients[k].loop == loop_index &&
                remote.clients[k].connection == loop->batch.recipients[i].connection)
                break;
        CHECK(k < CLIENTS);
        remote_read(&remote.clients[k], loop_index, fake_plan(loop_index, i));
    }
    fake_flush(loop_index);
}

static void remote_ask(remote_client *client) {
    lpi_poll_request ask;
    uint32_t i;
    client->loop = unit_below(3); /* a client may move, with its cursor */
    client->connection = fake_connect(client->loop);
    ask = fake_ask(client->count == 1 ? "a" : "a,b", "");
    for (i = 0; i < client->count; i++) {
        ask.names[i] = lp_s(model_name(client->names[i]));
        ask.hashes[i] = lpi_channel_hash(fake.hub, ask.names[i]);
        ask.requested[i].kind = client->epoch[i] ? LPI_FROM_CURSOR : LPI_FROM_NOW;
        ask.requested[i].epoch = client->epoch[i];
        ask.requested[i].seq = client->seq[i];
    }
    ask.limit = (uint16_t)(1 + unit_below(5));
    CHECK_INT(fake_poll(client->loop, client->connection, &ask), 0);
    client->waits = 1;
    if (fake_phase(client->loop, client->connection) == LPI_FETCHING) remote.judged++;
    remote_take(client->loop);
}

static void remote_leave(remote_client *client) {
    if (unit_one_in(2) || fake_phase(client->loop, client->connection) == LPI_FETCHING) {
        fake_hang_up(client->loop, client->connection);
        client->waits = 0;
    } else {
        lpi_deliver_release(&fake.loops[client->loop], client->connection);
        remote_take(client->loop);
    }
}

static void remote_step(void) {
    remote_client *client = &remote.clients[unit_below(CLIENTS)];
    uint32_t name = unit_below(STORED), loop = unit_below(3);
    switch (unit_below(10)) {
    case 0:
    case 1: remote_publish(name); break;
    case 2: remote_arrive(name); break;
    case 3: if (unit_one_in(4)) remote_lose(name); break;
    case 4:
        lpi_deliver_waiter_list(&fake.loops[loop]);
        remote_take(loop);
        break;
    case 5: fake_tick(unit_below(20)); break;
    case 6: if (fake_now() >= fake.hub->sweep_ms) fake_sweep(); break;
    default:
        if (!client->waits) remote_ask(client);
        else if (unit_one_in(6)) remote_leave(client);
    }
}

static void remote_start(void) {
    uint32_t i;
    fake_start(3);
    memset(&remote, 0, sizeof remote);
    fake.hub->remote = fake.arrives_twice = 1;
    fake.config->history_count = 4;
    fake.config->history_age_ms = 1000;
    for (i = 0; i < STORED; i++) {
        remote.epoch[i] = unit_random();
        remote.last[i] = unit_below(9);
    }
    for (i = 0; i < CLIENTS; i++) {
        remote.clients[i].count = 1 + i % 2;
        remote.clients[i].names[0] = unit_below(STORED);
        remote.clients[i].names[1] = (remote.clients[i].names[0] + 1) % STORED;
    }
}

TEST(fetching_clients_get_everything_or_are_told) {
    int i, rounds = unit_rounds(100000);
    uint32_t k, loop;
    remote_start();
    for (i = 0; i < rounds; i++) {
        remote_step();
        check_hub();
    }
    for (k = 0; k < STORED; k++) remote_arrive(k);
    for (loop = 0; loop < 3; loop++)
        while (lpi_deliver_waiter_list(&fake.loops[loop])) remote_take(loop);
    for (loop = 0; loop < 3; loop++) CHECK_INT(fake.loops[loop].phases[LPI_FETCHING], 0);
    check_hub();
    if (rounds > 50000) /* that it went everywhere */
        CHECK(remote.judged > 1000 && remote.resets > 500 && remote.messages > 5000);
    fake_end();
}
