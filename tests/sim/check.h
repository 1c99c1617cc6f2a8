/* check.h: lpi_check(server): everything that can be counted in two ways is.

   check_step() follows each step and is cheap: no phase in between, no spinning. Every 64th
   time it is lpi_check(), which recounts the whole server: connections, waiters, seats,
   tallies, channels, messages, slabs, lists, tables, the wheel, and all memory to the byte. */

#ifndef CHECK_H
#define CHECK_H

static uint64_t full_checks, steps;

static uint64_t check_slab(const lpi_slab *slab, const char *name)
{
    uint32_t c, used = 0, roomy = 0, empty = 0, vacant = 0, n = 1u << slab->shift;
    uint64_t bytes = slab->chunk_capacity * sizeof(lpi_chunk);
    for (c = 0; c < slab->chunk_count; c++) {
        const lpi_chunk *chunk = &slab->chunks[c];
        uint32_t i, next;
        if (!chunk->records) continue;
        bytes += lpi_slab_chunk_size(slab);
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
         t->buckets <= t->segment_count * LPI_SEGMENT, "%s: the table's size", name);
    for (b = 0; b < t->segment_count * LPI_SEGMENT; b++) {
        uint32_t i = *lpi_table_bucket(t, b);
        MUST(b < t->buckets || i == LPI_NONE, "%s: a bucket that is not in use", name);
        for (; i != LPI_NONE; i = lpi_node_at(t, i)->next, count++) {
            MUST(count < t->count, "%s: more entries than count says", name);
            SAME(lpi_table_index(t, lpi_node_at(t, i)->hash), b, name);
        }
    }
    SAME(count, t->count, name);
    return t->segment_capacity * sizeof(uint32_t *) +
           t->segment_count * LPI_SEGMENT * sizeof(uint32_t);
}

static uint32_t check_list(const lpi_list *list, const lpi_slab *slab, size_t offset,
                           const char *name)
{
    uint32_t i = list->head, before = LPI_NONE, n = 0;
    for (; i != LPI_NONE; before = i, i = lpi_link_at(slab, offset, i)->next, n++)
        MUST(n < slab->used && lpi_link_at(slab, offset, i)->prev == before, "list: %s", name);
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
    lpi_blob *blob;
    uint32_t count;
} blobs[CONNS];

static uint32_t tally_counts[2 * CONNS][2];
static uint32_t tally_used;

static void tally_count(uint32_t index)
{
    uint32_t i;
    for (i = 0; i < tally_used && tally_counts[i][0] != index;) i++;
    if (i == tally_used) {
        tally_counts[i][0] = index;
        tally_counts[tally_used++][1] = 0;
    }
    tally_counts[i][1]++;
}

static int has_no_deadline(const lp_config *cfg, const lpi_connection *c)
{
    switch ((lpi_phase)c->phase) {
    case LPI_FRESH:
    case LPI_HEADING: return cfg->head_ms == LPI_NEVER;
    case LPI_BODYING: return cfg->body_ms == LPI_NEVER;
    case LPI_IDLE: return cfg->idle_ms == LPI_NEVER;
    case LPI_WRITING: return cfg->write_ms == LPI_NEVER;
    default: return 0;
    }
}

/* Connections: phases, waiters, tallies, what is kept of them. Returns the memory. */
static uint64_t check_connections(lpi_loop *loop, lpi_hub *hub)
{
    uint32_t phases[LPI_PHASES] = {0}, index = 0, used = 0, seats = 0, i, n = 0, queued,
             claims = 0;
    uint64_t bytes = 0, pinned = 0, partial = 0;
    lpi_connection *c;
    tally_used = 0;
    for (; (c = lpi_loop_each(loop, &index)); index++, used++) {
        uint32_t seat;
        const descriptor *d = fd_at(c->fd, D_SOCKET);
        int waits = c->phase == LPI_PARKED || c->phase == LPI_FETCHING;
        phases[c->phase]++;
        SAME(d->watched, c->interest, "what is watched");
        MUST(!c->interest || d->tag == index, "the tag");
        MUST((c->phase == LPI_WRITING) == (c->io && c->io->out), "a reply that is written");
        MUST(waits == (c->seat != LPI_NONE), "seats without a wait, or the other way");
        MUST((c->phase != LPI_HEADING && c->phase != LPI_BODYING) || c->io,
             "what has come is lost");
        MUST(!lpi_receiving(c) || c->interest & LP_READ, "a request is awaited, and not read");
        if (waits) {
            tally_count(c->client);
            tally_count(c->ceiling);
            MUST(lpi_node_at(&hub->tallied, c->client)->own <= hub->config->waiters_per_client,
                 "too many polls of one client");
            MUST(lpi_node_at(&hub->tallied, c->ceiling)->own <= hub->config->waiters_per_address,
                 "too many polls from one address");
        }
        MUST(c->phase == LPI_QUEUED || lpi_timer_armed(&loop->wheel, index) ||
             has_no_deadline(hub->config, c), "no deadline in phase %u", c->phase);
        for (seat = c->seat; seat != LPI_NONE; seat = lpi_seat_at(hub, seat)->sibling, seats++) {
            SAME(lpi_seat_at(hub, seat)->connection, index, "a seat's connection");
            claims += c->phase == LPI_FETCHING;
        }
        if (c->io) {
            partial += sizeof *c->io + c->io->in_capacity;
            MUST(c->io->in_length <= c->io->in_capacity, "kept bytes");
        }
        if (!c->io || !c->io->out) continue;
        for (i = 0; i < n && blobs[i].blob != c->io->out;) i++;
        if (i == n) {
            blobs[n].blob = c->io->out;
            blobs[n++].count = 0;
            pinned += sizeof(lpi_blob) + c->io->out->length;
        }
        blobs[i].count++;
    }
    for (i = 0; i < n; i++) SAME(blobs[i].blob->refs, blobs[i].count, "a blob's references");
    for (i = LPI_CLOSED + 1; i < LPI_PHASES; i++) SAME(loop->phases[i], phases[i], "phases");
    SAME(phases[LPI_SERVING], 0, "being served");
    SAME(loop->connections.used, used, "connections");
    SAME(hub->connections, used, "connections");
    SAME(K.sockets, used, "connections");
    SAME(hub->stats.waiters, phases[LPI_PARKED] + phases[LPI_FETCHING], "waiters");
    SAME(hub->seats.used, seats, "seats");
    SAME(hub->claims.used, claims, "claims");
    SAME(hub->stats.pinned_bytes, pinned, "pinned_bytes");
    SAME(hub->partial_bytes, partial, "partial_bytes");
    for (i = 0; i < tally_used; i++) {
        SAME(((lpi_tally *)lpi_at(&hub->tallies, tally_counts[i][0]))->node.own,
             tally_counts[i][1], "a tally");
    }
    SAME(tally_used, hub->tallied.count, "tallies");
    SAME(tally_used, hub->tallies.used, "tallies");
    queued = check_list(&loop->queue, &loop->connections, offsetof(lpi_connection, timer.link),
                        "queue");
    SAME(queued, phases[LPI_QUEUED], "queued");
    for (i = loop->queue.head; i != LPI_NONE; i = lpi_connection_at(loop, i)->timer.link.next)
        SAME(lpi_connection_at(loop, i)->phase, LPI_QUEUED, "queued");
    bytes = pinned + partial;
    {
        const lpi_io *io = loop->spare;
        for (i = 0; io; io = io->next, i++) bytes += sizeof *io + io->in_capacity;
        SAME(i, loop->spare_count, "spare");
        MUST(i <= LPI_SPARE_MAX, "too much is spared");
    }
    return bytes;
}

static uint32_t check_views(lpi_hub *hub, lpi_channel *ch, uint32_t index, uint32_t *fresh)
{
    uint32_t v, seats = 0;
    check_list(&ch->views, &hub->views, offsetof(lpi_view, link), "views");
    for (v = ch->views.head; v != LPI_NONE; v = lpi_view_at(hub, v)->link.next) {
        lpi_view *view = lpi_view_at(hub, v);
        uint32_t seat, n, r;
        uint64_t before = 0;
        SAME(view->channel, index, "a view's channel");
        n = check_list(&view->parked, &hub->seats, offsetof(lpi_seat, link), "parked") +
            check_list(&view->fetching, &hub->seats, offsetof(lpi_seat, link), "fetching");
        SAME(view->seats, n, "a view's seats");
        MUST(n || view->ready, "a view of nobody");
        seats += n;
        for (seat = view->parked.head; seat != LPI_NONE;) {
            const lpi_seat *s = lpi_seat_at(hub, seat);
            SAME(s->view, v, "a seat's view");
            MUST(s->seq >= before, "seats out of order");
            MUST(s->seq <= ch->last, "a seat ahead of its channel");
            MUST(s->seq == ch->last || view->ready, "a poll is forgotten");
            before = s->seq;
            *fresh += s->seq == ch->last && s->epoch_number == ch->epoch_number;
            seat = s->link.next;
        }
        for (r = hub->loops->ready_first, n = 0; r != LPI_NONE && r != v; n++)
            r = lpi_view_at(hub, r)->next_ready;
        MUST((r == v) == !!view->ready, "ready");
    }
    return seats;
}

/* The hub: returns the memory of messages, names and rings. */
static uint64_t check_hub(lpi_hub *hub)
{
    const lp_config *cfg = hub->config;
    lpi_message *m, *before = NULL;
    uint64_t bytes = 0, other = 0;
    uint32_t messages = 0, waiters = 0, channels = 0, idle = 0, deserted = 0, b, i, views = 0;
    for (m = hub->oldest; m; before = m, m = m->newer, messages++) {
        MUST(m->older == before, "the list of messages");
        MUST(!before || before->born_us <= m->born_us + 100000, "messages out of order");
        SAME(m->refs, 1, "a message's references");
        bytes += m->size;
    }
    MUST(hub->newest == before, "the newest message");
    SAME(hub->stats.messages, messages, "messages");
    SAME(hub->stats.history_bytes, bytes, "history_bytes");
    SAME(hub->stats.published - hub->stats.evicted, messages, "messages");
    for (b = 0; b < hub->names.buckets; b++) {
        uint32_t index = *lpi_table_bucket(&hub->names, b);
        for (; index != LPI_NONE; index = lpi_channel_at(hub, index)->node.next, channels++) {
            lpi_channel *ch = lpi_channel_at(hub, index);
            uint32_t fresh = 0, k, seats = check_views(hub, ch, index, &fresh);
            SAME(ch->waiters, seats, "a channel's waiters");
            SAME(ch->fresh, fresh, "fresh");
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
            waiters += seats;
            SAME(ch->idle, !ch->held && !ch->waiters && ch->views.head == LPI_NONE, "idle");
            SAME(ch->deserted, ch->watched && !ch->waiters, "deserted");
            idle += ch->idle;
            deserted += ch->deserted;
            for (i = ch->views.head; i != LPI_NONE; i = lpi_view_at(hub, i)->link.next) views++;
            other += ch->name_length + ch->ring_size * sizeof *ch->ring;
        }
    }
    SAME(messages, 0, "messages in rings");
    SAME(waiters, hub->seats.used, "waiters on channels");
    SAME(channels, hub->stats.channels, "channels");
    SAME(channels, hub->names.count, "channels");
    SAME(views, hub->views.used, "views");
    SAME(idle, check_list(&hub->idle, &hub->channels, offsetof(lpi_channel, idle_link), "idle"),
         "idle channels");
    for (i = hub->deserted.head; i != LPI_NONE;) {
        const lpi_channel *ch = lpi_channel_at(hub, i);
        if (ch->forgotten) {
            deserted++;
            channels++;
            other += ch->name_length;
        }
        i = ch->deserted_link.next;
    }
    SAME(deserted, check_list(&hub->deserted, &hub->channels,
                              offsetof(lpi_channel, deserted_link), "deserted"), "deserted");
    SAME(channels, hub->channels.used, "channels");
    return bytes + other;
}

static void check_limits(void)
{
    const lp_config *cfg = &S->config;
    const lpi_hub *hub = &S->hub;
    MUST(hub->stats.waiters <= cfg->waiters_max, "too many waiters");
    MUST(hub->connections <= cfg->connections_max, "too many connections");
    MUST(hub->stats.channels <= cfg->channels_max, "too many channels");
    if (cfg->history_bytes != LP_UNLIMITED) {
        MUST(hub->stats.pinned_bytes <= cfg->history_bytes / 2, "too much is pinned");
        MUST(hub->stats.messages <= 1 || hub->stats.history_bytes <= cfg->history_bytes,
             "too much history");
    }
    if (cfg->partial_bytes_max != LP_UNLIMITED)
        MUST(S->hub.partial_bytes <= cfg->partial_bytes_max + 65536 + hub->connections *
             sizeof(lpi_io), "too much of what is incomplete");
    if (cfg->history_age_ms != LP_UNLIMITED && hub->oldest && !S->hub.loops[0].drain_ms)
        MUST(now_ms() <= hub->oldest->born_us / 1000 + cfg->history_age_ms + LPI_SWEEP_MS + 100 +
             2 * K.step_most_ns / 1000000 || hub->stats.messages > LPI_SWEEP_MAX,
             "a message is kept beyond its age");
}

/* All memory, to the byte, and a bound that follows from the configuration alone. */
static void check_memory(uint64_t bytes)
{
    const lpi_loop *loop = &S->hub.loops[0];
    const lpi_hub *hub = &S->hub;
    const lp_config *cfg = &S->config;
    uint64_t bound = 3 << 20;
    bytes += sizeof *S + sizeof *loop + loop->inbox.arrivals_capacity;
    bytes += arena_bytes(&S->strings) + arena_bytes(&loop->arena);
    bytes += check_slab(&hub->channels, "channels") + check_slab(&hub->views, "views") +
             check_slab(&hub->seats, "seats") + check_slab(&hub->claims, "claims") +
             check_slab(&hub->tallies, "tallies") + check_slab(&loop->connections, "connections");
    bytes += check_table(&hub->names, "names") + check_table(&hub->tallied, "tallied");
    bytes += LPI_READ_SIZE + loop->batch.message_capacity * sizeof(lpi_message *) +
             loop->batch.names.capacity + loop->extra.capacity + loop->head.capacity +
             loop->json.capacity + M.asyncs * sizeof(lpi_outcome);
    SAME(bytes, K.memory_bytes, "memory");
    if (cfg->history_bytes == LP_UNLIMITED || cfg->partial_bytes_max == LP_UNLIMITED) return;
    bound += cfg->history_bytes * 2 + cfg->partial_bytes_max + cfg->message_bytes_max;
    bound += (uint64_t)loop->json.capacity + FDS * 2048;
    MUST(bytes <= bound, "%" PRIu64 " bytes of memory, over the bound of %" PRIu64, bytes, bound);
}

/* The first request that waits for its answer may not wait for ever. */
static void check_hung(void)
{
    int i;
    for (i = 0; i < CONNS; i++) {
        const conn *c = &K.conns[i];
        const request *r = &c->requests[c->replied % REQUESTS];
        uint64_t since;
        if (!c->used || c->fd < 0 || c->wild || c->got == c->replied || c->closing) continue;
        if (c->pend_length || S->hub.loops[0].drain_ms) continue;
        since = r->got_ns > c->reply_ns ? r->got_ns : c->reply_ns;
        MUST(K.now_ns <= since + ((uint64_t)r->wait_ms + 10) * 1000000 + 5 * K.step_most_ns +
             K.stalled_ns + (uint64_t)K.sockets * 1000000,
             "request %u of connection %d is not answered, in phase %u", c->replied, i,
             lpi_connection_at(&S->hub.loops[0], K.fds[c->fd].tag)->phase);
    }
}

static void lpi_check(lp_server *server)
{
    uint64_t bytes;
    full_checks++;
    bytes = check_connections(&server->hub.loops[0], &server->hub);
    bytes += check_hub(&server->hub);
    check_wheel(&server->hub.loops[0]);
    check_memory(bytes);
    check_limits();
    check_hung();
}

/* After each step. A step that neither waited nor did anything may happen, sixteen in a row
   may not; nor may the server wake up again and again for nothing. */
static void check_step(void)
{
    const lpi_loop *loop = &S->hub.loops[0];
    const lpi_hub *hub = &S->hub;
    uint32_t phase, n = 0;
    if (hub->stopped) return;
    steps++;
    for (phase = LPI_CLOSED + 1; phase < LPI_PHASES; phase++) n += loop->phases[phase];
    SAME(n, K.sockets, "phases and connections");
    SAME(hub->connections, n, "connections");
    SAME(loop->phases[LPI_SERVING], 0, "being served between steps");
    SAME(loop->phases[LPI_PARKED] + loop->phases[LPI_FETCHING], hub->stats.waiters,
         "waiters and parked ones");
    SAME(loop->closed, LPI_NONE, "closed and not given back");
    SAME(loop->batch.entry_count + loop->batch.message_count + loop->batch.plan_count, 0,
         "a batch that was not sent");
    SAME(hub->mutex, 0, "the mutex");
    if (K.progress != K.idle_progress) K.idle_steps = K.nap_steps = 0;
    else if (K.napped) K.nap_steps++;
    else if (!K.blocked) K.idle_steps++;
    MUST(K.idle_steps < 16, "the loop spins");
    /* A deadline that moved later costs a wake-up at its old time, and one on each wheel. */
    MUST(K.nap_steps < 40 + 6 * (uint32_t)K.sockets, "the loop wakes up for nothing");
    K.idle_progress = K.progress;
    K.napped = K.blocked = 0;
    if (steps % 64 == 0) lpi_check(S);
}

/* Whether each fetching poll of the view waits for some channel. */
static int polls_fetch(lpi_hub *hub, uint32_t v)
{
    uint32_t s = lpi_view_at(hub, v)->fetching.head;
    for (; s != LPI_NONE; s = lpi_seat_at(hub, s)->link.next) {
        uint32_t c = lpi_seat_at(hub, s)->connection, fetching = 0;
        uint32_t seat = lpi_connection_at(hub->loops, c)->seat;
        for (; seat != LPI_NONE; seat = lpi_seat_at(hub, seat)->sibling)
            fetching |= lpi_channel_at(
                hub, lpi_view_at(hub, lpi_seat_at(hub, seat)->view)->channel)->fetching;
        if (!fetching) return 0;
    }
    return 1;
}

/* The server is about to sleep until then: nobody may be waiting for it. */
static void check_block(uint64_t until_ns)
{
    lpi_loop *loop = &S->hub.loops[0];
    lpi_hub *hub = &S->hub;
    uint64_t late = 3000000 + (K.faults ? 50000000 : 0);
    int i;
    if (hub->stopped) return;
    model_sync();
    SAME(loop->queue.head, LPI_NONE, "it sleeps on its queue");
    SAME(loop->ready_first, LPI_NONE, "it sleeps on ready views");
    if (S->rest_ms)
        MUST(until_ns <= S->rest_ms * 1000000 + late, "it sleeps, and the listener rests on");
    if (hub->sweep_ms != UINT64_MAX && hub->sweep_ms >= now_ms())
        MUST(until_ns <= hub->sweep_ms * 1000000 + late, "it sleeps over the next sweep");
    for (i = 0; i < CHANNELS; i++) {
        const channel *ch = &M.channel[i];
        uint32_t v = ch->exists ? lpi_channel_at(hub, ch->index)->views.head : LPI_NONE;
        for (; v != LPI_NONE; v = lpi_view_at(hub, v)->link.next) {
            uint32_t head = lpi_view_at(hub, v)->parked.head;
            MUST(lpi_view_at(hub, v)->fetching.head == LPI_NONE || polls_fetch(hub, v),
                 "it sleeps, and a poll on \"%s\" could be judged", names[i].name);
            MUST(head == LPI_NONE || lpi_seat_at(hub, head)->seq >= ch->last,
                 "it sleeps, and a poll on \"%s\" has something to hear", names[i].name);
        }
    }
    for (i = 0; i < CONNS; i++) {
        const conn *c = &K.conns[i];
        const lpi_timer *t;
        int32_t left;
        if (!c->used || c->fd < 0 || !c->known) continue;
        if (!lpi_timer_armed(&loop->wheel, K.fds[c->fd].tag)) continue;
        t = lpi_timer_at(&loop->wheel, K.fds[c->fd].tag);
        left = (int32_t)(t->deadline - (uint32_t)now_ms());
        if (left < 0) left = 0;
        MUST(until_ns <= K.now_ns + (uint64_t)left * 1000000 + late,
             "it sleeps over a deadline of connection %d, %d ms from now", i, left);
    }
}

#endif /* CHECK_H */
