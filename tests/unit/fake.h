/* fake.h: a hub and its loops without sockets, and check_hub(), which counts all again.

   Include after longpoll.h and unit.h. The clocks stand still until fake_tick moves them,
   random numbers come from the test's seed, and all memory is watched.

       fake_start(3);                       three loops
       fake.config->history_count = 4;      any limit, at any time
       ...
       fake_end();                          frees all; a leak fails the test

   A poll is a connection of a loop. fake_poll does what lpi_poll does under the mutex; what
   it answers stands in the loop's batch until fake_flush. */

#ifndef FAKE_H
#define FAKE_H

enum { FAKE_LOOPS = 3, FAKE_WAKE = 100 };

typedef struct fake_world {
    lp_server server;
    lpi_loop loops[FAKE_LOOPS];
    uint32_t loop_count;
    lp_config *config;
    lpi_hub *hub;
    unit_memory memory;
    uint64_t now_us, wall_us;
    int no_random;                    /* fails from now on                    */
    uint32_t signals[FAKE_LOOPS];     /* how often each loop was signalled    */
    uint32_t wakes;                   /* opened                               */
    lp_result result;                 /* of the last poll's channels          */
    const char *why;                  /* the last poll was refused            */
    uint64_t swept_ms;                /* the last sweep                       */
    uint64_t lag_ms;                  /* how far a loop's clock may be behind */
    int arrives_twice;                /* lpi_hub_loaded with parked polls    */
    int watching;                     /* polls tell of their channels         */
    char told[4096];                  /* the channels that are deserted       */
    size_t told_length;
    char waited_on[256];              /* names of one byte: a first poll came */
} fake_world;

static fake_world fake;

/* ---- the operating system ---- */

static uint64_t fake_monotonic(void *ctx) { (void)ctx; return fake.now_us; }
static uint64_t fake_wall(void *ctx) { (void)ctx; return fake.wall_us; }

static int fake_random(void *ctx, void *bytes, size_t size) {
    size_t i;
    (void)ctx;
    if (fake.no_random) return -EIO;
    for (i = 0; i < size; i++) ((uint8_t *)bytes)[i] = (uint8_t)unit_random();
    return 0;
}

static void fake_close(void *ctx, int fd) { (void)ctx, (void)fd; }

static int fake_shutdown(void *ctx, int fd, uint32_t how) {
    (void)ctx, (void)fd, (void)how;
    return 0;
}

static int fake_poller_open(void *ctx, lp_poller *out) {
    (void)ctx;
    out->fd = 1;
    return 0;
}

static void fake_poller_close(void *ctx, lp_poller *poller) { (void)ctx, (void)poller; }

static int fake_poller_set(void *ctx, lp_poller *poller, int fd, uint32_t tag,
                           uint32_t was, uint32_t want) {
    (void)ctx, (void)poller, (void)fd, (void)tag, (void)was, (void)want;
    return 0;
}

static int fake_wake_open(void *ctx, int fds[2]) {
    (void)ctx;
    fds[0] = FAKE_WAKE + FAKE_LOOPS;
    fds[1] = FAKE_WAKE + (int)fake.wakes++;
    return 0;
}

UNIT_UNUSED static void fake_watch(void *ctx, lp_channel_event event, lp_slice channel) {
    (void)ctx;
    if (channel.length == 1)
        fake.waited_on[(uint8_t)*channel.bytes] = event == LP_CHANNEL_OCCUPIED;
    if (event == LP_CHANNEL_OCCUPIED) return;
    CHECK(fake.told_length + 1 + channel.length <= sizeof fake.told);
    if (fake.told_length) fake.told[fake.told_length++] = ',';
    memcpy(fake.told + fake.told_length, channel.bytes, channel.length);
    fake.told_length += channel.length;
}

static void fake_wake_signal(void *ctx, int fd) {
    (void)ctx;
    CHECK(fd >= FAKE_WAKE && fd < FAKE_WAKE + (int)fake.loop_count);
    fake.signals[fd - FAKE_WAKE]++;
}

/* ---- start ---- */

static void fake_start_loop(uint32_t i) {
    lpi_loop *loop = &fake.loops[i];
    lpi_loop_blank(loop, &fake.server, i);
    CHECK_INT(lpi_loop_init(loop, &fake.server), 0);
}

UNIT_UNUSED static void fake_start(uint32_t loops) {
    static lp_os os;
    lp_memory memory;
    lp_config config;
    uint32_t i;
    memset(&fake, 0, sizeof fake);
    memset(&config, 0, sizeof config);
    os.monotonic_us = fake_monotonic;
    os.wall_us = fake_wall;
    os.random = fake_random;
    os.close = fake_close;
    os.shutdown = fake_shutdown;
    os.poller_open = fake_poller_open;
    os.poller_set = fake_poller_set;
    os.poller_close = fake_poller_close;
    os.wake_open = fake_wake_open;
    os.wake_signal = fake_wake_signal;
    config.os = &os;
    memory = unit_memory_of(&fake.memory);
    fake.now_us = UINT64_C(5000000000);
    fake.wall_us = UINT64_C(1732412345123456);
    fake.loop_count = loops;
    lpi_server_blank(&fake.server, &config, &memory);
    fake.config = &fake.server.config;
    fake.hub = &fake.server.hub;
    fake.hub->loops = fake.loops;
    fake.hub->loop_count = loops;
    CHECK_INT(lpi_config_resolve(&fake.server), LP_OK);
    CHECK_INT(lpi_hub_init(fake.hub, &fake.server.memory, fake.config,
                           &fake.server.os), 0);
    for (i = 0; i < loops; i++) fake_start_loop(i);
}

/* ---- time ---- */

UNIT_UNUSED static uint64_t fake_now(void) { return fake.now_us / 1000; }

/* Both clocks, and what the loops know of them. */
UNIT_UNUSED static void fake_tick(uint32_t ms) {
    uint32_t i;
    fake.now_us += (uint64_t)ms * 1000;
    fake.wall_us += (uint64_t)ms * 1000;
    for (i = 0; i < fake.loop_count; i++) fake.loops[i].now_ms = fake_now();
}

/* What the first loop does when it is time. The channels that were told of as deserted
   by this, with ',' between. */
UNIT_UNUSED static lp_slice fake_sweep(void) {
    fake.told_length = 0;
    fake.loops[0].sweep_ms = 0;
    lpi_loop_sweep(&fake.loops[0]);
    fake.swept_ms = fake.loops[0].now_ms;
    return lpi_slice(fake.told, fake.told_length);
}

/* ---- channels and messages ---- */

/* Its index, or LPI_NONE. Unlike lpi_channel_find it changes nothing. */
UNIT_UNUSED static uint32_t fake_find(const char *name) {
    uint64_t hash = lpi_hash(fake.hub->hash_key, 'c', lp_s(name));
    uint32_t index = lpi_table_first(&fake.hub->names, hash);
    while (index != LPI_NONE && !lpi_equal(lpi_channel_name(lpi_channel_at(fake.hub, index)),
                                           lp_s(name)))
        index = lpi_table_match(&fake.hub->names, lpi_channel_at(fake.hub, index)->node.next,
                                hash);
    return index;
}

UNIT_UNUSED static lpi_channel *fake_channel(const char *name) {
    uint32_t index = fake_find(name);
    if (index == LPI_NONE) unit_fail(__FILE__, __LINE__, "there is no channel %s", name);
    return lpi_channel_at(fake.hub, index);
}

UNIT_UNUSED static lp_result fake_try_publish(const char *name, const char *json,
                                              lp_published *out) {
    lp_result result;
    size_t offset = 0;
    lpi_message *m = lpi_message_new(&fake.server.memory, lp_s(name), lp_s(json), &result,
                                     &offset);
    if (!m) return result;
    result = lpi_hub_publish(fake.hub, lp_s(name), m, fake.now_us, out);
    if (result != LP_OK) lpi_message_unref(&fake.server.memory, m);
    return result;
}

UNIT_UNUSED static lp_published fake_publish(const char *name) {
    lp_published out;
    CHECK_INT(fake_try_publish(name, "{\"n\":1}", &out), LP_OK);
    return out;
}

UNIT_UNUSED static void fake_publish_many(const char *name, int count) {
    while (count--) fake_publish(name);
}

/* As the poll path makes it. */
UNIT_UNUSED static lpi_channel *fake_make(const char *name) {
    uint32_t index = LPI_NONE;
    CHECK_INT(lpi_channel_get(fake.hub, lp_s(name), lpi_channel_hash(fake.hub, lp_s(name)),
                              fake_now(), &index), LP_OK);
    return lpi_channel_at(fake.hub, index);
}

/* The first loop tells of channels. */
static void fake_tell(void) { lpi_loop_tell(&fake.loops[0]); }

/* ---- polls ---- */

UNIT_UNUSED static uint32_t fake_connect(uint32_t loop_index) {
    lpi_loop *loop = &fake.loops[loop_index];
    uint32_t index = lpi_slab_take(&loop->connections);
    CHECK(index != LPI_NONE);
    lpi_timer_init(&loop->wheel, index);
    lpi_connection_at(loop, index)->waiter = LPI_NONE;
    lpi_connection_at(loop, index)->client = LPI_NONE;
    /* As of a proxy: each of its polls tells for which address it is. */
    lpi_connection_at(loop, index)->flags = LPI_TRUSTED;
    lpi_connection_at(loop, index)->account = lpi_account_take(fake.hub, 0, 1);
    CHECK(lpi_connection_at(loop, index)->account != LPI_NONE);
    lpi_set_phase(loop, lpi_connection_at(loop, index), LPI_SERVING);
    lpi_atomic_add(&fake.hub->connections, 1);
    return index;
}

UNIT_UNUSED static lpi_phase fake_phase(uint32_t loop_index, uint32_t connection) {
    return (lpi_phase)lpi_connection_at(&fake.loops[loop_index], connection)->phase;
}

/* It is gone, whatever it was doing. */
UNIT_UNUSED static void fake_hang_up(uint32_t loop_index, uint32_t connection) {
    lpi_loop *loop = &fake.loops[loop_index];
    lpi_close(loop, connection);
    lpi_close_reap(loop);
}

/* `channels` with ',' between; `last_id` as in the query. */
UNIT_UNUSED static lpi_poll_request fake_ask(const char *channels, const char *last_id) {
    lpi_poll_request ask;
    lp_slice list = lp_s(channels);
    memset(&ask, 0, sizeof ask);
    for (; lpi_split(&list, ',', &ask.names[ask.count]); ask.count++)
        ask.hashes[ask.count] = lpi_channel_hash(fake.hub, ask.names[ask.count]);
    CHECK_INT(lpi_query_cursors(lp_s(last_id), ask.requested, ask.count), 0);
    ask.wait_ms = 30000;
    ask.limit = 100;
    ask.client_key = unit_random();
    ask.address_key = unit_random();
    return ask;
}

UNIT_UNUSED static lpi_poll_request fake_ask_since(const char *channel, uint64_t us) {
    lpi_poll_request ask = fake_ask(channel, "");
    ask.basic = 1;
    ask.limit = 1;
    ask.requested[0].kind = LPI_FROM_TIME;
    ask.requested[0].seq = us;
    return ask;
}

/* 0: parked, or answered into the batch; else the status, and its text in fake.why. */
UNIT_UNUSED static int fake_poll(uint32_t loop_index, uint32_t connection,
                                 const lpi_poll_request *ask) {
    lpi_loop *loop = &fake.loops[loop_index];
    lpi_cursor at[LPI_POLL_CHANNELS];
    lpi_why why = LPI_WHY_NONE;
    lpi_lock(&fake.hub->mutex);
    fake.result = lpi_poll_channels(fake.hub, ask, loop->now_ms, at);
    if (fake.result == LP_OK) why = lpi_poll_park_or_reply(loop, connection, ask, at);
    else why = lpi_why_of(fake.result);
    lpi_unlock(&fake.hub->mutex);
    fake.why = lpi_whys[why].text;
    if (fake.watching) fake_tell();
    return why ? lpi_whys[why].status : 0;
}

/* A new connection whose poll must be parked, or be fetching. */
UNIT_UNUSED static uint32_t fake_park(uint32_t loop_index, const char *channels,
                                      const char *last_id) {
    uint32_t connection = fake_connect(loop_index);
    lpi_poll_request ask = fake_ask(channels, last_id);
    CHECK_INT(fake_poll(loop_index, connection, &ask), 0);
    CHECK_INT(fake.loops[loop_index].batch.recipient_count, 0);
    return connection;
}

/* The reply of one entry of the loop's batch. */
UNIT_UNUSED static const lpi_reply *fake_plan(uint32_t loop_index, uint32_t recipient) {
    const lpi_batch *batch = &fake.loops[loop_index].batch;
    CHECK(recipient < batch->recipient_count);
    return &batch->replies[batch->recipients[recipient].reply];
}

UNIT_UNUSED static const lpi_message *fake_message(uint32_t loop_index, const lpi_reply *reply,
                                                   uint32_t i) {
    CHECK(i < reply->count);
    return fake.loops[loop_index].batch.messages[reply->first + i];
}

/* As lpi_deliver_batch, but what was answered goes away. */
UNIT_UNUSED static void fake_flush(uint32_t loop_index) {
    lpi_loop *loop = &fake.loops[loop_index];
    lpi_batch *batch = &loop->batch;
    uint32_t i;
    for (i = 0; i < batch->recipient_count; i++) {
        CHECK_INT(fake_phase(loop_index, batch->recipients[i].connection), LPI_SERVING);
        fake_hang_up(loop_index, batch->recipients[i].connection);
    }
    for (i = 0; i < batch->message_count; i++)
        lpi_message_unref(&fake.server.memory, batch->messages[i]);
    batch->reply_count = batch->recipient_count = batch->message_count = batch->reply_old = 0;
    lpi_buffer_clear(&batch->names);
}

UNIT_UNUSED static void fake_end(void) {
    uint32_t i;
    fake.memory.fail_at = 0;
    for (i = 0; i < fake.loop_count; i++) fake_flush(i);
    for (i = 0; i < fake.loop_count; i++) lpi_loop_free(&fake.loops[i]);
    CHECK_INT(fake.hub->stats.waiters, 0);
    lpi_hub_free(fake.hub);
    lpi_arena_clear(&fake.server.strings, 0);
    CHECK_INT(fake.memory.blocks, 0);
    CHECK_INT(fake.memory.bytes, 0);
}

/* Serve the loop's ready waiter lists until none is. How many polls were answered. */
UNIT_UNUSED static uint32_t fake_deliver(uint32_t loop_index) {
    lpi_loop *loop = &fake.loops[loop_index];
    uint32_t answered = 0, had;
    do {
        had = loop->batch.recipient_count;
        while (lpi_deliver_waiter_list(loop) && loop->batch.recipient_count < LPI_BATCH) {}
        answered += loop->batch.recipient_count - had;
        if (loop->ready_first != LPI_NONE) fake_flush(loop_index);
    } while (loop->ready_first != LPI_NONE);
    return answered;
}

/* What a loop does before it waits; a signal is wanted from then on. */
UNIT_UNUSED static void fake_sleep(uint32_t loop_index) {
    CHECK(!lpi_loop_sleep(&fake.loops[loop_index]));
}

/* ---- everything counted again ---- */

typedef struct check_totals {
    uint32_t channels, held, lists, ready, parked, fetching, idle, vacated;
} check_totals;

static int check_chain_has(const lpi_connection *c, uint32_t waiter) {
    uint32_t index = c->waiter;
    while (index != LPI_NONE && index != waiter) index = lpi_waiter_at(fake.hub, index)->sibling;
    return index == waiter;
}

static uint32_t check_seats(uint32_t list_index, int fetching, uint32_t *waiters_since_publish) {
    const lpi_waiter_list *waiter_list = lpi_waiter_list_at(fake.hub, list_index);
    const lpi_list *list = fetching ? &waiter_list->fetching : &waiter_list->parked;
    lpi_channel *ch = lpi_channel_at(fake.hub, waiter_list->channel);
    uint32_t index = list->head, before = LPI_NONE, n = 0;
    for (; index != LPI_NONE; before = index, index = lpi_waiter_at(fake.hub, index)->link.next) {
        lpi_waiter *waiter = lpi_waiter_at(fake.hub, index);
        lpi_connection *c = lpi_connection_at(&fake.loops[waiter_list->loop], waiter->connection);
        CHECK_INT(waiter->link.prev, before);
        CHECK_INT(waiter->list, list_index);
        CHECK_INT(c->phase, fetching ? LPI_FETCHING : LPI_PARKED);
        CHECK(check_chain_has(c, index));
        n++;
        if (fetching) continue;
        if (before != LPI_NONE) {
            const lpi_waiter *older = lpi_waiter_at(fake.hub, before);
            CHECK(older->epoch_number <= waiter->epoch_number);
            CHECK(older->epoch_number < waiter->epoch_number || older->seq <= waiter->seq);
        }
        CHECK(waiter->epoch_number != ch->epoch_number || waiter->seq <= ch->last);
        *waiters_since_publish += waiter->epoch_number == ch->epoch_number && waiter->seq == ch->last;
    }
    CHECK_INT(list->tail, before);
    return n;
}

static void check_views(uint32_t index, check_totals *t) {
    lpi_channel *ch = lpi_channel_at(fake.hub, index);
    uint32_t v = ch->lists.head, before = LPI_NONE, loops = 0, waiters = 0, waiters_since_publish = 0;
    for (; v != LPI_NONE; before = v, v = lpi_waiter_list_at(fake.hub, v)->link.next) {
        lpi_waiter_list *waiter_list = lpi_waiter_list_at(fake.hub, v);
        uint32_t parked = check_seats(v, 0, &waiters_since_publish), fetching = check_seats(v, 1, &waiters_since_publish);
        CHECK_INT(waiter_list->link.prev, before);
        CHECK_INT(waiter_list->channel, index);
        CHECK(waiter_list->loop < fake.loop_count && !(loops & 1u << waiter_list->loop));
        loops |= 1u << waiter_list->loop;
        CHECK_INT(waiter_list->waiters, parked + fetching);
        CHECK(waiter_list->waiters || waiter_list->ready);
        if (parked && !waiter_list->ready) CHECK(!lpi_waiter_behind(lpi_waiter_at(fake.hub, waiter_list->parked.head), ch));
        waiters += waiter_list->waiters;
        t->parked += parked;
        t->fetching += fetching;
        t->ready += waiter_list->ready;
        t->lists++;
    }
    CHECK_INT(ch->lists.tail, before);
    CHECK_INT(ch->waiters, waiters);
    if (!fake.arrives_twice) CHECK_INT(ch->waiters_since_publish, waiters_since_publish);
}

static void check_ring(uint32_t index) {
    const lpi_channel *ch = lpi_channel_at(fake.hub, index);
    uint64_t us = lpi_max64(ch->start_us, ch->evicted_us), seq = ch->last - ch->held;
    uint32_t i;
    CHECK(ch->held <= ch->ring_size && ch->ring_size <= fake.config->history_count);
    CHECK(ch->held <= ch->last && (!ch->ring_size || ch->ring_at < ch->ring_size));
    CHECK((ch->evicted_us == 0) == (seq == 0) || fake.hub->remote);
    for (i = 0; i < ch->held; i++) {
        const lpi_message *m = ch->ring[(ch->ring_at + i) % ch->ring_size];
        CHECK(m == lpi_channel_message(ch, seq + 1 + i));
        CHECK_INT(m->seq, seq + 1 + i);
        CHECK_INT(m->channel, index);
        CHECK(m->timestamp_us > us && m->refs >= 1);
        us = m->timestamp_us;
    }
    CHECK(ch->last_us == us || fake.hub->remote);
}

static void check_channel(uint32_t index, check_totals *t) {
    lpi_channel *ch = lpi_channel_at(fake.hub, index);
    CHECK(fake.hub->remote || !ch->fetching);
    CHECK_INT(ch->node.hash, lpi_hash(fake.hub->hash_key, 'c', lpi_channel_name(ch)));
    check_ring(index);
    check_views(index, t);
    CHECK(!ch->pinned); /* but within a poll's one hold of the mutex */
    CHECK(!ch->forgotten);
    CHECK_INT(ch->vacated, ch->watched && !ch->waiters);
    if (ch->held || ch->waiters) CHECK(!ch->idle);
    else CHECK(ch->idle || ch->lists.head != LPI_NONE);
    t->idle += ch->idle;
    t->vacated += ch->vacated;
    t->held += ch->held;
    t->channels++;
}

static void check_lists(const check_totals *t) {
    const lpi_hub *hub = fake.hub;
    uint32_t i, n = 0, before = LPI_NONE, forgotten = 0;
    uint64_t ms = 0;
    for (i = hub->idle.head; i != LPI_NONE; n++) {
        const lpi_channel *ch = lpi_channel_at(fake.hub, i);
        CHECK(ch->idle && ch->idle_link.prev == before && ch->idle_ms + fake.lag_ms >= ms);
        ms = ch->idle_ms;
        before = i;
        i = ch->idle_link.next;
    }
    CHECK_INT(hub->idle.tail, before);
    CHECK_INT(n, t->idle);
    before = LPI_NONE;
    ms = n = 0;
    for (i = hub->vacated.head; i != LPI_NONE; n++) {
        const lpi_channel *ch = lpi_channel_at(fake.hub, i);
        CHECK(ch->vacated && !ch->news && !ch->forgotten);
        CHECK(ch->watch_link.prev == before && ch->vacated_ms + fake.lag_ms >= ms);
        ms = ch->vacated_ms;
        before = i;
        i = ch->watch_link.next;
    }
    CHECK_INT(hub->vacated.tail, before);
    CHECK_INT(n, t->vacated);
    before = LPI_NONE;
    for (i = hub->news.head; i != LPI_NONE;) {
        const lpi_channel *ch = lpi_channel_at(fake.hub, i);
        CHECK(ch->news && ch->watched && !ch->vacated && ch->watch_link.prev == before);
        forgotten += ch->forgotten;
        before = i;
        i = ch->watch_link.next;
    }
    CHECK_INT(hub->news.tail, before);
    CHECK_INT(hub->channels.used, t->channels + forgotten);
}

static void check_messages(const check_totals *t) {
    const lpi_hub *hub = fake.hub;
    const lpi_message *m, *before = NULL;
    uint64_t bytes = 0;
    uint32_t n = 0;
    for (m = hub->oldest; m; before = m, m = m->newer, n++) {
        const lpi_channel *ch = lpi_channel_at(fake.hub, m->channel);
        CHECK(m->older == before);
        CHECK(lpi_channel_message(ch, m->seq) == m);
        CHECK(!before || before->channel != m->channel || before->seq + 1 == m->seq);
        CHECK(!before || before->appended_us <= m->appended_us + fake.lag_ms * 1000);
        bytes += m->size;
    }
    CHECK(hub->newest == before);
    CHECK_INT(hub->stats.messages, n);
    CHECK_INT(t->held, n);
    CHECK_INT(hub->stats.history_bytes, bytes);
    CHECK_INT(hub->stats.published - hub->stats.evicted, n);
}

/* A fetching poll, all of whose channels are here, is about to be looked at. */
static void check_fetching(const lpi_connection *c) {
    uint32_t i = c->waiter;
    int here = 1, ready = 0;
    for (; i != LPI_NONE; i = lpi_waiter_at(fake.hub, i)->sibling) {
        const lpi_waiter_list *waiter_list = lpi_waiter_list_at(fake.hub, lpi_waiter_at(fake.hub, i)->list);
        if (lpi_channel_at(fake.hub, waiter_list->channel)->fetching) here = 0;
        ready |= waiter_list->ready;
    }
    CHECK(!here || ready);
}

/* One that counts nobody stays only where a connection counted last: `last` says so. */
static void check_tallies(const uint32_t *counts, const uint8_t *last) {
    const lpi_table *table = &fake.hub->counter_table;
    uint32_t bucket, i, n = 0;
    for (bucket = 0; bucket < table->buckets; bucket++)
        for (i = *lpi_table_bucket(table, bucket); i != LPI_NONE; n++) {
            const lpi_counter *counter = lpi_counter_at(fake.hub, i);
            CHECK(i < 4096 && (counts[i] || last[i]));
            CHECK_INT(lpi_counter_value(fake.hub, i), counts[i]);
            CHECK_INT(lpi_table_first(table, counter->node.hash), i);
            i = counter->node.next;
        }
    CHECK_INT(n, table->count);
    CHECK_INT(n, fake.hub->counters.used);
}

static void check_polls(const check_totals *t) {
    static uint32_t counts[4096]; /* by counter */
    static uint32_t polls[4096];  /* by account */
    static uint8_t last[4096];
    uint32_t loop, index, waiters = 0, waiter_records = 0, parked = 0, fetching = 0, s;
    lpi_connection *c;
    memset(counts, 0, sizeof counts);
    memset(polls, 0, sizeof polls);
    memset(last, 0, sizeof last);
    for (loop = 0; loop < fake.loop_count; loop++) {
        for (index = 0; (c = lpi_loop_each(&fake.loops[loop], &index)); index++) {
            if (c->client < 4096) last[c->client] = 1;
            if (c->phase != LPI_PARKED && c->phase != LPI_FETCHING) continue;
            for (s = c->waiter; s != LPI_NONE; s = lpi_waiter_at(fake.hub, s)->sibling) {
                CHECK_INT(lpi_waiter_at(fake.hub, s)->connection, index);
                waiter_records++;
            }
            CHECK(c->client < 4096 && c->account < 4096);
            counts[c->client]++;
            polls[c->account]++;
            waiters++;
            if (c->phase == LPI_FETCHING) fetching++, check_fetching(c);
            else parked++;
        }
        CHECK_INT(fake.loops[loop].phases[LPI_PARKED], parked);
        CHECK_INT(fake.loops[loop].phases[LPI_FETCHING], fetching);
        parked = fetching = 0;
    }
    CHECK_INT(fake.hub->stats.waiters, waiters);
    CHECK_INT(fake.hub->waiters.used, waiter_records);
    CHECK_INT(t->parked + t->fetching, waiter_records);
    CHECK_INT(fake.hub->requested.used, t->fetching);
    check_tallies(counts, last);
    for (index = 0; index < 4096; index++)
        if (polls[index])
            CHECK_INT(lpi_account_at(fake.hub, index)->node.own, polls[index]);
}

static void check_ready(const check_totals *t) {
    uint32_t loop, n = 0, i, last;
    for (loop = 0; loop < fake.loop_count; loop++) {
        last = LPI_NONE;
        for (i = fake.loops[loop].ready_first; i != LPI_NONE; n++) {
            const lpi_waiter_list *waiter_list = lpi_waiter_list_at(fake.hub, i);
            CHECK(waiter_list->ready && waiter_list->loop == loop && n < t->ready);
            last = i;
            i = waiter_list->next_ready;
        }
        CHECK_INT(fake.loops[loop].ready_last, last);
    }
    CHECK_INT(n, t->ready);
    CHECK_INT(fake.hub->lists.used, t->lists);
}

/* What will be past its time is swept then, or a second after the sweep before. */
static void check_sweep(void) {
    const lpi_hub *hub = fake.hub;
    uint64_t sweep = hub->sweep_ms, age = fake.config->history_age_ms, due;
    uint64_t lazy = fake.swept_ms + LPI_SWEEP_MS;
    if (age != LP_UNLIMITED) {
        if (hub->oldest)
            CHECK(sweep <= lpi_max64(hub->oldest->appended_us / 1000 + age, lazy));
        if (hub->idle.head != LPI_NONE) {
            due = lpi_channel_at(fake.hub, hub->idle.head)->idle_ms + age;
            CHECK(sweep <= lpi_max64(due, lazy));
        }
    }
    if (hub->vacated.head != LPI_NONE) {
        due = lpi_channel_at(fake.hub, hub->vacated.head)->vacated_ms;
        CHECK(sweep <= due + fake.config->channel_linger_ms);
    }
}

UNIT_UNUSED static void check_hub(void) {
    const lpi_table *names = &fake.hub->names;
    check_totals t;
    uint32_t bucket, i;
    memset(&t, 0, sizeof t);
    for (bucket = 0; bucket < names->buckets; bucket++)
        for (i = *lpi_table_bucket(names, bucket); i != LPI_NONE;
             i = lpi_node_at(names, i)->next)
            check_channel(i, &t);
    CHECK_INT(names->count, t.channels);
    CHECK_INT(fake.hub->stats.channels, t.channels);
    check_lists(&t);
    check_messages(&t);
    check_polls(&t);
    check_ready(&t);
    check_sweep();
}

#endif /* FAKE_H */
