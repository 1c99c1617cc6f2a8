/* >>hub: history, forgetting, sweeps, and who is woken. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "fake.h"

/* What one message takes that fake_publish makes, on a channel with a name of one byte. */
static uint64_t message_bytes(void) {
    static uint64_t bytes;
    if (!bytes) {
        fake_publish("?");
        bytes = fake.hub->stats.history_bytes;
        fake_tick(fake.config->history_age_ms);
        while (fake.hub->stats.channels) {
            fake_sweep();
            fake_tick(fake.config->history_age_ms);
        }
        fake.hub->stats.published = fake.hub->stats.evicted = 0;
    }
    return bytes;
}

/* ---- what is evicted, and in what order ---- */

TEST(hub_evicts_by_count) {
    lpi_channel *ch;
    fake_start(1);
    fake.config->history_count = 3;
    fake_publish_many("a", 3);
    fake_publish_many("b", 3);
    CHECK_INT(fake.hub->stats.evicted, 0);
    fake_publish("a");
    ch = fake_channel("a");
    CHECK_INT(ch->held, 3);
    CHECK_INT(lpi_channel_floor(ch), 1);
    CHECK_INT(fake_channel("b")->held, 3); /* has a count of its own */
    CHECK_INT(fake.hub->stats.evicted, 1);
    CHECK_INT(fake.hub->stats.messages, 6);
    check_hub();
    fake_end();
}

TEST(hub_count_of_one) {
    uint32_t n;
    fake_start(1);
    fake.config->history_count = 1;
    for (n = 1; n < 6; n++) {
        fake_publish("a");
        CHECK_INT(fake_channel("a")->held, 1);
        CHECK_INT(fake_channel("a")->ring[0]->seq, n);
        CHECK(!fake_channel("a")->idle);
        check_hub();
    }
    fake_end();
}

/* A channel's own messages are looked at whenever it is found: no sweep is needed. */
TEST(hub_evicts_by_age_to_the_millisecond) {
    fake_start(1);
    fake.config->history_age_ms = 1000;
    fake_publish("a");
    fake_tick(400);
    fake_publish("a");
    fake_tick(599);
    CHECK_INT(fake_make("a")->held, 2);
    fake_tick(1);
    CHECK_INT(fake_make("a")->held, 1);
    CHECK_INT(lpi_channel_floor(fake_channel("a")), 1);
    check_hub();
    fake_tick(399);
    CHECK_INT(fake_make("a")->held, 1);
    fake_tick(1);
    CHECK_INT(fake_make("a")->held, 0);
    CHECK_INT(fake_channel("a")->last, 2);
    check_hub();
    fake_end();
}

TEST(hub_age_may_be_unlimited) {
    fake_start(1);
    fake.config->history_age_ms = LP_UNLIMITED;
    fake_publish("a");
    fake_make("b");
    fake_tick(4000000000u);
    fake_tick(4000000000u);
    CHECK_INT(fake.hub->sweep_ms, UINT64_MAX);
    fake_sweep();
    CHECK_INT(fake_make("a")->held, 1);
    CHECK(fake_find("b") != LPI_NONE);
    CHECK_INT(fake.hub->sweep_ms, UINT64_MAX);
    check_hub();
    fake_end();
}

/* The oldest of all channels goes first. */
TEST(hub_evicts_by_bytes_over_all_channels) {
    uint64_t one;
    fake_start(1);
    one = message_bytes();
    fake.config->history_bytes = 4 * one;
    fake_publish("a");
    fake_publish("b");
    fake_publish("a");
    fake_publish("c");
    CHECK_INT(fake.hub->stats.messages, 4);
    CHECK_INT(fake.hub->stats.history_bytes, 4 * one);
    fake_publish("c");
    CHECK_INT(fake_channel("a")->held, 1);
    CHECK_INT(fake_channel("b")->held, 1);
    fake_publish("c");
    CHECK_INT(fake_channel("b")->held, 0);
    CHECK(fake_channel("b")->idle);
    fake_publish("c");
    CHECK_INT(fake_channel("a")->held, 0);
    CHECK_INT(fake_channel("c")->held, 4);
    check_hub();
    fake_publish("c");
    CHECK_INT(fake_channel("c")->held, 4);
    check_hub();
    fake_end();
}

TEST(hub_newest_is_never_evicted_by_its_own_append) {
    int i;
    fake_start(1);
    fake.config->history_bytes = 1;
    for (i = 0; i < 5; i++) {
        fake_publish("a");
        CHECK_INT(fake_channel("a")->held, 1);
        CHECK_INT(fake.hub->stats.messages, 1);
        fake_publish("b");
        CHECK_INT(fake_channel("a")->held, 0);
        CHECK_INT(fake_channel("b")->held, 1);
        check_hub();
    }
    fake_end();
}

TEST(hub_bytes_may_be_unlimited) {
    fake_start(1);
    fake.config->history_bytes = LP_UNLIMITED;
    fake.hub->stats.pinned_bytes = UINT64_C(1) << 40;
    fake_publish_many("a", 10);
    CHECK_INT(fake.hub->stats.messages, 10);
    fake_end();
}

/* Replies that slow readers hold up count in. */
TEST(hub_pinned_bytes_count_in) {
    uint64_t one;
    fake_start(1);
    one = message_bytes();
    fake.config->history_bytes = 4 * one;
    fake_publish_many("a", 4);
    fake.hub->stats.pinned_bytes = 2 * one;
    fake_publish("a");
    CHECK_INT(fake_channel("a")->held, 2);
    fake.hub->stats.pinned_bytes = 0;
    fake_publish_many("a", 2);
    CHECK_INT(fake_channel("a")->held, 4);
    check_hub();
    fake_end();
}

/* ---- clocks that are not quite the same: a loop's is of the beginning of its step, a
   publisher's of before it got the mutex ---- */

TEST(hub_message_newer_than_the_finder_is_not_old) {
    lp_slice name = LPI_S("a");
    uint64_t hash;
    fake_start(1);
    fake_publish("a");
    hash = lpi_hash(fake.hub->hash_key, 'c', name);
    CHECK(lpi_channel_find(fake.hub, name, hash, fake_now() - 5) != LPI_NONE);
    CHECK_INT(fake_channel("a")->held, 1);
    check_hub();
    fake_end();
}

TEST(hub_poll_in_the_step_of_a_publish_sees_it) {
    lpi_poll_request ask;
    char id[40];
    uint32_t c;
    fake_start(1);
    id[lpi_put_id(id, fake_make("a")->epoch, 0)] = 0;
    fake.now_us += 3000; /* while the loop's step goes on */
    fake_publish("a");
    c = fake_connect(0);
    ask = fake_ask("a", id);
    CHECK_INT(fake_poll(0, c, &ask), 0);
    CHECK_INT(fake_plan(0, 0)->reason, LPI_NO_RESET);
    CHECK_INT(fake_plan(0, 0)->count, 1);
    check_hub();
    fake_flush(0);
    fake_end();
}

TEST(hub_sweep_with_an_older_clock_evicts_nothing) {
    fake_start(1);
    fake.now_us += 3000; /* and the loop doesn't know */
    fake_publish("a");
    fake_sweep();
    CHECK_INT(fake_channel("a")->held, 1);
    fake_end();
}

TEST(hub_channel_idle_since_later_is_not_forgotten) {
    uint64_t epoch;
    lpi_poll_request ask;
    char id[40];
    uint32_t c;
    fake_start(1);
    fake.now_us += 3000;
    epoch = fake_make("a")->epoch; /* as a publisher that then fails */
    id[lpi_put_id(id, epoch, 0)] = 0;
    c = fake_connect(0);
    ask = fake_ask("a", id);
    CHECK_INT(fake_poll(0, c, &ask), 0);
    CHECK_INT(fake_phase(0, c), LPI_PARKED);
    CHECK(fake_channel("a")->epoch == epoch);
    fake_hang_up(0, c);
    fake_sweep();
    CHECK(fake_find("a") != LPI_NONE);
    fake_end();
}

/* ---- idle channels, and forgetting them ---- */

TEST(hub_idle_channel_is_forgotten_after_the_historys_age) {
    uint64_t epoch;
    fake_start(1);
    fake.config->history_age_ms = 1000;
    fake_publish("a");
    epoch = fake_channel("a")->epoch;
    fake_tick(1000);
    CHECK_INT(fake_make("a")->held, 0); /* idle from here */
    CHECK(fake_channel("a")->idle);
    fake_tick(999);
    CHECK(fake_make("a")->epoch == epoch);
    fake_tick(1);
    CHECK(fake_make("a")->epoch != epoch);
    CHECK_INT(fake_channel("a")->last, 0);
    CHECK_INT(fake.hub->stats.channels, 1);
    check_hub();
    fake_end();
}

TEST(hub_waiter_or_message_keeps_a_channel) {
    uint32_t a;
    fake_start(1);
    fake.config->history_age_ms = 1000;
    a = fake_park(0, "a", "");
    fake_park(0, "b", "");
    fake_tick(500);
    fake_publish("b");
    CHECK_INT(fake_deliver(0), 1);
    fake_flush(0);
    fake_tick(100000);
    fake_sweep();
    CHECK(fake_find("a") != LPI_NONE);
    CHECK(fake_find("b") != LPI_NONE); /* it has fallen idle now */
    CHECK_INT(fake_phase(0, a), LPI_PARKED);
    CHECK_INT(fake_channel("b")->idle, 1);
    check_hub();
    fake_hang_up(0, a);
    CHECK(fake_channel("a")->idle);
    fake_tick(1000);
    fake_sweep();
    CHECK_INT(fake.hub->stats.channels, 0);
    check_hub();
    fake_end();
}

/* Its epoch and its timestamps are new, above those of all that were forgotten. */
TEST(hub_channel_made_again_is_another) {
    uint64_t epoch, last_us, start, other_us;
    lpi_requested requested;
    uint64_t seq;
    fake_start(1);
    fake.config->history_age_ms = 1000;
    last_us = fake_publish("a").timestamp_us;
    epoch = fake_channel("a")->epoch;
    fake_tick(500);
    other_us = fake_publish("b").timestamp_us; /* the highest */
    CHECK(other_us > last_us);
    fake_tick(1000);
    fake_sweep();
    fake_tick(1000);
    fake_sweep();
    CHECK_INT(fake.hub->stats.channels, 0);
    CHECK(fake.hub->forgotten_us >= other_us);
    fake.wall_us = 5; /* long ago */
    start = fake_make("a")->start_us;
    CHECK(start > other_us);
    CHECK(fake_channel("a")->epoch != epoch);
    CHECK(fake_publish("a").timestamp_us > start);
    requested.kind = LPI_FROM_TIME;
    requested.seq = last_us;
    CHECK_INT(lpi_channel_judge(fake_channel("a"), &requested, &seq), LPI_EPOCH);
    requested.seq = other_us;
    CHECK_INT(lpi_channel_judge(fake_channel("a"), &requested, &seq), LPI_EPOCH);
    requested.kind = LPI_FROM_CURSOR;
    requested.epoch = epoch;
    requested.seq = 1;
    CHECK_INT(lpi_channel_judge(fake_channel("a"), &requested, &seq), LPI_EPOCH);
    check_hub();
    fake_end();
}

TEST(hub_full_table_forgets_the_longest_idle) {
    fake_start(1);
    fake.config->channels_max = 3;
    fake_make("a");
    fake_tick(10);
    fake_make("b");
    fake_tick(10);
    fake_make("c");
    fake_tick(10);
    fake_publish("a"); /* not idle any more */
    fake_make("d");
    CHECK(fake_find("b") == LPI_NONE);
    CHECK_INT(fake.hub->stats.channels, 3);
    check_hub();
    fake_make("e");
    CHECK(fake_find("c") == LPI_NONE);
    CHECK(fake_find("a") != LPI_NONE);
    check_hub();
    fake_end();
}

TEST(hub_full_table_without_an_idle_channel) {
    lp_published out;
    uint32_t index = 77, c;
    lpi_poll_request ask;
    fake_start(1);
    fake.config->channels_max = 2;
    fake_publish("a");
    fake_park(0, "b", "");
    CHECK_INT(lpi_channel_get(fake.hub, LPI_S("c"), lpi_channel_hash(fake.hub, LPI_S("c")), fake_now(), &index), LP_ERR_FULL);
    CHECK_INT(index, 77);
    CHECK_INT(fake_try_publish("c", "{}", &out), LP_ERR_FULL);
    c = fake_connect(0);
    ask = fake_ask("c", "");
    CHECK_INT(fake_poll(0, c, &ask), 503);
    CHECK_INT(fake.result, LP_ERR_FULL);
    CHECK_INT(fake.hub->stats.channels, 2);
    CHECK_INT(fake_publish("b").waiters, 1);
    check_hub();
    fake_end();
}

/* Making one channel of a poll must not forget another of the same poll. */
TEST(hub_channels_of_one_poll_are_pinned) {
    lpi_poll_request ask;
    uint32_t c;
    fake_start(1);
    fake.config->channels_max = 3;
    fake_make("a");
    fake_tick(10);
    fake_make("b");
    fake_tick(10);
    fake_make("c");
    c = fake_park(0, "a,x,y", ""); /* a is the longest idle */
    CHECK(fake_find("a") != LPI_NONE && fake_find("x") != LPI_NONE);
    CHECK(fake_find("b") == LPI_NONE && fake_find("c") == LPI_NONE);
    check_hub();
    fake_hang_up(0, c);
    c = fake_connect(0);
    ask = fake_ask("p,q,r,s", "");
    CHECK_INT(fake_poll(0, c, &ask), 503);
    CHECK_INT(fake.result, LP_ERR_FULL);
    CHECK(fake.hub->idle.head != LPI_NONE); /* pinned no more */
    check_hub();
    fake_end();
}

TEST(hub_no_random_no_channel) {
    uint32_t index = 77;
    lp_published out;
    fake_start(1);
    fake.no_random = 1;
    CHECK_INT(lpi_channel_get(fake.hub, LPI_S("a"), lpi_channel_hash(fake.hub, LPI_S("a")), fake_now(), &index), LP_ERR_OS);
    CHECK_INT(fake_try_publish("a", "{}", &out), LP_ERR_OS);
    CHECK_INT(fake.hub->stats.channels, 0);
    check_hub();
    fake_end();
}

/* What is forgotten makes room for a channel; if that can't be made, nothing is. */
TEST(hub_forgets_none_for_a_channel_that_is_not_made) {
    const lp_slice other = LPI_S("a name that needs memory");
    lp_published out;
    uint32_t index = 77, was, k;
    fake_start(1);
    fake.config->channels_max = 1;
    fake_make("a");
    was = fake_find("a");
    fake.no_random = 1;
    CHECK_INT(lpi_channel_get(fake.hub, other, lpi_channel_hash(fake.hub, other), fake_now(),
                              &index), LP_ERR_OS);
    fake.no_random = 0;
    for (k = 1; k <= 2; k++) { /* the record's chunk, or its name */
        fake.memory.fail_at = fake.memory.calls + k;
        if (lpi_channel_get(fake.hub, other, lpi_channel_hash(fake.hub, other), fake_now(),
                            &index) == LP_OK) break;
        CHECK_INT(index, 77);
        CHECK_INT(fake_find("a"), was);
        check_hub();
    }
    CHECK(k > 1);
    fake.memory.fail_at = 0;
    CHECK_INT(fake_try_publish("b", "{}", &out), LP_OK);
    CHECK_INT(fake_find("a"), LPI_NONE);
    CHECK_INT(fake.hub->stats.channels, 1);
    check_hub();
    fake_end();
}

/* ---- a waiter list that is ready, though nobody is left in it ---- */

/* Publish on `name` for one poll, which goes before it is served. */
static void leave_a_ready_view(const char *name) {
    uint32_t c = fake_park(0, name, "");
    CHECK_INT(fake_publish(name).waiters, 1);
    fake_hang_up(0, c);
    CHECK_INT(fake_channel(name)->waiters, 0);
    check_hub();
}

TEST(hub_full_table_keeps_what_a_loop_is_about_to_serve) {
    uint64_t one;
    uint32_t c;
    lpi_poll_request ask;
    fake_start(1);
    one = message_bytes();
    fake.config->channels_max = 2;
    fake.config->history_bytes = one;
    leave_a_ready_view("a");
    fake_publish("b"); /* pushes a's message out: a is idle but for its waiter list */
    CHECK_INT(fake_channel("a")->held, 0);
    check_hub();
    c = fake_connect(0);
    ask = fake_ask("c", "");
    (void)fake_poll(0, c, &ask); /* parked, or 503 while the waiter list is there */
    check_hub();
    CHECK_INT(fake_deliver(0), 0);
    check_hub();
    if (fake_phase(0, c) == LPI_PARKED) {
        CHECK_INT(fake_publish("c").waiters, 1);
        CHECK_INT(fake_deliver(0), 1);
        fake_flush(0);
    }
    check_hub();
    fake_end();
}

TEST(hub_aged_channel_with_a_ready_view) {
    fake_start(1);
    fake.config->history_age_ms = 100;
    leave_a_ready_view("a");
    fake_tick(100);
    fake_sweep();
    CHECK_INT(fake_channel("a")->held, 0);
    fake_tick(1000);
    fake_sweep();
    check_hub();
    CHECK_INT(fake_deliver(0), 0);
    fake_tick(1000);
    fake_sweep();
    CHECK_INT(fake.hub->stats.channels, 0);
    CHECK_INT(fake.hub->lists.used, 0);
    check_hub();
    fake_end();
}

/* lp_publish, then lp_destroy, with a poll parked. */
TEST(hub_is_freed_with_a_ready_view) {
    fake_start(2);
    fake_park(0, "a", "");
    fake_park(1, "a,b", "");
    fake_publish("a");
    check_hub();
    fake_end();
}

/* ---- sweeps ---- */

TEST(hub_sweep_is_wanted_when_the_first_message_is_old) {
    fake_start(1);
    fake.config->history_age_ms = 5000;
    CHECK_INT(fake.hub->sweep_ms, UINT64_MAX);
    fake_publish("a");
    CHECK_INT(fake.hub->sweep_ms, fake_now() + 5000);
    fake_tick(300);
    fake_publish("a");
    CHECK_INT(fake.hub->sweep_ms, fake_now() + 4700);
    fake_tick(4700);
    CHECK_STR(fake_sweep(), "");
    CHECK_INT(fake.hub->stats.messages, 1);
    CHECK_INT(fake.hub->sweep_ms, fake_now() + LPI_SWEEP_MS); /* not for 300 ms */
    fake_tick(1000);
    fake_sweep();
    CHECK_INT(fake.hub->stats.messages, 0);
    CHECK_INT(fake.hub->sweep_ms, fake_now() + 5000); /* then a is forgotten */
    fake_tick(5000);
    fake_sweep();
    CHECK_INT(fake.hub->stats.channels, 0);
    CHECK_INT(fake.hub->sweep_ms, UINT64_MAX); /* an idle server sleeps */
    check_hub();
    fake_end();
}

TEST(hub_sweep_is_bounded) {
    uint32_t left = 1000;
    fake_start(1);
    fake.config->history_age_ms = 1000;
    fake_publish_many("a", 500);
    fake_publish_many("b", 500);
    fake_tick(1000);
    while (left) {
        fake_sweep();
        left -= left < LPI_SWEEP_MAX ? left : LPI_SWEEP_MAX;
        CHECK_INT(fake.hub->stats.messages, left);
        check_hub();
        if (left) CHECK_INT(fake.hub->sweep_ms, fake_now()); /* at once again */
    }
    CHECK(fake.hub->sweep_ms > fake_now());
    fake_end();
}

TEST(hub_channels_are_swept_in_the_same_bound) {
    char name[16];
    int i;
    fake_start(1);
    fake.config->history_age_ms = 1000;
    for (i = 0; i < 200; i++) {
        sprintf(name, "%d", i);
        fake_make(name);
    }
    fake_publish_many("m", 100);
    fake_tick(1000);
    fake_sweep();
    CHECK_INT(fake.hub->stats.messages, 0);
    CHECK_INT(fake.hub->stats.channels, 201 - (LPI_SWEEP_MAX - 100));
    CHECK_INT(fake.hub->sweep_ms, fake_now());
    check_hub();
    fake_sweep();
    CHECK_INT(fake.hub->stats.channels, 1);
    check_hub();
    fake_end();
}

TEST(hub_sweep_wakes_the_first_loop_only_if_it_is_sooner) {
    fake_start(2);
    fake.config->history_age_ms = 5000;
    fake_sleep(0);
    fake_sleep(1);
    fake_publish("a");
    CHECK_INT(fake.signals[0], 1);
    CHECK_INT(fake.signals[1], 0);
    fake_publish("a"); /* signalled already */
    CHECK_INT(fake.signals[0], 1);
    lpi_loop_wake(&fake.loops[0]);
    fake_sleep(0);
    CHECK_INT(fake.loops[0].sweep_ms, fake_now() + 5000);
    fake_tick(10);
    fake_publish("a"); /* later than it knows of */
    CHECK_INT(fake.signals[0], 1);
    fake.config->history_age_ms = 1000;
    fake_publish("a");
    CHECK_INT(fake.signals[0], 2);
    fake_end();
}

/* ---- channels that were told of ---- */

static void start_watching(uint32_t linger_ms) {
    fake_start(1);
    fake.watching = 1;
    fake.config->watch.channel = fake_watch;
    fake.config->channel_linger_ms = linger_ms;
}

TEST(hub_deserted_channel_is_told_after_it_lingered) {
    uint32_t c;
    start_watching(5000);
    c = fake_park(0, "a", "");
    CHECK(fake.waited_on['a']);
    check_hub();
    fake_sweep();
    fake_hang_up(0, c);
    CHECK_INT(fake.hub->sweep_ms, fake_now() + 5000);
    check_hub();
    fake_tick(4999);
    CHECK_STR(fake_sweep(), "");
    CHECK_INT(fake.hub->sweep_ms, fake_now() + 1);
    fake_tick(1);
    CHECK_STR(fake_sweep(), "a");
    CHECK(!fake_channel("a")->watched && fake_channel("a")->idle);
    CHECK_STR(fake_sweep(), "");
    check_hub();
    fake_end();
}

TEST(hub_channel_that_is_waited_on_again_is_not_deserted) {
    uint32_t c;
    start_watching(5000);
    c = fake_park(0, "a", "");
    fake_hang_up(0, c);
    fake_tick(3000);
    c = fake_park(0, "a", "");
    check_hub();
    fake_tick(3000);
    CHECK_STR(fake_sweep(), "");
    fake_hang_up(0, c);
    fake_tick(4999);
    CHECK_STR(fake_sweep(), "");
    fake_tick(1);
    CHECK_STR(fake_sweep(), "a");
    check_hub();
    fake_end();
}

TEST(hub_tells_of_each_deserted_channel) {
    uint32_t c[3];
    start_watching(0); /* LP_OFF */
    c[0] = fake_park(0, "a", "");
    c[1] = fake_park(0, "b", "");
    c[2] = fake_park(0, "c,b", "");
    fake_hang_up(0, c[0]);
    fake_hang_up(0, c[1]);
    CHECK(fake.hub->sweep_ms <= fake_now());
    CHECK_STR(fake_sweep(), "a");
    fake_hang_up(0, c[2]);
    CHECK(fake.hub->sweep_ms <= fake_now());
    CHECK_STR(fake_sweep(), "c,b");
    CHECK_STR(fake_sweep(), "");
    CHECK(fake.hub->sweep_ms > fake_now());
    check_hub();
    fake_end();
}

/* It counts as idle all the same, and what is forgotten is still told. */
TEST(hub_deserted_channel_that_is_forgotten_is_told) {
    start_watching(5000);
    fake.config->channels_max = 1;
    fake_hang_up(0, fake_park(0, "a", ""));
    fake_publish("b");
    CHECK(fake_find("a") == LPI_NONE);
    CHECK_INT(fake.hub->stats.channels, 1);
    check_hub();
    CHECK(fake.hub->sweep_ms <= fake_now());
    CHECK_STR(fake_sweep(), "a");
    CHECK_STR(fake_sweep(), "");
    check_hub();
    fake_hang_up(0, fake_park(0, "b", "now"));
    CHECK_STR(fake_sweep(), "");
    fake_end(); /* with b still untold */
}

/* What was told last about a channel with polls is that there are some. */
TEST(hub_channel_that_was_forgotten_and_is_waited_on_again) {
    start_watching(5000);
    fake.config->history_age_ms = 100;
    fake_hang_up(0, fake_park(0, "a", ""));
    fake_tick(100); /* idle for long enough to be forgotten, before it is told of */
    fake_park(0, "a", "");
    CHECK(fake.waited_on['a']);
    fake_sweep();
    CHECK(fake.waited_on['a']);
    fake_tick(6000);
    fake_sweep();
    CHECK(fake.waited_on['a']);
    check_hub();
    fake_end();
}

enum { MANY = 700 };

static struct { int waited_on, events; } many[MANY];

static void watch_many(void *ctx, lp_channel_event event, lp_slice channel) {
    char text[8] = "";
    int i;
    memcpy(text, channel.bytes + 1, channel.length - 1);
    i = atoi(text);
    (void)ctx;
    CHECK(i >= 0 && i < MANY);
    CHECK_INT(event, many[i].waited_on ? LP_CHANNEL_VACATED : LP_CHANNEL_OCCUPIED);
    many[i].waited_on = event == LP_CHANNEL_OCCUPIED;
    many[i].events++;
}

/* More channels than one sweep sees to are left and forgotten, and waited on anew before it
   was told: of each name the news come in turns, and the last is that it is waited on. */
TEST(hub_news_of_many_channels_come_in_their_order) {
    static uint32_t c[MANY];
    uint32_t loop_of[MANY], i;
    int round;
    fake_start(2);
    fake.config->watch.channel = watch_many;
    fake.config->channel_linger_ms = 5000;
    fake.config->history_age_ms = 100;
    for (round = 0; round < 3; round++) {
        for (i = 0; i < MANY; i++) {
            char name[16];
            sprintf(name, "c%u", i);
            loop_of[i] = unit_below(2);
            c[i] = fake_park(loop_of[i], name, "");
        }
        if (round == 1) while (fake.hub->news.head != LPI_NONE) fake_tell();
        if (round < 2)
            for (i = 0; i < MANY; i++) fake_hang_up(loop_of[i], c[i]);
        fake_tick(200);
    }
    check_hub();
    while (fake.hub->news.head != LPI_NONE) {
        fake_tell();
        check_hub();
    }
    for (i = 0; i < MANY; i++) {
        CHECK(many[i].waited_on);
        CHECK_INT(many[i].events, 5);
    }
    fake_end();
}

/* One that nobody waits on any more when it is told still was waited on; it has its time from
   then. */
TEST(hub_channel_that_is_left_before_it_is_told) {
    start_watching(5000);
    fake.watching = 0;
    fake_hang_up(0, fake_park(0, "a", ""));
    CHECK(!fake.waited_on['a']);
    fake_tick(1000);
    CHECK(fake.hub->sweep_ms <= fake_now());
    CHECK_STR(fake_sweep(), "");
    CHECK(fake.waited_on['a']);
    fake_tick(4999);
    CHECK_STR(fake_sweep(), "");
    fake_tick(1);
    CHECK_STR(fake_sweep(), "a");
    check_hub();
    fake_end();
}

/* Another loop's news wake the first, which alone tells them. */
TEST(hub_news_wake_the_first_loop) {
    fake_start(3);
    fake.config->watch.channel = fake_watch;
    fake_sleep(0);
    fake_park(2, "a", "");
    CHECK_INT(fake.signals[0], 0);
    fake_sleep(2);
    CHECK_INT(fake.signals[0], 1);
    CHECK(!fake.waited_on['a']);
    fake_sweep();
    CHECK(fake.waited_on['a']);
    fake_end();
}

TEST(hub_name_of_255_bytes_is_told_in_full) {
    char name[LPI_CHANNEL_BYTES + 1];
    start_watching(0);
    memset(name, 'x', LPI_CHANNEL_BYTES);
    name[LPI_CHANNEL_BYTES] = 0;
    fake_hang_up(0, fake_park(0, name, ""));
    CHECK_STR(fake_sweep(), name);
    fake_end();
}

/* ---- publishing ---- */

TEST(hub_publish_says_what_it_gave) {
    lp_published out;
    char want[40];
    int i;
    fake_start(1);
    for (i = 1; i < 20; i++) {
        fake_tick(7);
        CHECK_INT(fake_try_publish("news", "{}", &out), LP_OK);
        snprintf(want, sizeof want, "%016llx-%d",
                 (unsigned long long)fake_channel("news")->epoch, i);
        CHECK_STR(lp_s(out.id), want);
        CHECK_INT(out.timestamp_us, fake.wall_us + (i == 1)); /* above the start */
        CHECK_INT(out.waiters, 0);
        CHECK_INT(fake.hub->stats.published, i);
    }
    fake_end();
}

TEST(hub_publish_after_the_stop) {
    lp_published out;
    fake_start(1);
    fake.hub->stopped = 1;
    CHECK_INT(fake_try_publish("a", "{}", &out), LP_ERR_STOPPED);
    CHECK_INT(fake.hub->stats.channels, 0);
    check_hub();
    fake_end();
}

TEST(hub_waiters_are_those_parked_since_the_last_append) {
    uint32_t c[4], i;
    fake_start(2);
    for (i = 0; i < 4; i++) c[i] = fake_park(i % 2, "a", "");
    fake_park(0, "b", "");
    fake_hang_up(1, c[3]);
    CHECK_INT(fake_publish("a").waiters, 3);
    CHECK_INT(fake_publish("a").waiters, 0); /* woken already */
    check_hub();
    fake_hang_up(0, c[0]); /* woken, and gone before it is served */
    check_hub();
    c[0] = fake_park(0, "a", "now");
    check_hub();
    CHECK_INT(fake_publish("a").waiters, 1);
    CHECK_INT(fake_deliver(0) + fake_deliver(1), 3);
    check_hub();
    CHECK_INT(fake_publish("a").waiters, 0);
    fake_flush(0);
    fake_flush(1);
    check_hub();
    fake_end();
}

/* Each concerned loop that sleeps is signalled, once. */
TEST(hub_signals_the_concerned_loops_once) {
    uint32_t i;
    fake_start(3);
    fake.config->history_age_ms = LP_UNLIMITED;
    fake_park(0, "a", "");
    fake_park(2, "a", "");
    fake_park(2, "a", "");
    fake_park(1, "b", "");
    for (i = 0; i < 3; i++) fake_sleep(i);
    fake_publish("c"); /* nobody's */
    CHECK_INT(fake.signals[0] + fake.signals[1] + fake.signals[2], 0);
    fake_publish("a");
    CHECK_INT(fake.signals[0], 1);
    CHECK_INT(fake.signals[1], 0);
    CHECK_INT(fake.signals[2], 1);
    fake_publish("a");
    fake_publish("a");
    CHECK_INT(fake.signals[0] + fake.signals[2], 2);
    fake_publish("b");
    CHECK_INT(fake.signals[1], 1);
    check_hub();
    for (i = 0; i < 3; i++) lpi_loop_wake(&fake.loops[i]);
    fake_park(1, "a", "now"); /* awake: it looks by itself */
    fake_publish("a");
    CHECK_INT(fake.signals[1], 1);
    CHECK(lpi_loop_sleep(&fake.loops[1])); /* there is work */
    CHECK(!fake.loops[1].sleeping);
    for (i = 0; i < 3; i++) {
        fake_deliver(i);
        fake_flush(i);
        fake_sleep(i);
    }
    check_hub();
    fake_end();
}

TEST(hub_sleepers_is_a_mask) {
    fake_start(3);
    fake.config->history_age_ms = LP_UNLIMITED;
    fake_park(1, "a", "");
    fake_park(2, "a", "");
    fake_sleep(0);
    fake_sleep(2);
    fake_make("z");
    lpi_channel_wake(fake.hub, fake_channel("a"));
    CHECK_INT(lpi_hub_sleepers(fake.hub), 4); /* loop 1 is awake */
    CHECK_INT(lpi_hub_sleepers(fake.hub), 0);
    fake.loops[1].sleeping = 1;
    CHECK_INT(lpi_hub_sleepers(fake.hub), 2);
    CHECK(fake.loops[1].woken && fake.loops[2].woken && !fake.loops[0].woken);
    lpi_hub_signal(fake.hub, 6);
    CHECK_INT(fake.signals[0], 0);
    CHECK_INT(fake.signals[1], 1);
    CHECK_INT(fake.signals[2], 1);
    fake_end();
}

/* A loop has a waiter list of a channel at most once in its list, in the order of waking. */
TEST(hub_ready_list_is_in_the_order_of_waking) {
    static const char *const names[] = {"a", "b", "c"};
    uint32_t i, waiter_list;
    fake_start(1);
    for (i = 0; i < 3; i++) fake_park(0, names[i], "");
    fake_publish("b");
    fake_publish("a");
    fake_publish("b");
    fake_publish("c");
    check_hub();
    waiter_list = fake.loops[0].ready_first;
    CHECK_INT(lpi_waiter_list_at(fake.hub, waiter_list)->channel, fake_find("b"));
    waiter_list = lpi_waiter_list_at(fake.hub, waiter_list)->next_ready;
    CHECK_INT(lpi_waiter_list_at(fake.hub, waiter_list)->channel, fake_find("a"));
    waiter_list = lpi_waiter_list_at(fake.hub, waiter_list)->next_ready;
    CHECK_INT(lpi_waiter_list_at(fake.hub, waiter_list)->channel, fake_find("c"));
    CHECK_INT(lpi_waiter_list_at(fake.hub, waiter_list)->next_ready, LPI_NONE);
    fake_end();
}

/* ---- without memory ---- */

TEST(hub_init_without_memory) {
    size_t k;
    int failed = 1;
    for (k = 1; failed; k++) {
        unit_memory m;
        lp_memory hook;
        lpi_hub hub;
        memset(&m, 0, sizeof m);
        memset(&hub, 0, sizeof hub);
        fake_start(1); /* for its os and configuration */
        m.fail_at = k;
        hook = unit_memory_of(&m);
        failed = lpi_hub_init(&hub, &hook, fake.config, &fake.server.os) != 0;
        CHECK_INT(failed, m.failed != 0);
        lpi_hub_free(&hub);
        CHECK_INT(m.blocks, 0);
        fake_end();
    }
    CHECK(k > 4);
}

TEST(hub_init_without_random) {
    lpi_hub hub;
    memset(&hub, 0, sizeof hub);
    fake_start(1);
    fake.no_random = 1;
    CHECK(lpi_hub_init(&hub, &fake.server.memory, fake.config, &fake.server.os) != 0);
    lpi_hub_free(&hub);
    fake_end();
}

/* Each allocation of a publish fails in turn, on a new channel and on one with a waiter. */
static size_t publish_failing(const char *name, int forever) {
    size_t k;
    int failed = 1;
    for (k = 1; failed; k++) {
        lp_published out;
        lp_result result;
        fake_start(2);
        fake_publish_many("full", 4); /* its ring must grow */
        fake_park(0, "waited", "");
        fake_park(1, "waited", "");
        while (fake_channel("full")->held < fake_channel("full")->ring_size)
            fake_publish("full");
        fake.memory.fail_at = fake.memory.calls + k;
        fake.memory.fail_forever = forever;
        result = fake_try_publish(name, "{}", &out);
        failed = fake.memory.failed != 0;
        if (failed) CHECK_INT(result, LP_ERR_NOMEM);
        else CHECK_INT(result, LP_OK);
        check_hub();
        fake.memory.fail_at = 0;
        CHECK_INT(fake_try_publish(name, "{}", &out), LP_OK);
        CHECK_INT(out.waiters, failed && !strcmp(name, "waited") ? 2 : 0);
        check_hub();
        fake_end();
    }
    return k - 2;
}

TEST(hub_publish_without_memory) {
    CHECK(publish_failing("new, and its name is long", 0) >= 3); /* message, name, ring */
    CHECK(publish_failing("new, and its name is long", 1) >= 3);
    CHECK(publish_failing("new", 0) >= 2);
    CHECK_INT(publish_failing("full", 0), 2);
    CHECK_INT(publish_failing("full", 1), 2);
    CHECK_INT(publish_failing("waited", 0), 2);
}

/* What a burst took is given back: channels, waiter lists, waiters and their table. */
TEST(hub_burst_leaves_nothing_behind) {
    char name[16];
    uint32_t i, count = (uint32_t)unit_rounds(10000);
    size_t before;
    fake_start(1);
    fake.config->history_age_ms = 1000;
    before = fake.memory.bytes;
    for (i = 0; i < count; i++) {
        sprintf(name, "c%u", i);
        fake_publish(name);
    }
    CHECK(fake.memory.bytes > before + count * sizeof(lpi_channel));
    for (i = 0; i < 4 * count / LPI_SWEEP_MAX + 8; i++) {
        fake_tick(1000);
        fake_sweep();
    }
    CHECK_INT(fake.hub->stats.channels, 0);
    CHECK(fake.memory.bytes < before + 64 * sizeof(lpi_channel) + 12 * 1024);
    check_hub();
    fake_end();
}
