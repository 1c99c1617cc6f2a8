/* check.h: lpi_check(server): everything that can be counted in two ways is.

   check_step() follows each step and is cheap: no phase in between, no spinning. Every 64th
   time, if all other threads are at rest, it is lpi_check(), which recounts the whole server
   over all loops: connections, waiters, waiters, counters, what each address takes, channels,
   messages, slabs, lists, tables, wheels, inboxes, delays, and all memory to the byte.
   check_sleep() is for the moments when all wait: nobody may be waiting for a loop that
   sleeps, nor for the news of a channel. */

#ifndef CHECK_H
#define CHECK_H

static uint64_t full_checks, hub_checks, steps;

static uint64_t check_slab(const lpi_slab *slab, const char *name)
{
    uint32_t c, used = 0, roomy = 0, empty = 0, vacant = 0, n = 1u << slab->shift;
    uint64_t bytes = slab->chunk_capacity * sizeof(lpi_slab_chunk);
    for (c = 0; c < slab->chunk_count; c++) {
        const lpi_slab_chunk *chunk = &slab->chunks[c];
        uint32_t i, next;
        if (!chunk->records) continue;
        bytes += lpi_slab_chunk_bytes(slab);
        used += chunk->used;
        empty += !chunk->used;
        for (i = 0, next = chunk->free; next != LPI_NONE; i++) {
            MUST(i < n && next >> slab->shift == c, "%s: a chunk's free list", name);
            memcpy(&next, lpi_at(slab, next), 4);
        }
        SAME(i, n - chunk->used, name);
    }
    SAME(used, slab->used, name);
    SAME(empty, slab->empty, name);
    MUST(empty <= 1, "%s: %u empty chunks are kept", name, empty);
    for (c = slab->roomy; c != LPI_NONE; c = slab->chunks[c].next, roomy++) {
        MUST(roomy <= slab->chunk_count && slab->chunks[c].records &&
             slab->chunks[c].free != LPI_NONE, "%s: the list of chunks with room", name);
    }
    for (c = slab->vacant; c != LPI_NONE; c = slab->chunks[c].next, vacant++)
        MUST(vacant <= slab->chunk_count && !slab->chunks[c].records,
             "%s: the list of vacant chunks", name);
    for (c = 0; c < slab->chunk_count; c++) {
        if (!slab->chunks[c].records) vacant--;
        else if (slab->chunks[c].free != LPI_NONE) roomy--;
    }
    SAME(roomy, 0, name);
    SAME(vacant, 0, name);
    return bytes;
}

static uint64_t check_table(const lpi_table *t, const char *name)
{
    uint32_t b, count = 0;
    MUST(t->round <= t->buckets && t->buckets < t->round * 2 &&
         t->buckets <= t->capacity, "%s: the table's size", name);
    for (b = 0; b < t->buckets; b++) {
        uint32_t i = *lpi_table_bucket(t, b);
        for (; i != LPI_NONE; i = lpi_node_at(t, i)->next, count++) {
            MUST(count < t->count, "%s: more entries than count says", name);
            SAME(lpi_table_index(t, lpi_node_at(t, i)->hash), b, name);
        }
    }
    SAME(count, t->count, name);
    return t->capacity * sizeof(uint32_t);
}

static uint32_t check_list(const lpi_list *list, const lpi_links *links, const char *name)
{
    uint32_t i = list->head, before = LPI_NONE, n = 0;
    for (; i != LPI_NONE; before = i, i = lpi_link_at(links, i)->next, n++)
        MUST(n < links->slab->used && lpi_link_at(links, i)->prev == before, "list: %s", name);
    SAME(list->tail, before, name);
    return n;
}

static uint64_t arena_bytes(const lpi_arena *arena)
{
    const lpi_block *b = arena->blocks;
    uint64_t bytes = 0;
    for (; b; b = b->next) bytes += b->size;
    return bytes;
}

/* Every armed timer stands in the slot of its time, and the bits say which slots are in use;
   nothing that is due is left behind. */
static void check_wheel(lpi_loop *loop)
{
    const lpi_wheel *w = &loop->wheel;
    uint32_t slot, armed = 0, index = 0, expected = 0;
    lpi_connection *c;
    for (slot = 0; slot <= LPI_DUE_SLOT; slot++) {
        uint32_t before = LPI_SLOT_MARK | slot, i = w->heads[slot];
        if (slot < LPI_DUE_SLOT)
            MUST(!(w->bits[slot / LPI_SLOTS] >> slot % LPI_SLOTS & 1) == (i == LPI_NONE),
                 "the bit of slot %u of the wheel", slot);
        for (; i != LPI_NONE; before = i, i = lpi_timer_at(w, i)->link.next) {
            const lpi_timer *t = lpi_timer_at(w, i);
            MUST(armed++ < loop->connections.used, "the wheel has too many timers");
            MUST(lpi_connection_at(loop, i)->phase != LPI_CLOSED, "a timer of a closed one");
            SAME(t->link.prev, before, "the wheel's list");
            SAME(lpi_wheel_slot(w, t->due), slot, "a timer's slot");
            MUST((int32_t)(t->deadline - t->due) >= 0, "a timer rings before it is due");
        }
    }
    for (; (c = lpi_loop_each(loop, &index)); index++)
        if (c->phase != LPI_QUEUED && lpi_timer_armed(w, index)) expected++;
    SAME(armed, expected, "armed timers");
}

static struct {
    lpi_send_buffer *send_buffer;
    uint32_t count;
    uint64_t accounts; /* those that hold it, a bit each */
} blobs[CONNS];

/* What each address takes, by the index of its account. */
static struct {
    uint32_t refs, polls, connections;
    uint64_t partial, pinned;
} accounts[64];

/* By counter: parked polls, and connections that keep it. */
static struct {
    uint32_t polls, keepers;
} counts[2 * CONNS + 512];

static int has_no_deadline(const lp_config *cfg, const lpi_connection *c)
{
    switch ((lpi_phase)c->phase) {
    case LPI_ACCEPTED:
    case LPI_READING_HEAD: return cfg->head_ms == LPI_NEVER;
    case LPI_READING_BODY: return cfg->body_ms == LPI_NEVER;
    case LPI_IDLE: return cfg->idle_ms == LPI_NEVER;
    case LPI_WRITING: return cfg->write_ms == LPI_NEVER;
    default: return 0;
    }
}

static struct {
    uint64_t phases[LPI_PHASES], connections, waiters, requested, pinned, partial;
} all; /* over all loops */

static void count_waiter(lpi_hub *hub, const lpi_connection *c)
{
    MUST(c->wait.counter < sizeof counts / sizeof *counts, "a counter's index is %u",
         c->wait.counter);
    counts[c->wait.counter].polls++;
    accounts[c->wait.account].polls++;
    MUST(lpi_counter_at(hub, c->wait.counter)->node.count <= hub->config->waiters_per_client,
         "too many polls of one client");
    MUST(lpi_account_at(hub, c->wait.account)->node.count <= hub->config->waiters_per_address,
         "too many polls from one address");
}

/* What is kept of a connection. `n` send buffers are known; returns how many are now. */
static uint32_t count_io(const lpi_connection *c, uint32_t n)
{
    const lpi_request_buffer *buffer = c->buffer;
    uint32_t i;
    all.partial += sizeof *buffer + buffer->in_capacity;
    accounts[c->wait.account].partial += sizeof *buffer + buffer->in_capacity;
    MUST(buffer->in_length <= buffer->in_capacity, "kept bytes");
    MUST(c->phase != LPI_READING_BODY || buffer->route->kind != LPI_POLLS ||
         buffer->in_length == buffer->head_length, "a poll's body is kept");
    if (!buffer->out) return n;
    for (i = 0; i < n && blobs[i].send_buffer != buffer->out;) i++;
    if (i == n) {
        blobs[n].send_buffer = buffer->out;
        blobs[n].accounts = 0;
        blobs[n++].count = 0;
        all.pinned += sizeof(lpi_send_buffer) + buffer->out->length;
    }
    blobs[i].count++;
    if (!(blobs[i].accounts >> c->wait.account & 1))
        accounts[c->wait.account].pinned += sizeof(lpi_send_buffer) + buffer->out->length;
    blobs[i].accounts |= UINT64_C(1) << c->wait.account;
    return n;
}

/* A connection counts under its peer's address, or that which its proxy speaks for. */
static void count_account(const conn *c, uint32_t account, int trusted)
{
    uint64_t key = lpi_account_at(&S->hub, account)->node.hash;
    uint32_t i = 0;
    MUST(account < sizeof accounts / sizeof *accounts, "an account's index is %u", account);
    while (!(c->spoken >> i & 1) || M.keys[i] != key)
        MUST(++i < ADDRESSES, "an address's account is another's");
    SAME(trusted, proxies && c->address.bytes[15] == A_PROXY, "a trusted peer");
    accounts[account].refs++;
    if (!trusted) accounts[account].connections++;
}

/* What an address takes is counted right, and no more than it may have. */
static void check_account(lpi_hub *hub, uint32_t index)
{
    const lp_config *cfg = hub->config;
    const lpi_account *is = lpi_account_at(hub, index);
    SAME(is->refs, accounts[index].refs, "an account");
    SAME(is->node.count, accounts[index].polls, "an account");
    SAME(is->connections, accounts[index].connections, "an account");
    SAME(is->partial_bytes, accounts[index].partial, "an account");
    SAME(is->pinned_bytes, accounts[index].pinned, "an account");
    SAME(is->trusted, proxies && is->node.hash == M.keys[A_PROXY], "an account");
    MUST(is->node.count <= cfg->waiters_per_address, "too many polls from one address");
    MUST(is->connections <= cfg->connections_per_address, "too many connections from one address");
    if (is->trusted) return;
    MUST(cfg->partial_bytes_max == LP_UNLIMITED || is->partial_bytes <= cfg->partial_bytes_max / 4,
         "an address has %" PRIu64 " of %u partial_bytes_max", is->partial_bytes,
         cfg->partial_bytes_max);
    MUST(cfg->history_bytes == LP_UNLIMITED || is->pinned_bytes <= cfg->history_bytes / 2 / 4,
         "an address holds up %" PRIu64 " of %" PRIu64 " history_bytes", is->pinned_bytes,
         cfg->history_bytes);
}

static void check_accounts(lpi_hub *hub)
{
    uint32_t i, used = 0;
    for (i = 0; i < sizeof accounts / sizeof *accounts; i++) {
        if (!accounts[i].refs) continue;
        check_account(hub, i);
        used++;
    }
    SAME(used, hub->accounts.used, "accounts");
    SAME(used, hub->account_table.count, "accounts");
}

static void check_connection(lpi_loop *loop, uint32_t index, const lpi_connection *c)
{
    lpi_hub *hub = &S->hub;
    uint32_t waiter;
    const description *d = kernel_at(&OS, c->fd, K_SOCKET);
    int waits = c->phase == LPI_PARKED;
    SAME(d->watched, c->interest, "what is watched");
    SAME(d->slot, loop->index, "whose poller watches");
    MUST(!c->interest || d->tag == lpi_tag_of(c, index), "the tag");
    MUST((c->phase == LPI_WRITING) == (c->buffer && c->buffer->out), "a reply that is written");
    MUST(waits == (c->wait.waiter != LPI_NONE), "seats without a wait, or the other way");
    MUST((c->phase != LPI_READING_HEAD && c->phase != LPI_READING_BODY) || c->buffer, "what has come is lost");
    MUST(!lpi_is_receiving(c) || c->interest & LP_READ, "a request is awaited, and not read");
    count_account(d->stream, c->wait.account, c->flags & LPI_TRUSTED ? 1 : 0);
    if (waits) count_waiter(hub, c);
    if (c->wait.keeps) counts[c->wait.counter].keepers++;
    MUST(c->phase == LPI_QUEUED || lpi_timer_armed(&loop->wheel, index) ||
         has_no_deadline(hub->config, c), "no deadline in phase %u", c->phase);
    for (waiter = c->wait.waiter; waiter != LPI_NONE; waiter = lpi_waiter_at(hub, waiter)->sibling) {
        all.waiters++;
        SAME(lpi_waiter_at(hub, waiter)->connection, index, "a seat's connection");
        SAME(lpi_waiter_list_at(hub, lpi_waiter_at(hub, waiter)->list)->loop, loop->index,
             "the loop of a seat's view");
        all.requested += c->wait.fetching;
    }
}

/* One loop's connections: phases, waiters, what is kept of them. Returns the memory of what is
   spared. */
static uint64_t check_loop(lpi_loop *loop)
{
    uint32_t phases[LPI_PHASES] = {0}, index = 0, used = 0, i, n = 0, queued;
    uint64_t bytes = 0;
    const lpi_request_buffer *buffer;
    lpi_connection *c;
    for (; (c = lpi_loop_each(loop, &index)); index++, used++) {
        phases[c->phase]++;
        check_connection(loop, index, c);
        if (c->buffer) n = count_io(c, n);
    }
    for (i = 0; i < n; i++) {
        uint32_t holders = 0;
        for (buffer = blobs[i].send_buffer->holders; buffer; buffer = buffer->next_holder)
            MUST(holders++ < blobs[i].count && buffer->out == blobs[i].send_buffer,
                 "who waits for a send buffer");
        SAME(holders, blobs[i].count, "how many wait for a send buffer");
    }
    for (i = LPI_CLOSED + 1; i < LPI_PHASES; i++) {
        SAME(loop->phases[i], phases[i], "phases");
        all.phases[i] += phases[i];
    }
    SAME(loop->connections.used, used, "connections");
    SAME(K.loops_of[loop->index].known, used, "connections");
    all.connections += used;
    queued = check_list(&loop->queue, &loop->links, "queue");
    SAME(queued, phases[LPI_QUEUED], "queued");
    for (i = loop->queue.head; i != LPI_NONE; i = lpi_connection_at(loop, i)->timer.link.next)
        SAME(lpi_connection_at(loop, i)->phase, LPI_QUEUED, "queued");
    for (i = 0, buffer = loop->spare; buffer; buffer = buffer->next, i++) bytes += sizeof *buffer + buffer->in_capacity;
    SAME(i, loop->spare_count, "spare");
    MUST(i <= LPI_SPARE_MAX, "too much is spared");
    return bytes;
}

/* Connections that the first loop has handed over, and that are not opened yet. */
static uint32_t check_arrivals(const lpi_task *task)
{
    uint32_t n = 0;
    for (; task; task = task->next) {
        const conn *c;
        if (task->kind != LPI_TASK_OPEN) continue;
        c = kernel_at(&OS, task->of.handover.fd, K_SOCKET)->stream;
        MUST(!c->known, "an arrival that is known");
        count_account(c, task->of.handover.wait.account, proxies && c->address.bytes[15] == A_PROXY);
        n++;
    }
    return n;
}

/* The connections of all loops, waiters, counters. Returns the memory. */
static uint64_t check_connections(lpi_hub *hub)
{
    uint64_t bytes = 0, arriving = 0;
    uint32_t i, used = 0;
    memset(counts, 0, sizeof counts);
    memset(accounts, 0, sizeof accounts);
    memset(&all, 0, sizeof all);
    for (i = 0; i < S->loop_count; i++) {
        bytes += check_loop(&S->loops[i]);
        arriving += check_arrivals(S->loops[i].tasks);
        arriving += check_arrivals(S->loops[i].inbox.first);
    }
    bytes += arriving * sizeof(lpi_task);
    SAME(all.phases[LPI_SERVING], 0, "being served");
    SAME(hub->stats.connections, all.connections + arriving, "connections");
    SAME((uint32_t)OS.open_of[K_SOCKET], all.connections + arriving, "connections");
    SAME(hub->stats.waiters, all.phases[LPI_PARKED], "waiters");
    SAME(hub->waiters.used, all.waiters, "seats");
    SAME(hub->requested.used, all.requested, "claims");
    SAME(hub->stats.pinned_bytes, all.pinned, "pinned_bytes");
    SAME(hub->partial_bytes, all.partial, "partial_bytes");
    check_accounts(hub);
    for (i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (!counts[i].polls && !counts[i].keepers) continue;
        SAME(lpi_counter_at(hub, i)->node.count, counts[i].polls, "a counter");
        SAME(lpi_counter_at(hub, i)->node.kept, counts[i].keepers, "who keeps a counter");
        used++;
    }
    SAME(used, hub->counter_table.count, "counters");
    SAME(used, hub->counters.used, "counters");
    return bytes + all.pinned + all.partial;
}

/* The latencies that the loops have counted. */
static void check_delays(void)
{
    uint64_t firsts = 0;
    uint32_t i, k;
    for (k = 0; k < LP_LATENCIES; k++) {
        uint64_t n = 0;
        for (i = 0; i < S->loop_count; i++) {
            n += S->loops[i].latencies[k];
            firsts += S->loops[i].first_latencies[k];
        }
        SAME(n, M.latencies[k], "latencies");
    }
    SAME(firsts, M.firsts, "latencies of those who were first");
}

static uint32_t check_views(lpi_hub *hub, lpi_channel *ch, uint32_t index, uint32_t *waiters_since_publish,
                            uint32_t *ready)
{
    uint32_t v, waiter_records = 0, loops = 0;
    check_list(&ch->lists, &hub->list_links, "views");
    for (v = ch->lists.head; v != LPI_NONE; v = lpi_waiter_list_at(hub, v)->link.next) {
        lpi_waiter_list *waiter_list = lpi_waiter_list_at(hub, v);
        uint32_t waiter, n, r;
        uint64_t before = 0;
        SAME(waiter_list->channel, index, "a view's channel");
        MUST(waiter_list->loop < hub->loop_count && !(loops & 1u << waiter_list->loop),
             "a channel has two views of one loop");
        loops |= 1u << waiter_list->loop;
        n = check_list(&waiter_list->parked, &hub->waiter_links, "parked") +
            check_list(&waiter_list->fetching, &hub->waiter_links, "fetching");
        SAME(waiter_list->waiters, n, "a view's seats");
        MUST(n || waiter_list->ready, "a view of nobody");
        waiter_records += n;
        for (waiter = waiter_list->parked.head; waiter != LPI_NONE;) {
            const lpi_waiter *s = lpi_waiter_at(hub, waiter);
            SAME(s->list, v, "a seat's view");
            MUST(s->from.seq >= before, "seats out of order");
            MUST(s->from.seq <= ch->last, "a seat ahead of its channel");
            MUST(s->from.seq == ch->last || waiter_list->ready, "a poll is forgotten");
            before = s->from.seq;
            *waiters_since_publish += s->from.seq == ch->last && s->epoch_number == ch->epoch_number;
            waiter = s->link.next;
        }
        for (r = hub->loops[waiter_list->loop].ready_first; r != LPI_NONE && r != v;)
            r = lpi_waiter_list_at(hub, r)->next_ready;
        MUST((r == v) == !!waiter_list->ready, "ready");
        *ready += waiter_list->ready;
    }
    return waiter_records;
}

/* Each ready list holds waiter lists of its own loop; together they hold all that are ready. */
static void check_ready(lpi_hub *hub, uint32_t ready)
{
    uint32_t i, v, last, n = 0;
    for (i = 0; i < hub->loop_count; i++) {
        last = LPI_NONE;
        for (v = hub->loops[i].ready_first; v != LPI_NONE; v = lpi_waiter_list_at(hub, v)->next_ready) {
            MUST(n++ < ready, "more views are in ready lists than are ready");
            SAME(lpi_waiter_list_at(hub, v)->loop, i, "the loop of a ready view");
            last = v;
        }
        SAME(hub->loops[i].ready_last, last, "the end of a ready list");
    }
    SAME(n, ready, "ready views");
}

/* What its name takes beside the record. */
static uint64_t long_name(const lpi_channel *ch)
{
    return ch->name == ch->short_name ? 0 : ch->name_length;
}

/* The hub, whenever its mutex is free: returns the memory of messages, names and rings. Not at
   rest, loops may be sending messages. */
static uint64_t check_hub(lpi_hub *hub, int at_rest)
{
    const lp_config *cfg = hub->config;
    lpi_message *m, *before = NULL;
    uint64_t bytes = 0, other = 0;
    uint32_t messages = 0, waiters = 0, channels = 0, idle = 0, vacated = 0, news = 0, b, i, waiter_lists = 0;
    uint32_t ready = 0;
    for (m = hub->oldest; m; before = m, m = m->newer, messages++) {
        MUST(m->older == before, "the list of messages");
        MUST(!before || before->appended_us <= m->appended_us + 100000 + late_ns() / 1000,
             "messages out of order");
        MUST(at_rest ? m->refs == 1 : m->refs >= 1, "%u references of a message", m->refs);
        bytes += m->size;
    }
    MUST(hub->newest == before, "the newest message");
    SAME(hub->stats.messages, messages, "messages");
    SAME(hub->stats.history_bytes, bytes, "history_bytes");
    SAME(hub->stats.published - hub->stats.evicted, messages, "messages");
    for (b = 0; b < hub->channel_table.buckets; b++) {
        uint32_t index = *lpi_table_bucket(&hub->channel_table, b);
        for (; index != LPI_NONE; index = lpi_channel_at(hub, index)->node.next, channels++) {
            lpi_channel *ch = lpi_channel_at(hub, index);
            uint32_t waiters_since_publish = 0, k, waiter_records = check_views(hub, ch, index, &waiters_since_publish, &ready);
            SAME(ch->waiters, waiter_records, "a channel's waiters");
            SAME(ch->waiters_since_publish, waiters_since_publish, "fresh");
            MUST(ch->waiters <= cfg->waiters_per_channel, "too many waiters on a channel");
            MUST(!ch->pinned && !ch->forgotten && (!ch->fetching || hub->remote),
                 "a channel's marks");
            MUST(ch->held <= ch->ring_size && ch->held <= cfg->history_count, "a ring");
            for (k = 0; k < ch->held; k++) {
                uint32_t at = ch->ring_at + k;
                m = ch->ring[at < ch->ring_size ? at : at - ch->ring_size];
                SAME(m->seq, ch->last - ch->held + 1 + k, "the ring's order");
                SAME(m->channel, index, "a message's channel");
            }
            messages -= ch->held;
            waiters += waiter_records;
            SAME(ch->idle, !ch->held && !ch->waiters && ch->lists.head == LPI_NONE, "idle");
            SAME(ch->vacated, ch->watched && !ch->news && !ch->waiters, "deserted");
            MUST(!ch->news || ch->watched, "news of a channel that is not watched");
            idle += ch->idle;
            vacated += ch->vacated;
            news += ch->news;
            for (i = ch->lists.head; i != LPI_NONE; i = lpi_waiter_list_at(hub, i)->link.next) waiter_lists++;
            other += long_name(ch) + ch->ring_size * sizeof *ch->ring;
        }
    }
    SAME(messages, 0, "messages in rings");
    SAME(waiters, hub->waiters.used, "waiters on channels");
    SAME(channels, hub->stats.channels, "channels");
    SAME(channels, hub->channel_table.count, "channels");
    SAME(waiter_lists, hub->lists.used, "views");
    check_ready(hub, ready);
    SAME(idle, check_list(&hub->idle, &hub->idle_links, "idle"),
         "idle channels");
    for (i = hub->news.head; i != LPI_NONE;) {
        const lpi_channel *ch = lpi_channel_at(hub, i);
        if (ch->forgotten) {
            news++;
            channels++;
            other += long_name(ch);
        }
        i = ch->watch_link.next;
    }
    SAME(vacated, check_list(&hub->vacated, &hub->watch_links, "deserted"), "deserted");
    SAME(news, check_list(&hub->news, &hub->watch_links, "news"), "news");
    SAME(channels, hub->channels.used, "channels");
    return bytes + other;
}

static void check_limits(void)
{
    const lp_config *cfg = &S->config;
    const lpi_hub *hub = &S->hub;
    MUST(hub->stats.waiters <= cfg->waiters_max, "too many waiters");
    MUST(hub->stats.connections <= cfg->connections_max, "too many connections");
    MUST(hub->stats.channels <= cfg->channels_max, "too many channels");
    if (cfg->history_bytes != LP_UNLIMITED) {
        MUST(hub->stats.pinned_bytes <= cfg->history_bytes / 2, "too much is pinned");
        MUST(hub->stats.messages <= 1 || hub->stats.history_bytes <= cfg->history_bytes,
             "too much history");
    }
    if (cfg->partial_bytes_max != LP_UNLIMITED)
        MUST(S->hub.partial_bytes <= cfg->partial_bytes_max + 65536, "too much of what is incomplete");
    if (cfg->history_age_ms != LP_UNLIMITED && hub->oldest && !S->stopping)
        MUST(now_ms() <= hub->oldest->appended_us / 1000 + cfg->history_age_ms + LPI_SWEEP_MS + 100 +
             2 * late_ns() / 1000000 || hub->stats.messages > LPI_SWEEP_MAX,
             "a message is kept beyond its age");
}

static uint64_t loop_bytes(const lpi_loop *loop)
{
    return sizeof *loop + arena_bytes(&loop->arena) +
           check_slab(&loop->connections, "connections") + LPI_READ_SIZE +
           loop->batch.message_capacity * sizeof(lpi_message *) + loop->batch.names.capacity +
           loop->extra.capacity + loop->head.capacity + loop->json.text.capacity;
}

/* All memory, to the byte, and a bound that follows from the configuration alone. */
static void check_memory(uint64_t bytes)
{
    const lpi_hub *hub = &S->hub;
    const lp_config *cfg = &S->config;
    uint64_t bound = 2 << 20;
    uint32_t i;
    bytes += sizeof *S + arena_bytes(&S->strings) + M.asyncs * sizeof(lpi_task);
    for (i = 0; i < S->loop_count; i++) {
        bytes += loop_bytes(&S->loops[i]);
        bound += (1 << 20) + S->loops[i].json.text.capacity;
    }
    bytes += check_slab(&hub->channels, "channels") + check_slab(&hub->lists, "views") +
             check_slab(&hub->waiters, "seats") + check_slab(&hub->requested, "claims") +
             check_slab(&hub->counters, "tallies") + check_slab(&hub->accounts, "accounts");
    bytes += check_table(&hub->channel_table, "names") + check_table(&hub->counter_table, "tallied") +
             check_table(&hub->account_table, "addresses");
    SAME(bytes, K.memory_bytes, "memory");
    if (cfg->history_bytes == LP_UNLIMITED || cfg->partial_bytes_max == LP_UNLIMITED) return;
    bound += cfg->history_bytes * 2 + cfg->partial_bytes_max + cfg->message_bytes_max + FDS * 2048;
    MUST(bytes <= bound, "%" PRIu64 " bytes of memory, over the bound of %" PRIu64, bytes, bound);
}

/* The first request that waits for its answer may not wait for ever. */
static void check_hung(void)
{
    int i;
    for (i = 0; i < K.conn_top; i++) {
        const conn *c = &K.conns[i];
        const request *r = &c->requests[c->replied % REQUESTS];
        uint64_t since;
        if (!c->used || c->fd < 0 || c->wild || c->got == c->replied || c->closing) continue;
        if (c->pend_length || S->stopping || !c->known) continue;
        since = r->got_ns > c->reply_ns ? r->got_ns : c->reply_ns;
        MUST(K.now_ns <= since + ((uint64_t)r->wait_ms + 10) * 1000000 + 5 * late_ns() +
             K.stalled_ns + (uint64_t)(uint32_t)OS.open_of[K_SOCKET] * 1000000,
             "request %u of connection %d is not answered, in phase %u", c->replied, i,
             record_of(c)->phase);
    }
}

/* Nobody is left with a connection that the server has let go and never spoke of, or in the
   queue of a listener that it has closed. A child may hold them for ever. */
static void check_left(void)
{
    int i;
    for (i = 0; i < K.conn_top; i++) {
        const conn *c = &K.conns[i];
        if (!c->used || c->client < 0 || c->rst) continue;
        MUST(c->fd >= 0 || c->description < 0 || c->ended, "connection %d is closed, and its client is not told", i);
        MUST(c->queued != 1 || OS.open_of[K_LISTENER], "client %d is in a queue that nobody serves",
             c->client);
    }
}

/* With all threads at rest but this one. */
static void lpi_check(lp_server *server)
{
    uint64_t bytes;
    uint32_t i;
    full_checks++;
    bytes = check_connections(&server->hub);
    bytes += check_hub(&server->hub, 1);
    for (i = 0; i < server->loop_count; i++) check_wheel(&server->loops[i]);
    check_memory(bytes);
    check_delays();
    check_limits();
    check_hung();
    check_left();
}

/* No other thread is within a step, or in a call. */
static int others_rest(void)
{
    int i;
    for (i = 1; i < THREADS; i++)
        if (&threads[i] != cur && (threads[i].state == RUNS || threads[i].state == LOCKS)) return 0;
    return 1;
}

/* After each step. A step that neither waited nor did anything may happen, sixteen in a row
   may not; nor may the server wake up again and again for nothing. */
static void check_step(void)
{
    const lpi_loop *loop = &S->loops[cur->slot];
    const lpi_hub *hub = &S->hub;
    uint32_t phase, n = 0;
    if (hub->stopped) return;
    steps++;
    for (phase = LPI_CLOSED + 1; phase < LPI_PHASES; phase++) n += loop->phases[phase];
    SAME(n, K.loops_of[cur->slot].known, "phases and connections");
    SAME(loop->phases[LPI_SERVING], 0, "being served between steps");
    SAME(loop->closed.head, LPI_NONE, "closed and not given back");
    SAME(loop->batch.recipient_count + loop->batch.message_count + loop->batch.reply_count, 0,
         "a batch that was not sent");
    SAME(cur->delayed_count, 0, "delays that are not measured");
    if (cur->progress != cur->idle_progress) cur->idle_steps = cur->nap_steps = 0;
    else if (cur->napped) cur->nap_steps++;
    else if (!cur->blocked) cur->idle_steps++;
    MUST(cur->idle_steps < 16, "the loop spins");
    /* A deadline that moved later costs a wake-up at its old time, and one on each wheel. */
    MUST(cur->nap_steps < 40 + 6 * (uint32_t)OS.open_of[K_SOCKET], "the loop wakes up for nothing");
    cur->idle_progress = cur->progress;
    if (steps % 64) return;
    if (others_rest()) lpi_check(S);
    else check_wheel(&S->loops[cur->slot]);
}

/* Whether each fetching poll of the waiter list waits for some channel. */
static int polls_fetch(lpi_hub *hub, uint32_t v)
{
    uint32_t s = lpi_waiter_list_at(hub, v)->fetching.head;
    for (; s != LPI_NONE; s = lpi_waiter_at(hub, s)->link.next) {
        uint32_t c = lpi_waiter_at(hub, s)->connection, fetching = 0;
        uint32_t waiter = lpi_connection_at(&S->loops[lpi_waiter_list_at(hub, v)->loop], c)->wait.waiter;
        for (; waiter != LPI_NONE; waiter = lpi_waiter_at(hub, waiter)->sibling)
            fetching |= lpi_channel_at(
                hub, lpi_waiter_list_at(hub, lpi_waiter_at(hub, waiter)->list)->channel)->fetching;
        if (!fetching) return 0;
    }
    return 1;
}

/* The loop's thread, while it waits and nothing wakes it; NULL if it does not. */
static const thread *sleeper(uint32_t slot)
{
    int i;
    for (i = FIRST_LOOP; i < FIRST_OTHER; i++) {
        const thread *t = &threads[i];
        if (t->slot != (int)slot || t->state != WAITS) continue;
        return any_ready((int)slot) || t->deadline_ns <= K.now_ns ? NULL : t;
    }
    return NULL;
}

/* How much later than it should a thread may be told to wake up. */
static uint64_t oversleep_ns(void)
{
    return 3000000 + (K.faults ? 50000000u : 0u) + 2 * late_ns() + 2000 * (uint64_t)K.starve_us;
}

static void check_sleeper(const thread *t, const lpi_loop *loop)
{
    const lpi_hub *hub = &S->hub;
    SAME(loop->queue.head, LPI_NONE, "it sleeps on its queue");
    SAME(hub->loops[loop->index].ready_first, LPI_NONE, "it sleeps on ready views");
    MUST(!loop->inbox.first && !loop->tasks, "it sleeps, and has tasks");
    MUST(loop->drain_ms || !(loop->index ? S->draining : S->stopping),
         "it sleeps, and should drain");
    MUST(!S->broken, "it sleeps, and another loop has failed");
    if (loop->index) return;
    if (S->accept_resume_ms)
        MUST(t->deadline_ns <= S->accept_resume_ms * 1000000 + oversleep_ns(),
             "it sleeps, and the listener rests on");
    if (hub->sweep_ms != UINT64_MAX && hub->sweep_ms >= now_ms())
        MUST(t->deadline_ns <= hub->sweep_ms * 1000000 + oversleep_ns(),
             "it sleeps over the next sweep");
}

static void check_sleeping_views(int i, const thread *const *asleep)
{
    const channel *ch = &M.channel[i];
    lpi_hub *hub = &S->hub;
    uint32_t v = ch->exists ? lpi_channel_at(hub, ch->index)->lists.head : LPI_NONE;
    for (; v != LPI_NONE; v = lpi_waiter_list_at(hub, v)->link.next) {
        uint32_t head = lpi_waiter_list_at(hub, v)->parked.head;
        if (!asleep[lpi_waiter_list_at(hub, v)->loop]) continue;
        MUST(lpi_waiter_list_at(hub, v)->fetching.head == LPI_NONE || polls_fetch(hub, v),
             "it sleeps, and a poll on \"%s\" could be judged", names[i].name);
        MUST(head == LPI_NONE || lpi_waiter_at(hub, head)->from.seq >= ch->last,
             "it sleeps, and a poll on \"%s\" has something to hear", names[i].name);
    }
}

/* The last that was told of a channel on which a poll is parked is that it is waited on; and of
   one on which none has been for long that it is not. */
static void check_told(int i)
{
    const channel *ch = &M.channel[i];
    uint64_t linger_ms = 3 * (uint64_t)S->config.channel_linger_ms;
    if (ch->exists && lpi_channel_at(&S->hub, ch->index)->waiters)
        MUST(ch->watched, "it sleeps, and a poll on \"%s\" is not told of", names[i].name);
    else
        MUST(!ch->watched || now_ms() <= ch->waited_ms + linger_ms + 3000 +
                                             3 * oversleep_ns() / 1000000 + K.stalled_ns / 1000000,
             "it sleeps, and that \"%s\" is deserted is not told", names[i].name);
}

static void check_deadline(int i, const thread *const *asleep)
{
    const conn *c = &K.conns[i];
    const thread *t;
    int32_t left;
    if (!c->used || c->fd < 0 || !c->known) return;
    t = asleep[OS.all[c->description].slot];
    if (!t || !lpi_timer_armed(&loop_of(c)->wheel, index_of(c))) return;
    left = (int32_t)(lpi_timer_at(&loop_of(c)->wheel, index_of(c))->deadline - (uint32_t)now_ms());
    if (left < 0) left = 0;
    MUST(t->deadline_ns <= K.now_ns + (uint64_t)left * 1000000 + oversleep_ns(),
         "it sleeps over a deadline of connection %d, %d ms from now", i, left);
}

/* No thread runs, and time is about to pass: nobody may be waiting for one that sleeps. Of many
   connections or channels some are looked at, and the next ones the next time. */
static void check_sleep(void)
{
    enum { SOME = 64 };
    const thread *asleep[LOOPS] = {NULL};
    uint32_t slot, i, conns = (uint32_t)K.conn_top;
    if (S->hub.stopped) return;
    for (slot = 0; slot < S->loop_count; slot++) {
        asleep[slot] = sleeper(slot);
        if (asleep[slot]) check_sleeper(asleep[slot], &S->loops[slot]);
    }
    for (i = 0; i < world_channels && i < SOME; i++) {
        uint32_t ch = ++K.looked_at % world_channels;
        check_sleeping_views((int)ch, asleep);
        if (hooks && asleep[0]) check_told((int)ch);
    }
    for (i = 0; i < conns && i < SOME; i++) check_deadline((int)(++K.looked_at % conns), asleep);
}

#endif /* CHECK_H */
