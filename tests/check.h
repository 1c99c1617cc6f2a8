/* check.h: everything inside a server that can be counted in two ways is: connections, waiters,
   counters, what each address takes, channels, messages, slabs, lists, tables, wheels, tasks,
   and all memory to the byte. It knows the inside of longpoll.h, and no other file of the tests
   needs to.

   Before it is included: tests/kernel.h, CHECK_MUST(x, format, ...), CHECK_SAME(a, b, what) and
   CHECK_SLACK_US, by how much a message may seem older than the one before it. After it the
   driver defines check_peer. */

#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <inttypes.h>

/* Whether that account is the peer's. */
static void check_peer(const stream *c, const lpi_account *account, int trusted);

/* ---- slabs, tables, lists, the wheel ---- */

static uint64_t check_slab(const lpi_slab *slab, const char *name)
{
    uint32_t c, used = 0, roomy = 0, empty = 0, vacant = 0, n = LPI_CHUNK;
    uint64_t bytes = slab->chunk_capacity * sizeof(lpi_slab_chunk);
    for (c = 0; c < slab->chunk_count; c++) {
        const lpi_slab_chunk *chunk = &slab->chunks[c];
        uint32_t i, next;
        if (!chunk->records) continue;
        bytes += lpi_slab_chunk_bytes(slab);
        used += chunk->used;
        empty += !chunk->used;
        for (i = 0, next = chunk->free; next != LPI_NONE; i++) {
            CHECK_MUST(i < n && next / LPI_CHUNK == c, "%s: a chunk's free list", name);
            memcpy(&next, lpi_at(slab, next), 4);
        }
        CHECK_SAME(i, n - chunk->used, name);
    }
    CHECK_SAME(used, slab->used, name);
    CHECK_SAME(empty, slab->empty, name);
    CHECK_MUST(empty <= 1, "%s: %u empty chunks are kept", name, empty);
    for (c = slab->roomy; c != LPI_NONE; c = slab->chunks[c].next, roomy++) {
        CHECK_MUST(roomy <= slab->chunk_count && slab->chunks[c].records &&
             slab->chunks[c].free != LPI_NONE, "%s: the list of chunks with room", name);
    }
    for (c = slab->vacant; c != LPI_NONE; c = slab->chunks[c].next, vacant++)
        CHECK_MUST(vacant <= slab->chunk_count && !slab->chunks[c].records,
             "%s: the list of vacant chunks", name);
    for (c = 0; c < slab->chunk_count; c++) {
        if (!slab->chunks[c].records) vacant--;
        else if (slab->chunks[c].free != LPI_NONE) roomy--;
    }
    CHECK_SAME(roomy, 0, name);
    CHECK_SAME(vacant, 0, name);
    return bytes;
}

static uint64_t check_table(const lpi_table *t, const char *name)
{
    uint32_t b, count = 0;
    CHECK_MUST(t->round <= t->buckets && t->buckets < t->round * 2 &&
         t->buckets <= t->capacity, "%s: the table's size", name);
    for (b = 0; b < t->buckets; b++) {
        uint32_t i = *lpi_table_bucket(t, b);
        for (; i != LPI_NONE; i = lpi_node_at(t, i)->next, count++) {
            CHECK_MUST(count < t->count, "%s: more entries than count says", name);
            CHECK_SAME(lpi_table_index(t, lpi_node_at(t, i)->hash), b, name);
        }
    }
    CHECK_SAME(count, t->count, name);
    return t->capacity * sizeof(uint32_t);
}

static uint32_t check_list(const lpi_list *list, const lpi_links *links, const char *name)
{
    uint32_t i = list->head, before = LPI_NONE, n = 0;
    for (; i != LPI_NONE; before = i, i = lpi_link_at(links, i)->next, n++)
        CHECK_MUST(n < links->slab->used && lpi_link_at(links, i)->prev == before, "list: %s", name);
    CHECK_SAME(list->tail, before, name);
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
            CHECK_MUST(!(w->bits[slot / LPI_SLOTS] >> slot % LPI_SLOTS & 1) == (i == LPI_NONE),
                 "the bit of slot %u of the wheel", slot);
        for (; i != LPI_NONE; before = i, i = lpi_timer_at(w, i)->link.next) {
            const lpi_timer *t = lpi_timer_at(w, i);
            CHECK_MUST(armed++ < loop->connections.used, "the wheel has too many timers");
            CHECK_MUST(lpi_connection_at(loop, i)->phase != LPI_CLOSED, "a timer of a closed one");
            CHECK_SAME(t->link.prev, before, "the wheel's list");
            CHECK_SAME(lpi_wheel_slot(w, t->due), slot, "a timer's slot");
            CHECK_MUST((int32_t)(t->deadline - t->due) >= 0, "a timer rings before it is due");
        }
    }
    for (; (c = lpi_loop_each(loop, &index)); index++)
        if (c->phase != LPI_QUEUED && lpi_timer_armed(w, index)) expected++;
    CHECK_SAME(armed, expected, "armed timers");
}

/* ---- connections ---- */

typedef struct check_sent {
    lpi_send_buffer *send_buffer;
    uint32_t count;
    uint64_t accounts; /* those that hold it, a bit each: the first 64           */
} check_sent;

/* What an address takes. */
typedef struct check_taken {
    uint32_t refs, polls, connections;
    uint64_t partial, pinned;
} check_taken;

/* By counter: parked polls, and connections that keep it. */
typedef struct check_polls {
    uint32_t polls, keepers;
} check_polls;

/* A message that readers keep, and how many do. */
typedef struct check_kept {
    lpi_message *message;
    uint32_t refs;
} check_kept;

/* What is counted over all loops. */
static struct check_totals {
    lp_server *server;
    kernel *kernel;
    check_sent *sent;       /* of one loop                                      */
    check_taken *accounts;  /* by the index of an account                       */
    check_polls *counts;    /* by the index of a counter                        */
    size_t sent_room, accounts_room, counts_room;
    /* messages that are kept until a reply with them is out */
    check_kept *kept;
    size_t kept_room;
    uint64_t phases[LPI_PHASES], connections, arriving, outcomes, answer_bytes, waiters, requested,
             pinned, partial, names, kept_count;
} recount;

/* The array has room for `need` of them, and all are blank. */
static void *check_blank(void *array, size_t *room, size_t need, size_t size)
{
    if (need > *room) {
        free(array);
        *room = need * 2;
        array = malloc(*room * size);
        CHECK_MUST(array, "the machine has no memory");
    }
    memset(array, 0, need * size);
    return array;
}

static size_t check_records(const lpi_slab *slab) { return (size_t)slab->chunk_count * LPI_CHUNK; }

static void check_begins(lp_server *server, kernel *k)
{
    lpi_hub *hub = &server->hub;
    size_t records = 1;
    uint32_t i;
    memset(recount.phases, 0, sizeof recount - offsetof(struct check_totals, phases));
    recount.server = server;
    recount.kernel = k;
    for (i = 0; i < server->loop_count; i++) records += server->loops[i].connections.used;
    recount.sent = (check_sent *)check_blank(recount.sent, &recount.sent_room, records, sizeof *recount.sent);
    recount.accounts = (check_taken *)check_blank(recount.accounts, &recount.accounts_room,
                                              check_records(&hub->accounts) + 1,
                                              sizeof *recount.accounts);
    recount.counts = (check_polls *)check_blank(recount.counts, &recount.counts_room,
                                         check_records(&hub->counters) + 1, sizeof *recount.counts);
}

static int has_no_deadline(const lp_config *cfg, const lpi_connection *c)
{
    switch ((lpi_phase)c->phase) {
    case LPI_ACCEPTED:
    case LPI_READING_HEAD: return cfg->head_ms == LPI_NEVER;
    case LPI_READING_BODY: return cfg->body_ms == LPI_NEVER;
    case LPI_IDLE: return cfg->idle_ms == LPI_NEVER;
    case LPI_WRITING: return cfg->write_ms == LPI_NEVER;
    case LPI_PUBLISHING: return 1; /* the store has one */
    case LPI_DEFERRED: return 1;   /* the handler may have asked for none */
    default: return 0;
    }
}

static void count_waiter(lpi_hub *hub, const lpi_connection *c)
{
    CHECK_MUST(c->wait.counter < check_records(&hub->counters), "a counter's index is %u",
         c->wait.counter);
    recount.counts[c->wait.counter].polls++;
    recount.accounts[c->wait.account].polls++;
    CHECK_MUST(lpi_counter_at(hub, c->wait.counter)->node.count <= hub->config->waiters_per_client,
         "too many polls of one client");
    CHECK_MUST(lpi_account_at(hub, c->wait.account)->node.count <= hub->config->waiters_per_address,
         "too many polls from one address");
}

/* What a send buffer of that account costs, unless it is charged for it already. */
static void count_sent(const lpi_connection *c, const lpi_send_buffer *out, check_sent *sent,
                       uint32_t first)
{
    uint32_t account = c->wait.account, i = 0;
    lpi_connection *d;
    if (account < 64) {
        if (sent->accounts >> account & 1) return;
        sent->accounts |= UINT64_C(1) << account;
    } else {
        for (; (d = lpi_loop_each(&recount.server->loops[first], &i)) && d != c; i++)
            if (d->wait.account == account && d->buffer && d->buffer->out == out) return;
    }
    recount.accounts[account].pinned += sizeof(lpi_send_buffer) + out->length;
}

/* What is kept of a connection. `n` send buffers are known; returns how many are now. */
static uint32_t count_io(uint32_t loop, const lpi_connection *c, uint32_t n)
{
    const lpi_request_buffer *buffer = c->buffer;
    uint32_t i;
    recount.partial += sizeof *buffer + buffer->in_capacity;
    recount.accounts[c->wait.account].partial += sizeof *buffer + buffer->in_capacity;
    CHECK_MUST(buffer->in_length <= buffer->in_capacity, "kept bytes");
    CHECK_MUST(c->phase != LPI_READING_BODY || buffer->route->kind != LPI_POLLS ||
         buffer->in_length == buffer->head_length, "a poll's body is kept");
    if (!buffer->out) return n;
    CHECK_SAME(buffer->account, c->wait.account, "whom a send buffer is charged to");
    for (i = 0; i < n && recount.sent[i].send_buffer != buffer->out;) i++;
    if (i == n) {
        recount.sent[n].send_buffer = buffer->out;
        recount.sent[n].accounts = 0;
        recount.sent[n++].count = 0;
        recount.pinned += sizeof(lpi_send_buffer) + buffer->out->length;
    }
    recount.sent[i].count++;
    count_sent(c, buffer->out, &recount.sent[i], loop);
    return n;
}

static void count_account(const stream *c, uint32_t account, int trusted)
{
    CHECK_MUST(account < check_records(&recount.server->hub.accounts), "an account's index is %u", account);
    check_peer(c, lpi_account_at(&recount.server->hub, account), trusted);
    recount.accounts[account].refs++;
    if (!trusted) recount.accounts[account].connections++;
}

/* What an address takes is counted right, and no more than it may have. */
static void check_account(lpi_hub *hub, uint32_t index)
{
    const lp_config *cfg = hub->config;
    const lpi_account *is = lpi_account_at(hub, index);
    CHECK_SAME(is->refs, recount.accounts[index].refs, "an account");
    CHECK_SAME(is->node.count, recount.accounts[index].polls, "an account");
    CHECK_SAME(is->connections, recount.accounts[index].connections, "an account");
    CHECK_SAME(is->partial_bytes, recount.accounts[index].partial, "an account");
    CHECK_SAME(is->pinned_bytes, recount.accounts[index].pinned, "an account");
    CHECK_MUST(is->node.count <= cfg->waiters_per_address, "too many polls from one address");
    CHECK_MUST(is->connections <= cfg->connections_per_address, "too many connections from one address");
    if (is->trusted) return;
    CHECK_MUST(cfg->partial_bytes_max == LP_UNLIMITED || is->partial_bytes <= cfg->partial_bytes_max / 4,
         "an address has %" PRIu64 " of %u partial_bytes_max", is->partial_bytes,
         cfg->partial_bytes_max);
    CHECK_MUST(cfg->history_bytes == LP_UNLIMITED || is->pinned_bytes <= cfg->history_bytes / 2 / 4,
         "an address holds up %" PRIu64 " of %" PRIu64 " history_bytes", is->pinned_bytes,
         cfg->history_bytes);
}

static void check_accounts(lpi_hub *hub)
{
    uint32_t i, used = 0;
    for (i = 0; i < check_records(&hub->accounts); i++) {
        if (!recount.accounts[i].refs) continue;
        check_account(hub, i);
        used++;
    }
    CHECK_SAME(used, hub->accounts.used, "accounts");
    CHECK_SAME(used, hub->account_table.count, "accounts");
}

static void check_connection(lpi_loop *loop, uint32_t index, const lpi_connection *c)
{
    lpi_hub *hub = &recount.server->hub;
    uint32_t waiter;
    const description *d;
    int waits = c->phase == LPI_PARKED;
    if (c->phase == LPI_ABANDONED) { /* only its record is left */
        recount.accounts[c->wait.account].refs++;
        if (!(c->flags & LPI_TRUSTED)) recount.accounts[c->wait.account].connections++;
        if (c->wait.keeps) recount.counts[c->wait.counter].keepers++;
        return;
    }
    d = kernel_at(recount.kernel, c->fd, K_SOCKET);
    CHECK_SAME(d->watched, lpi_poller_mask(c->interest), "what is watched");
    CHECK_SAME(d->slot, loop->index, "whose poller watches");
    CHECK_MUST(!c->interest || d->tag == lpi_tag_of(c, index), "the tag");
    CHECK_MUST((c->phase == LPI_WRITING) == (c->buffer && c->buffer->out), "a reply that is written");
    CHECK_MUST(waits == (c->wait.waiter != LPI_NONE), "waiters without a wait, or the other way");
    CHECK_MUST((c->phase != LPI_READING_HEAD && c->phase != LPI_READING_BODY) || c->buffer, "what has come is lost");
    CHECK_MUST(!lpi_is_receiving(c) || c->interest & LP_READ, "a request is awaited, and not read");
    count_account(d->stream, c->wait.account, c->flags & LPI_TRUSTED ? 1 : 0);
    if (waits) count_waiter(hub, c);
    if (c->wait.keeps) {
        CHECK_MUST(c->wait.counter < check_records(&hub->counters), "a counter that is kept");
        recount.counts[c->wait.counter].keepers++;
    }
    CHECK_MUST(c->phase == LPI_QUEUED || lpi_timer_armed(&loop->wheel, index) ||
         has_no_deadline(hub->config, c), "no deadline in phase %u", c->phase);
    for (waiter = c->wait.waiter; waiter != LPI_NONE; waiter = lpi_waiter_at(hub, waiter)->sibling) {
        recount.waiters++;
        CHECK_SAME(lpi_waiter_at(hub, waiter)->connection, index, "a waiter's connection");
        CHECK_SAME(lpi_waiter_list_at(hub, lpi_waiter_at(hub, waiter)->list)->loop, loop->index,
             "the loop of a waiter's waiter list");
        recount.requested += c->wait.fetching;
    }
}

/* What a stream asks for, which is kept until its connection closes. Returns its memory. */
static uint64_t check_stream(lpi_loop *loop, uint32_t index)
{
    const lpi_connection *c = lpi_connection_at(loop, index);
    CHECK_MUST(index < loop->stream_capacity, "a stream without a record");
    CHECK_MUST(c->flags & LPI_CLOSE && !(c->flags & (LPI_HTTP10_KEEP_ALIVE | LPI_HEAD_REQUEST)),
         "a stream's flags");
    CHECK_MUST(c->phase >= LPI_QUEUED && c->phase != LPI_PUBLISHING, "a stream in phase %u",
         c->phase);
    return loop->streams[index]->size;
}

/* One more reference to a message by a reader. Returns its size, if no channel holds it and this is
   the first. */
static uint64_t count_kept(lpi_message *m)
{
    lpi_hub *hub = &recount.server->hub;
    uint32_t i = 0;
    while (i < recount.kept_count && recount.kept[i].message != m) i++;
    if (i < recount.kept_count) {
        recount.kept[i].refs++;
        return 0;
    }
    if (i == recount.kept_room) {
        recount.kept_room = 2 * i + 64;
        recount.kept = (check_kept *)realloc(recount.kept, recount.kept_room * sizeof *recount.kept);
        CHECK_MUST(recount.kept, "the machine has no memory");
    }
    recount.kept[i].message = m;
    recount.kept[i].refs = 1;
    recount.kept_count++;
    if (lpi_slab_has(&hub->channels, m->channel) &&
        lpi_channel_holds(lpi_channel_at(hub, m->channel), m))
        return 0;
    return m->size;
}

/* What lp_after_publish is to be told of. Returns the memory of what no channel holds. */
static uint64_t check_untold(lpi_hub *hub)
{
    uint64_t bytes = 0;
    lpi_message *m = hub->first_untold;
    for (; m; m = m->next_untold) {
        bytes += count_kept(m);
        CHECK_MUST(m->next_untold || m == hub->last_untold, "the last that is to be told");
    }
    CHECK_MUST(!hub->first_untold || hub->config->after_publish.tell, "nobody is to be told");
    return bytes;
}

/* How many references to the message there should be, with its channel's. */
static uint32_t refs_of(const lpi_message *m)
{
    uint32_t i;
    for (i = 0; i < recount.kept_count; i++)
        if (recount.kept[i].message == m) return 1 + recount.kept[i].refs;
    return 1;
}

/* The client that a connection reads for. Returns the memory of what is kept of its reply. */
static uint64_t check_reader(lpi_loop *loop, uint32_t index)
{
    const lpi_reader *reader = loop->readers[index];
    uint64_t bytes = sizeof *reader;
    uint32_t i;
    CHECK_MUST(index < loop->reader_capacity, "a reader without a record");
    CHECK_MUST(reader->name < check_records(&recount.server->hub.names), "a name's index");
    CHECK_SAME(reader->has_copy, reader->count != 0, "what a reader was not handed yet");
    CHECK_MUST(!reader->has_copy || lpi_connection_at(loop, index)->phase == LPI_WRITING,
               "messages are kept, and nothing is written");
    recount.names++;
    for (i = 0; reader->has_copy && i < reader->count; i++) bytes += count_kept(reader->messages[i]);
    return bytes + reader->count * sizeof(lpi_message *);
}

/* Each receipt is once in its message's and once in the list by age, in the same order. */
static void check_receipts(lpi_hub *hub)
{
    const lpi_message *m;
    uint32_t i, of_messages = 0, known = 0;
    uint64_t refs = recount.names;
    for (m = hub->oldest; m; m = m->newer) {
        uint32_t last = LPI_NONE;
        for (i = m->first_receipt; i != LPI_NONE; i = lpi_receipt_at(hub, i)->next, of_messages++) {
            CHECK_MUST(lpi_receipt_at(hub, i)->message == m, "a receipt of another message");
            last = i;
        }
        CHECK_SAME(m->last_receipt, last, "the last receipt");
    }
    CHECK_SAME(check_list(&hub->receipt_list, &hub->receipt_links, "receipts"), of_messages,
               "receipts");
    CHECK_SAME(hub->receipts.used, of_messages, "receipts");
    CHECK_SAME(hub->receipt_table.count, of_messages, "receipts");
    CHECK_MUST(!of_messages || of_messages <= hub->config->track_receipts, "too many receipts");
    for (i = hub->receipt_list.head; i != LPI_NONE; i = lpi_receipt_at(hub, i)->link.next) refs++;
    for (i = 0; i < hub->name_table.buckets; i++) {
        uint32_t name = hub->name_table.heads[i];
        for (; name != LPI_NONE; name = lpi_name_at(hub, name)->node.next, known++)
            refs -= lpi_name_at(hub, name)->node.count;
    }
    CHECK_SAME(refs, 0, "references to names");
    CHECK_SAME(hub->names.used, known, "names");
}

/* What the access log will say of the request that a connection has. Returns its memory. */
static uint64_t check_access(lpi_loop *loop, uint32_t index, const lpi_connection *c)
{
    const lpi_access *kept = lpi_access_of(loop, index);
    if (!kept) return 0; /* without a hook, or memory, there is none */
    CHECK_MUST(loop->server->config.access_log.write, "an access without a hook");
    CHECK_MUST(c->phase == LPI_READING_BODY || c->phase == LPI_PARKED ||
         c->phase == LPI_PUBLISHING || c->phase == LPI_DEFERRED || kept->access.stream,
         "an access in phase %u", c->phase);
    CHECK_MUST(!kept->access.status == !kept->access.stream, "an access that was told");
    return kept->size;
}

/* The record of a request that is answered later, if there is to be one. Returns its memory. */
static uint64_t check_later(const lpi_loop *loop, uint32_t index, const lpi_connection *c)
{
    const lpi_later *later = index < loop->later_capacity ? loop->laters[index] : NULL;
    CHECK_SAME(later != NULL, c->phase == LPI_DEFERRED, "deferred");
    return later ? later->size : 0;
}

/* One loop's connections: phases, waiters, what is kept of them. Returns the memory of what is
   spared, and of what streams ask for. */
static uint64_t check_loop(lpi_loop *loop)
{
    uint32_t phases[LPI_PHASES] = {0}, index = 0, used = 0, i, n = 0, queued,
             streams = 0;
    uint64_t bytes = 0;
    const lpi_request_buffer *buffer;
    lpi_connection *c;
    for (; (c = lpi_loop_each(loop, &index)); index++, used++) {
        phases[c->phase]++;
        check_connection(loop, index, c);
        if (c->buffer) n = count_io(loop->index, c, n);
        if (c->flags & LPI_STREAM) {
            bytes += check_stream(loop, index);
            streams++;
        }
        if (c->flags & LPI_READER) bytes += check_reader(loop, index);
        bytes += check_access(loop, index, c);
        bytes += check_later(loop, index, c);
    }
    for (i = 0; i < n; i++) {
        uint32_t holders = 0;
        for (buffer = recount.sent[i].send_buffer->holders; buffer; buffer = buffer->next_holder)
            CHECK_MUST(holders++ < recount.sent[i].count && buffer->out == recount.sent[i].send_buffer,
                 "who waits for a send buffer");
        CHECK_SAME(holders, recount.sent[i].count, "how many wait for a send buffer");
    }
    for (i = LPI_CLOSED + 1; i < LPI_PHASES; i++) {
        CHECK_SAME(loop->phases[i], phases[i], "phases");
        recount.phases[i] += phases[i];
    }
    CHECK_SAME(loop->connections.used, used, "connections");
    CHECK_SAME(loop->counts.streams, streams, "streams");
    recount.connections += used;
    queued = check_list(&loop->queue, &loop->links, "queue");
    CHECK_SAME(queued, phases[LPI_QUEUED], "queued");
    for (i = loop->queue.head; i != LPI_NONE; i = lpi_connection_at(loop, i)->timer.link.next)
        CHECK_SAME(lpi_connection_at(loop, i)->phase, LPI_QUEUED, "queued");
    for (i = 0, buffer = loop->spare; buffer; buffer = buffer->next, i++) bytes += sizeof *buffer + buffer->in_capacity;
    CHECK_SAME(i, loop->spare_count, "spare");
    CHECK_MUST(i <= LPI_SPARE_MAX, "too much is spared");
    return bytes;
}

/* What waits for the loop: connections that the first loop has handed over, outcomes, and answers
   to deferred requests. */
static void check_tasks(const lpi_task *task)
{
    for (; task; task = task->next) {
        const stream *c;
        if (task->kind == LPI_TASK_ANSWER) {
            recount.answer_bytes += sizeof *task + task->of.answer.size;
            continue;
        }
        if (task->kind != LPI_TASK_OPEN) {
            recount.outcomes++;
            continue;
        }
        c = kernel_at(recount.kernel, task->of.handover.fd, K_SOCKET)->stream;
        count_account(c, task->of.handover.wait.account,
                      (int)lpi_account_at(&recount.server->hub, task->of.handover.wait.account)->trusted);
        recount.arriving++;
    }
}

#ifndef LONGPOLL_NO_REDIS
/* What a publishing call takes, with its messages. */
static uint64_t check_call(const lpi_task *task)
{
    uint64_t bytes = sizeof *task;
    const lpi_message *m = task->of.call.first;
    for (; m; m = m->newer) bytes += m->size;
    return bytes;
}
#endif

/* What the stores take, and how many connections to them are open. */
static uint64_t check_stores(lp_server *server, uint32_t *open)
{
    uint64_t bytes = server->store_count * sizeof *server->stores;
#ifndef LONGPOLL_NO_REDIS
    uint32_t k, i, pending = 0;
    for (k = 0; k < server->store_count; k++) {
        const lpi_store *store = &server->stores[k];
        const lpi_task *task;
        for (i = 0; i < 2; i++) {
            const lpi_redis *c = i ? &store->events : &store->commands;
            uint32_t a;
            *open += c->fd >= 0;
            bytes += c->in_capacity + c->out.capacity + c->ask_capacity * sizeof(lpi_ask);
            for (a = 0; a < c->ask_count; a++) {
                const lpi_ask *ask = &c->asks[(c->ask_at + a) % c->ask_capacity];
                if (ask->kind != LPI_ASK_PUBLISH) continue;
                pending++;
                bytes += check_call(ask->task);
            }
        }
        for (task = store->first; task; task = task->next) {
            pending++;
            bytes += check_call(task);
        }
        CHECK_SAME(store->pending, pending, "publishing calls");
        pending = 0;
        bytes += store->left.capacity;
    }
#endif
    return bytes;
}

/* The connections of all loops, waiters, counters. Returns the memory. */
static uint64_t check_connections(lpi_hub *hub)
{
    uint32_t i, used = 0, dialled = 0;
    uint64_t bytes = check_stores(recount.server, &dialled);
    for (i = 0; i < recount.server->loop_count; i++) {
        bytes += check_loop(&recount.server->loops[i]);
        check_tasks(recount.server->loops[i].tasks);
        check_tasks(recount.server->loops[i].inbox.first);
    }
    bytes += (recount.arriving + recount.outcomes) * sizeof(lpi_task) + recount.answer_bytes;
    CHECK_SAME(recount.phases[LPI_SERVING], 0, "being served");
    CHECK_SAME(hub->stats.connections, recount.connections + recount.arriving, "connections");
    CHECK_SAME((uint32_t)recount.kernel->open_of[K_SOCKET] + recount.phases[LPI_ABANDONED],
               recount.connections + recount.arriving + dialled, "sockets");
    CHECK_SAME(hub->stats.waiters, recount.phases[LPI_PARKED], "waiters");
    CHECK_SAME(hub->waiters.used, recount.waiters, "waiters");
    CHECK_SAME(hub->requested.used, recount.requested, "requested");
    CHECK_SAME(hub->stats.pinned_bytes, recount.pinned, "pinned_bytes");
    CHECK_SAME(hub->partial_bytes, recount.partial, "partial_bytes");
    check_accounts(hub);
    check_receipts(hub);
    for (i = 0; i < check_records(&hub->counters); i++) {
        if (!recount.counts[i].polls && !recount.counts[i].keepers) continue;
        CHECK_SAME(lpi_counter_at(hub, i)->node.count, recount.counts[i].polls, "a counter");
        CHECK_SAME(lpi_counter_at(hub, i)->node.kept, recount.counts[i].keepers,
                   "who keeps a counter");
        used++;
    }
    CHECK_SAME(used, hub->counter_table.count, "counters");
    CHECK_SAME(used, hub->counters.used, "counters");
    return bytes + recount.pinned + recount.partial;
}

/* ---- channels ---- */

static uint32_t check_waiter_lists(lpi_hub *hub, lpi_channel *ch, uint32_t index, uint32_t *waiters_since_publish,
                            uint32_t *ready)
{
    uint32_t v, waiter_records = 0, loops = 0;
    check_list(&ch->lists, &hub->list_links, "waiter lists");
    for (v = ch->lists.head; v != LPI_NONE; v = lpi_waiter_list_at(hub, v)->link.next) {
        lpi_waiter_list *waiter_list = lpi_waiter_list_at(hub, v);
        uint32_t waiter, n, r;
        uint64_t before = 0;
        int was_now = 0;
        CHECK_SAME(waiter_list->channel, index, "a waiter list's channel");
        CHECK_MUST(waiter_list->loop < hub->loop_count &&
             (waiter_list->recheck || !(loops & 1u << waiter_list->loop)),
             "a channel has two waiter lists of one loop");
        if (!waiter_list->recheck) loops |= 1u << waiter_list->loop;
        CHECK_MUST(!waiter_list->recheck || waiter_list->ready || waiter_list->parked.head == LPI_NONE,
                   "a recheck is forgotten");
        n = check_list(&waiter_list->parked, &hub->waiter_links, "parked") +
            check_list(&waiter_list->fetching, &hub->waiter_links, "fetching");
        CHECK_SAME(waiter_list->waiters, n, "a waiter list's waiters");
        CHECK_MUST(n || waiter_list->ready, "a waiter list of nobody");
        waiter_records += n;
        for (waiter = waiter_list->parked.head; waiter != LPI_NONE;) {
            const lpi_waiter *s = lpi_waiter_at(hub, waiter);
            int is_now = s->epoch_number == ch->epoch_number; /* else of an epoch that is over */
            CHECK_SAME(s->list, v, "a waiter's waiter list");
            CHECK_MUST(s->from.seq >= before || is_now > was_now || !is_now, "waiters out of order");
            CHECK_MUST(is_now >= was_now, "a waiter of a past epoch behind one of this");
            CHECK_MUST(s->from.seq <= ch->last || !is_now, "a waiter ahead of its channel");
            CHECK_MUST((s->from.seq == ch->last && is_now) || waiter_list->ready,
                       "a poll is forgotten");
            before = s->from.seq;
            was_now = is_now;
            *waiters_since_publish += s->from.seq == ch->last && is_now;
            waiter = s->link.next;
        }
        for (r = hub->loops[waiter_list->loop].ready_first; r != LPI_NONE && r != v;)
            r = lpi_waiter_list_at(hub, r)->next_ready;
        CHECK_MUST((r == v) == !!waiter_list->ready, "ready");
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
            CHECK_MUST(n++ < ready, "more waiter lists are in ready lists than are ready");
            CHECK_SAME(lpi_waiter_list_at(hub, v)->loop, i, "the loop of a ready waiter list");
            last = v;
        }
        CHECK_SAME(hub->loops[i].ready_last, last, "the end of a ready list");
    }
    CHECK_SAME(n, ready, "ready waiter lists");
}

/* What its name takes beside the record. */
static uint64_t long_name(const lpi_channel *ch)
{
    return ch->name == ch->short_name ? 0 : ch->name_length;
}

/* What a channel keeps beside its ring: each list by rising SEQ. Returns the bytes. */
static uint64_t check_remote(const lpi_remote *r)
{
    uint64_t bytes = 0, early = 0;
    uint32_t count = 0;
    const lpi_message *m;
    for (m = r->page; m; bytes += m->size, m = m->newer)
        CHECK_MUST(!m->newer || m->newer->seq == m->seq + 1, "a gap in a page");
    for (m = r->early; m; early += m->size, count++, m = m->newer)
        CHECK_MUST(!m->newer || m->newer->seq > m->seq, "the order beyond a gap");
    CHECK_SAME(r->early_count, count, "messages beyond a gap");
    CHECK_SAME(r->early_bytes, early, "bytes beyond a gap");
    CHECK_MUST(count <= LPI_EARLY_MAX && early <= LPI_EARLY_BYTES_MAX, "too many beyond a gap");
    return bytes + early;
}

/* A channel's policy. One of its own is never more than the configuration's; and if its messages
   are dropped sooner, a sweep will look after them. */
static const lp_policy *check_extra(lpi_hub *hub, const lpi_channel *ch, uint32_t index,
                                    uint32_t *extras)
{
    const lp_config *cfg = hub->config;
    const lpi_extra *extra;
    uint32_t texts = 0, marks = 0, k;
    if (ch->extra == LPI_NONE) return &hub->policy;
    ++*extras;
    extra = lpi_extra_at(hub, ch->extra);
    CHECK_SAME(extra->channel, index, "whose policy it is");
    CHECK_MUST(extra->policy.history_count && extra->policy.history_count <= cfg->history_count &&
               extra->policy.history_age_ms && extra->policy.history_age_ms <= cfg->history_age_ms &&
               extra->policy.waiters_max && extra->policy.waiters_max <= cfg->waiters_per_channel,
               "a policy that gives more than the configuration");
    CHECK_MUST((!extra->transients && (!ch->held || extra->policy.history_age_ms == cfg->history_age_ms)) ||
               lpi_timer_armed(&hub->due, ch->extra), "no sweep looks after what will be too old");
    for (k = 0; k < ch->held; k++) {
        const lpi_message *m = lpi_channel_message(ch, ch->last - ch->held + 1 + k);
        CHECK_MUST(m->length || (m->transient && k), "a message without text");
        if (!m->transient) continue;
        marks += !m->length;
        if (m->length && !texts++) CHECK_SAME(m->seq, extra->transient_seq, "the first transient");
    }
    CHECK_SAME(extra->transients, texts, "transient messages");
    CHECK_SAME(extra->marks, marks, "marks");
    return &extra->policy;
}

/* The hub, whenever its mutex is free: returns the memory of messages, names and rings. Not at
   rest, loops may be sending messages. */
static uint64_t check_hub(lpi_hub *hub, int at_rest)
{
    lpi_message *m, *before = NULL;
    uint64_t bytes = 0, other = 0, beside = 0;
    uint32_t extras = 0;
    uint32_t messages = 0, waiters = 0, channels = 0, idle = 0, vacated = 0, news = 0, b, i, waiter_lists = 0;
    uint32_t ready = 0;
    for (m = hub->oldest; m; before = m, m = m->newer, messages++) {
        CHECK_MUST(m->older == before, "the list of messages");
        CHECK_MUST(!before || before->appended_us <= m->appended_us + CHECK_SLACK_US,
             "messages out of order");
        CHECK_MUST(at_rest ? m->refs == refs_of(m) : m->refs >= 1, "%u references of a message", m->refs);
        bytes += m->size;
    }
    CHECK_MUST(hub->newest == before, "the newest message");
    CHECK_SAME(hub->stats.messages, messages, "messages");
    CHECK_SAME(hub->stats.history_bytes, bytes, "history_bytes");
    CHECK_SAME(hub->stats.published - hub->stats.evicted, messages, "messages");
    for (b = 0; b < hub->channel_table.buckets; b++) {
        uint32_t index = *lpi_table_bucket(&hub->channel_table, b);
        for (; index != LPI_NONE; index = lpi_channel_at(hub, index)->node.next, channels++) {
            lpi_channel *ch = lpi_channel_at(hub, index);
            uint32_t waiters_since_publish = 0, k, waiter_records = check_waiter_lists(hub, ch, index, &waiters_since_publish, &ready);
            CHECK_SAME(ch->waiters, waiter_records, "a channel's waiters");
            CHECK_SAME(ch->waiters_since_publish, waiters_since_publish, "fresh");
            const lp_policy *policy = check_extra(hub, ch, index, &extras);
            CHECK_MUST(ch->waiters <= policy->waiters_max, "too many waiters on a channel");
            CHECK_MUST(!ch->in_use && !ch->forgotten && (!ch->remote || hub->stores),
                 "a channel's marks");
            CHECK_MUST(ch->held <= ch->ring_size && ch->held <= policy->history_count, "a ring");
            for (k = 0; k < ch->held; k++) {
                uint32_t at = ch->ring_at + k;
                m = ch->ring[at < ch->ring_size ? at : at - ch->ring_size];
                CHECK_SAME(m->seq, ch->last - ch->held + 1 + k, "the ring's order");
                CHECK_SAME(m->channel, index, "a message's channel");
            }
            messages -= ch->held;
            waiters += waiter_records;
            CHECK_SAME(ch->idle, (ch->remote || !ch->held) && !ch->waiters && ch->lists.head == LPI_NONE, "idle");
            CHECK_SAME(ch->vacated, ch->watched && !ch->event_due && !ch->waiters, "deserted");
            CHECK_MUST(!ch->event_due || ch->watched, "news of a channel that is not watched");
            idle += ch->idle;
            vacated += ch->vacated;
            news += ch->event_due;
            for (i = ch->lists.head; i != LPI_NONE; i = lpi_waiter_list_at(hub, i)->link.next) waiter_lists++;
            other += long_name(ch) + ch->ring_size * sizeof *ch->ring;
            if (ch->remote) beside += check_remote(ch->remote);
            if (ch->remote) other += sizeof *ch->remote;
        }
    }
    CHECK_SAME(hub->beside_bytes, beside, "bytes beside the rings");
    other += beside + hub->store_count * sizeof *hub->stores;
    for (i = 0; i < hub->store_count; i++) other += hub->stores[i].left.capacity;
    CHECK_SAME(messages, 0, "messages in rings");
    CHECK_SAME(waiters, hub->waiters.used, "waiters on channels");
    CHECK_SAME(channels, hub->stats.channels, "channels");
    CHECK_SAME(channels, hub->channel_table.count, "channels");
    CHECK_SAME(waiter_lists, hub->lists.used, "waiter lists");
    CHECK_SAME(extras, hub->extras.used, "what only some channels have");
    check_ready(hub, ready);
    CHECK_SAME(idle, check_list(&hub->idle, &hub->idle_links, "idle"),
         "idle channels");
    for (i = hub->events.head; i != LPI_NONE;) {
        const lpi_channel *ch = lpi_channel_at(hub, i);
        if (ch->forgotten) {
            news++;
            channels++;
            other += long_name(ch);
        }
        i = ch->watch_link.next;
    }
    CHECK_SAME(vacated, check_list(&hub->vacated, &hub->watch_links, "deserted"), "deserted");
    CHECK_SAME(news, check_list(&hub->events, &hub->watch_links, "news"), "news");
    CHECK_SAME(channels, hub->channels.used, "channels");
    return bytes + other;
}

static uint64_t loop_bytes(const lpi_loop *loop)
{
    return sizeof *loop + arena_bytes(&loop->arena) +
           check_slab(&loop->connections, "connections") + LPI_IN_SIZE +
           loop->batch.message_capacity * (sizeof(lpi_message *) + sizeof(uint8_t)) +
           loop->stream_capacity * sizeof(lpi_stream *) +
           loop->reader_capacity * sizeof(lpi_reader *) +
           loop->access_capacity * sizeof(lpi_access *) +
           loop->later_capacity * sizeof(lpi_later *) + loop->batch.names.capacity +
           loop->extra.capacity + loop->head.capacity + loop->json.text.capacity;
}

/* All of it, with no step under way. Returns the memory that it takes, to the byte. */
static uint64_t check_server(lp_server *server, kernel *k)
{
    lpi_hub *hub = &server->hub;
    uint64_t bytes;
    uint32_t i;
    check_begins(server, k);
    bytes = check_untold(hub);
    bytes += check_connections(hub) + check_hub(hub, 1);
    bytes += sizeof *server + arena_bytes(&server->strings);
    for (i = 0; i < server->loop_count; i++) {
        check_wheel(&server->loops[i]);
        bytes += loop_bytes(&server->loops[i]);
    }
    bytes += check_slab(&hub->channels, "channels") + check_slab(&hub->lists, "waiter lists") +
             check_slab(&hub->waiters, "waiters") + check_slab(&hub->requested, "requested") +
             check_slab(&hub->counters, "counters") + check_slab(&hub->accounts, "accounts") +
             check_slab(&hub->names, "names") + check_slab(&hub->receipts, "receipts") +
             check_slab(&hub->extras, "what only some channels have");
    return bytes + check_table(&hub->channel_table, "names") +
           check_table(&hub->counter_table, "names of clients") +
           check_table(&hub->account_table, "addresses") +
           check_table(&hub->name_table, "names of readers") +
           check_table(&hub->receipt_table, "receipts");
}

/* What it keeps from one time to the next. */
static void check_free(void)
{
    free(recount.sent);
    free(recount.accounts);
    free(recount.counts);
    free(recount.kept);
    memset(&recount, 0, sizeof recount);
}

#endif /* TESTS_CHECK_H */
