/* The steady state, counted: what polls and deliveries allocate (nothing), what
   publishing does (its message), and what is given back after a burst. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

enum { STEADY_CLIENTS = 50, CHANNELS = 5, BURST = 5000 };

static world w;
static peer *steady_clients[BURST];

/* A peer keeps all that it has said and heard: too much for 100,000 cycles. */
static void forget(peer *c)
{
    CHECK_INT(c->in_at, c->in_length);
    c->in_at = c->in_length = c->out_at = c->out_length = 0;
}

/* Exactly one answer has come, a 200; and it has that text. */
static void check_heard(peer *c, const char *text)
{
    lp_slice heard = unheard(c);
    CHECK(heard.length > 15 && !memcmp(heard.bytes, "HTTP/1.1 200 OK", 15));
    CHECK_INT(count_of(heard, "HTTP/1.1 "), 1);
    CHECK(has(heard, text));
    forget(c);
}

static void say_poll(peer *c, const char *target, int i)
{
    char head[256];
    snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: localhost\r\n"
             "X-Client-ID: client-%d\r\n\r\n", target, i);
    say(c, head);
}

static void open_steady(void)
{
    w.unchecked = 1; /* but now and then */
    w.cfg.history_count = 4;
    w.cfg.waiters_per_client = w.cfg.waiters_per_address = LP_UNLIMITED;
    w.cfg.connections_per_address = LP_UNLIMITED;
    open_world(&w);
}

static void check_now(void)
{
    w.unchecked = 0;
    check_world(&w);
    w.unchecked = 1;
}

static void dial_many(int count)
{
    int i;
    for (i = 0; i < count; i++) steady_clients[i] = dial(&w);
    settle(&w);
}

/* A larger reply than those that are counted: the buffers that replies are written in
   are kept, and follow the largest. */
static void warm_up_replies(void)
{
    publish_padded(&w, "warm", 4000);
    say_poll(steady_clients[0], "/api/poll/warm?last_id=0", 0);
    settle(&w);
    check_heard(steady_clients[0], "xxxx");
}

/* ---- park and deliver ---- */

/* Each waits on one channel; every seventh on another one too, that is silent. */
static void park_round(int waiters)
{
    char target[64];
    int i;
    for (i = 0; i < waiters; i++) {
        snprintf(target, sizeof target, "/api/poll/c%d%s?last_id=now&timeout=60",
                 i % CHANNELS, i % 7 ? "" : ",silent");
        say_poll(steady_clients[i], target, i);
    }
    settle(&w);
    CHECK_INT(w.s->hub.stats.waiters, waiters);
}

static void deliver_round(int waiters, int round)
{
    char name[8] = "c0", json[24];
    int i;
    snprintf(json, sizeof json, "{\"n\":%d}", 1000000 + round); /* one length */
    for (i = 0; i < CHANNELS; i++) {
        name[1] = (char)('0' + i);
        publish(&w, name, json);
    }
    settle(&w);
    CHECK_INT(w.s->hub.stats.waiters, 0);
    for (i = 0; i < waiters; i++) check_heard(steady_clients[i], json + 1);
    w.k.now_us += 1000 + unit_below(10000);
}

static void cycles(int waiters, int rounds)
{
    size_t calls, bytes, blocks;
    uint64_t delivered;
    int i;
    memset(&w, 0, sizeof w);
    open_steady();
    dial_many(waiters ? waiters : 1);
    warm_up_replies();
    for (i = 0; i < 20; i++) park_round(waiters), deliver_round(waiters, i);
    calls = w.m.calls;
    bytes = w.m.bytes;
    blocks = w.m.blocks;
    delivered = w.s->hub.stats.delivered;
    for (i = 0; i < rounds; i++) {
        park_round(waiters);
        CHECK_INT(w.m.calls, calls + (size_t)i * CHANNELS); /* parking: none */
        deliver_round(waiters, i);
        if (i % 500 == 0) check_now();
    }
    CHECK_INT(w.s->hub.stats.delivered - delivered, waiters * rounds);
    CHECK_INT(w.m.calls - calls, rounds * CHANNELS); /* one each: the message */
    CHECK_INT(w.m.blocks, blocks);  /* for which another has been given back */
    CHECK_INT(w.m.bytes, bytes);
    check_now();
    close_world(&w);
}

TEST(a_hundred_thousand_deliveries_allocate_their_messages_alone)
{
    cycles(STEADY_CLIENTS, unit_rounds(2000));
}

/* Of more places than a chunk has records, chunks come and go with them. */
TEST(what_is_allocated_does_not_depend_on_the_number_of_waiters)
{
    cycles(0, unit_rounds(200));
    cycles(1, unit_rounds(200));
    cycles(CHANNELS, unit_rounds(200));
    cycles(LPI_CHUNK * 7 / 8, unit_rounds(200)); /* some have two places */
}

/* The body lies in the loop's own buffer. */
TEST(a_publish_by_http_allocates_its_message_alone)
{
    size_t calls = 0, bytes = 0;
    int i, rounds = unit_rounds(5000);
    peer *p;
    open_steady();
    dial_many(STEADY_CLIENTS);
    p = dial(&w);
    warm_up_replies();
    for (i = 0; i < 20 + rounds; i++) {
        char json[24];
        int j;
        if (i == 20) calls = w.m.calls, bytes = w.m.bytes;
        snprintf(json, sizeof json, "{\"n\":%d}", 1000000 + i);
        for (j = 0; j < 2; j++) say_poll(steady_clients[j], "/api/poll/a?last_id=now", j);
        settle(&w);
        post(p, "/api/publish/a", json);
        settle(&w);
        check_heard(p, "\"waiters\":2}");
        for (j = 0; j < 2; j++) check_heard(steady_clients[j], json + 1);
    }
    CHECK_INT(w.m.calls - calls, rounds);
    CHECK_INT(w.m.bytes, bytes);
    check_now();
    close_world(&w);
}

/* Nor do requests that come in two pieces, or one behind another. */
TEST(pieces_and_pipelines_allocate_nothing_once_they_have)
{
    size_t calls = 0;
    int i, j, rounds = unit_rounds(1000);
    open_steady();
    dial_many(STEADY_CLIENTS);
    publish(&w, "a", "{\"n\":1}");
    for (i = 0; i < 20 + rounds; i++) {
        if (i == 20) calls = w.m.calls;
        for (j = 0; j < LPI_SPARE_MAX; j++) /* so many are kept */
            say(steady_clients[j], "GET /api/poll/a?last_id=now&timeout=0 HTTP/1.1\r\nHo");
        settle(&w);
        for (j = 0; j < LPI_SPARE_MAX; j++) say(steady_clients[j], "st: localhost\r\n\r\n");
        settle(&w);
        for (j = 0; j < LPI_SPARE_MAX; j++) check_heard(steady_clients[j], "\"count\":0");
        say_poll(steady_clients[0], "/api/poll/a?last_id=now&timeout=0", 0);
        say_poll(steady_clients[0], "/api/poll/a?last_id=now&timeout=0.001", 0);
        say_poll(steady_clients[0], "/api/poll/a?last_id=0", 0); /* waits behind it */
        settle(&w);
        pass(&w, 4);
        CHECK_INT(count_of(unheard(steady_clients[0]), "HTTP/1.1 200 OK"), 3);
        CHECK_INT(count_of(unheard(steady_clients[0]), "\"n\":1"), 1);
        forget(steady_clients[0]);
        if (i % 100 == 0) check_now();
    }
    CHECK_INT(w.m.calls, calls);
    close_world(&w);
}

/* ---- answered at once ---- */

TEST(a_hundred_thousand_polls_that_are_answered_at_once_allocate_nothing)
{
    static const char *const heard[] = {
        "\"count\":4", "\"n\":4", "\"status\":\"timeout\"", "\"evicted\"",
        "\"count\":4", "\"more\":true", "\"status\":\"message\"", "\"epoch\""};
    char targets[8][160];
    lp_published p[6];
    size_t calls = 0, bytes = 0;
    int i, j, rounds = unit_rounds(2000);
    open_steady();
    dial_many(STEADY_CLIENTS);
    for (i = 0; i < 6; i++) { /* of which four are held */
        char json[24];
        snprintf(json, sizeof json, "{\"n\":%d}", i);
        p[i] = publish(&w, "a", json);
    }
    snprintf(targets[0], sizeof *targets, "/api/poll/a?last_id=%s", p[1].id);
    snprintf(targets[1], sizeof *targets, "/api/poll/a?last_id=%s", p[3].id);
    snprintf(targets[2], sizeof *targets, "/api/poll/a?last_id=%s&timeout=0", p[5].id);
    snprintf(targets[3], sizeof *targets, "/api/poll/a?last_id=%s", p[0].id);
    snprintf(targets[4], sizeof *targets, "/api/poll/a,b?last_id=%s,now", p[1].id);
    snprintf(targets[5], sizeof *targets, "/api/poll/%%61?last_id=%s&limit=2", p[1].id);
    snprintf(targets[6], sizeof *targets, "/api/poll/a?since=1732412345");
    snprintf(targets[7], sizeof *targets, "/api/poll/a?last_id=0123456789abcdef-1");
    for (i = 0; i < 20 + rounds; i++) {
        if (i == 20) calls = w.m.calls, bytes = w.m.bytes;
        for (j = 0; j < STEADY_CLIENTS; j++) say_poll(steady_clients[j], targets[(i + j) % 8], j);
        settle(&w);
        for (j = 0; j < STEADY_CLIENTS; j++) check_heard(steady_clients[j], heard[(i + j) % 8]);
        w.k.now_us += 1000 + unit_below(10000);
        if (i % 500 == 0) check_now();
    }
    CHECK_INT(w.m.calls, calls);
    CHECK_INT(w.m.bytes, bytes);
    close_world(&w);
}

/* The same bytes of all. */
TEST(the_same_poll_by_everybody_allocates_nothing)
{
    size_t calls = 0;
    int i, j, rounds = unit_rounds(2000);
    open_steady();
    dial_many(STEADY_CLIENTS);
    publish(&w, "a", "{\"n\":1}");
    for (i = 0; i < 20 + rounds; i++) {
        if (i == 20) calls = w.m.calls;
        for (j = 0; j < STEADY_CLIENTS; j++) say_poll(steady_clients[j], "/api/poll/a?last_id=0", j);
        settle(&w);
        for (j = 0; j < STEADY_CLIENTS; j++) check_heard(steady_clients[j], "\"n\":1");
    }
    CHECK_INT(w.m.calls, calls);
    close_world(&w);
}

/* ---- after a burst ---- */

/* All of these may stay, whatever there was: of each of the slabs (channels, waiter lists,
   waiters, requested cursors, counters, connections) one empty chunk and its table of chunks, which
   only grows but has 32 bytes for each LPI_CHUNK records; of each table of names
   its last buckets; and the loop's scratch buffers. */
static size_t kept_after_a_burst(int records)
{
    const lpi_hub *hub = &w.s->hub;
    const lpi_loop *loop = &w.s->loops[0];
    size_t bytes = 0;
    bytes += lpi_slab_chunk_bytes(&hub->channels);
    bytes += lpi_slab_chunk_bytes(&hub->lists);
    bytes += lpi_slab_chunk_bytes(&hub->waiters);
    bytes += lpi_slab_chunk_bytes(&hub->requested);
    bytes += 2 * lpi_slab_chunk_bytes(&hub->counters);
    bytes += lpi_slab_chunk_bytes(&loop->connections);
    bytes += 6 * sizeof(lpi_slab_chunk) * 2 * (8 + (size_t)records / LPI_CHUNK);
    return bytes + 4096;
}

static void all_leave(int count, int by_reset)
{
    int i;
    for (i = 0; i < count; i++) {
        if (by_reset) reset(steady_clients[i]);
        else finish(steady_clients[i]);
    }
    settle(&w);
    CHECK_INT(stats_of(&w).connections, 0);
    CHECK_INT(stats_of(&w).waiters, 0);
}

static void age_out(void)
{
    int i;
    for (i = 0; i < 100 && (w.s->hub.channels.used || w.s->hub.oldest); i++) pass(&w, 1000);
    CHECK_INT(stats_of(&w).channels, 0);
    CHECK_INT(stats_of(&w).messages, 0);
}

/* Each burst leaves the same behind: what stays is no leak that adds up. */
static void burst(int publishing, int by_reset)
{
    int count = unit_rounds(BURST), i, turn;
    size_t before, after[3], peak;
    char target[64], name[16];
    memset(&w, 0, sizeof w);
    w.cfg.history_age_ms = 5000;
    w.cfg.channel_linger_ms = 1000;
    open_steady();
    before = w.m.bytes;
    for (turn = 0; turn < 3; turn++) {
        dial_many(count);
        CHECK_INT(stats_of(&w).connections, count);
        for (i = 0; i < count; i++) {
            snprintf(target, sizeof target, "/api/poll/ch%d?timeout=60", i);
            say_poll(steady_clients[i], target, i);
        }
        settle(&w);
        CHECK_INT(stats_of(&w).waiters, count);
        CHECK_INT(stats_of(&w).channels, count);
        for (i = 0; publishing && i < count; i++) {
            snprintf(name, sizeof name, "ch%d", i);
            publish(&w, name, "{\"n\":1}");
        }
        settle(&w);
        CHECK_INT(stats_of(&w).waiters, publishing ? 0 : count);
        peak = w.m.bytes;
        all_leave(count, by_reset);
        age_out();
        after[turn] = w.m.bytes;
        CHECK(peak > before + (size_t)count * 128);
        if (after[turn] > before + kept_after_a_burst(count))
            unit_fail(__FILE__, __LINE__, "%lu bytes before, %lu at most, %lu after",
                      (unsigned long)before, (unsigned long)peak,
                      (unsigned long)after[turn]);
        CHECK(after[turn] < before + 64 * 1024);
    }
    CHECK_INT(after[1], after[0]);
    CHECK_INT(after[2], after[0]);
    check_now();
    close_world(&w);
}

TEST(a_burst_of_parked_polls_is_given_back) { burst(0, 0); }
TEST(a_burst_of_parked_polls_that_break_off_is_given_back) { burst(0, 1); }
TEST(a_burst_that_was_answered_is_given_back) { burst(1, 0); }
