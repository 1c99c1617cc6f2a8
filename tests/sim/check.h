/* check.h: lpi_check(server): everything that can be counted in two ways is.

   check_step() follows each step and is cheap: no phase in between, no spinning. Every 64th
   time, if all other threads are at rest, it is lpi_check(), which recounts the whole server
   over all loops: connections, waiters, waiter lists, counters, what each address takes, channels,
   messages, slabs, lists, tables, wheels, inboxes, delays, and all memory to the byte.
   check_sleep() is for the moments when all wait: nobody may be waiting for a loop that
   sleeps, nor for the news of a channel. */

#ifndef SIM_CHECK_H
#define SIM_CHECK_H

#define CHECK_MUST MUST
#define CHECK_SAME SAME
#define CHECK_SLACK_US (100000 + late_ns() / 1000)
#include "../check.h"

static uint64_t full_checks, hub_checks, steps;

/* A connection counts under its peer's address, or that which its proxy speaks for. */
static void check_peer(const conn *c, const lpi_account *account, int trusted)
{
    uint32_t i = 0;
    while (!(c->spoken >> i & 1) || M.keys[i] != account->node.hash)
        MUST(++i < ADDRESSES, "an address's account is another's");
    SAME(trusted, proxies && c->address.bytes[15] == A_PROXY, "a trusted peer");
    SAME(account->trusted, proxies && account->node.hash == M.keys[A_PROXY], "an account");
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

static void check_limits(void)
{
    const lpi_message *m;
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
    for (m = S->stopping ? NULL : hub->oldest; m; m = m->newer) {
        uint32_t age_ms = policies ? M.policy[channel_of(lpi_channel_at(&S->hub, m->channel)->name)].history_age_ms
                                   : cfg->history_age_ms;
        MUST(age_ms == LP_UNLIMITED || now_ms() <= m->appended_us / 1000 + age_ms + LPI_SWEEP_MS + 100 +
             2 * late_ns() / 1000000 || hub->stats.messages > LPI_SWEEP_MAX,
             "a message is kept beyond its age");
        if (!policies) break; /* the others are younger */
    }
}

/* All memory, to the byte, and a bound that follows from the configuration alone. */
static void check_memory(uint64_t bytes)
{
    const lp_config *cfg = &S->config;
    uint64_t bound = 2 << 20;
    uint32_t i;
    SAME(bytes, K.memory_bytes, "memory");
    if (cfg->history_bytes == LP_UNLIMITED || cfg->partial_bytes_max == LP_UNLIMITED) return;
    for (i = 0; i < S->loop_count; i++) bound += (1 << 20) + S->loops[i].json.text.capacity;
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
        if (c->later) since += deferral_wait_ns(&deferrals[c->later - 1]);
        MUST(K.now_ns <= since + ((uint64_t)r->wait_ms + 10) * 1000000 + 5 * late_ns() +
             (S->hub.stores ? fetch_ns(r) : 0) + 2000 * (uint64_t)K.starve_us + K.stalled_ns +
             (uint64_t)(uint32_t)OS.open_of[K_SOCKET] * 1000000,
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

/* Whom each message that is held was handed to. */
static void check_receipts_held(void)
{
    uint32_t i;
    uint64_t seq;
    if (!S->config.track_receipts) return;
    for (i = 0; i < world_channels; i++) {
        const channel *ch = &M.channel[i];
        for (seq = ch->floor; ch->exists && seq < ch->last; seq++)
            receipts_compare(ch->list[ch->base + seq]);
    }
    SAME(S->hub.receipts.used, receipts_held, "receipts");
}

/* With all threads at rest but this one. */
static void lpi_check(lp_server *server)
{
    full_checks++;
    check_memory(check_server(server, &OS));
    SAME(recount.outcomes, M.asyncs, "outcomes that are to be told");
    check_delays();
    check_receipts_held();
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
    MUST(!cur->handed, "a reply is out, and its receipts are not noted");
    SAME(cur->deleted, 0, "a channel is deleted, and nobody is told");
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
            if (store_is_fetching(lpi_channel_at(
                    hub, lpi_waiter_list_at(hub, lpi_waiter_at(hub, waiter)->list)->channel)))
                fetching = 1;
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
    SAME(hub->loops[loop->index].ready_first, LPI_NONE, "it sleeps on ready waiter lists");
    MUST(!loop->inbox.first && !loop->tasks, "it sleeps, and has tasks");
    MUST(loop->drain_ms || !(loop->index ? S->draining : S->stopping),
         "it sleeps, and should drain");
    MUST(!S->broken, "it sleeps, and another loop has failed");
    if (loop->index) return;
    MUST(!hub->first_untold, "it sleeps, and messages are to be told");
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
        MUST(head == LPI_NONE || lpi_waiter_at(hub, head)->epoch_number == ch->epoch_number,
             "it sleeps, and a poll on \"%s\" is not told that it is deleted", names[i].name);
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

/* A poll that is parked waits no longer than its token is good. */
static void check_token(const conn *c)
{
    const request *r = &c->requests[c->streams ? 0 : c->replied % REQUESTS];
    uint32_t end_ms = (uint32_t)(r->ends_ns / 1000000);
    if (!r->ends_ns || record_of(c)->phase != LPI_PARKED || (c->wild && !c->streams)) return;
    MUST(lpi_timer_armed(&loop_of(c)->wheel, index_of(c)) &&
         (int32_t)(lpi_timer_at(&loop_of(c)->wheel, index_of(c))->deadline - end_ms) <= 0,
         "connection %u waits beyond the end of its token", conn_index(c));
}

/* No answer waits for a loop that sleeps. */
static void check_deferral(const deferral *d, const thread *const *asleep)
{
    const conn *c = d->used && (d->answered || d->gone) && !d->over ? deferral_conn(d) : NULL;
    if (!c || !c->known || !c->later || !asleep[d->handle.loop]) return;
    MUST(record_of(c)->phase != LPI_DEFERRED,
         "it sleeps, and connection %u is not given its answer", conn_index(c));
}

static void check_deadline(int i, const thread *const *asleep)
{
    const conn *c = &K.conns[i];
    const thread *t;
    int32_t left;
    if (!c->used || c->fd < 0 || !c->known) return;
    check_token(c);
    t = asleep[OS.all[c->description].slot];
    MUST(!t || !kernel_level(&OS, &OS.all[c->description]),
         "it sleeps, and connection %d has more to read", i);
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
    for (i = 0; i < DEFERRALS; i++) check_deferral(&deferrals[i], asleep);
    for (i = 0; i < conns && i < SOME; i++) check_deadline((int)(++K.looked_at % conns), asleep);
}

#endif /* SIM_CHECK_H */
