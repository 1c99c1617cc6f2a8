/* model.h: what the server has promised, kept apart from it.

   For each channel the model has everything that was ever published: id, timestamp, payload
   and text, in order. It learns of a message when it is appended and compares it with what
   was meant to be published; it learns of what is evicted or forgotten when that happens and
   asks for the reason: whenever the hub's mutex is released, on the thread that has held it.
   Likewise that a channel's history was dropped, by somebody who asked for that; and who was handed
   which message, when the socket has taken the last byte of a reply.
   Each reply is verified where it is sent: what a poll claimed to have had, how the store stood
   when the request was read and how it stood when its loop decided what to answer leave nearly
   no choice in what it may say. */

#ifndef MODEL_H
#define MODEL_H

enum { MESSAGES = 16384, TEXT = 8 << 20 };

typedef struct channel_name {
    const char *name, *raw, *quoted; /* as it is, in a path, in JSON */
} channel_name;

static uint32_t world_channels; /* of those below, the first */
static int hooks;               /* those of `authorize` and `watch` are there */
static int proxies;             /* connections that carry others' requests are a trusted
                                   proxy's                                        */
static int tokens;              /* polls and publishing want a signed one         */
static int policies;            /* channels have one of their own each            */
static int transients;          /* some messages are transient                    */

#define Y16 "yyyyyyyyyyyyyyyy"
#define Y255 Y16 Y16 Y16 Y16 Y16 Y16 Y16 Y16 Y16 Y16 Y16 Y16 Y16 Y16 Y16 "yyyyyyyyyyyyyyy"

static channel_name names[CHANNELS] = {
    {"a", "a", "a"}, {"b", "b", "b"}, {"c", "c", "c"}, {"d", "%64", "d"}, {"e", "e", "e"},
    {"f", "f", "f"}, {"g", "g", "g"}, {"h", "h", "h"}, {"i", "i", "i"},
    {"x\"\xC3\xA9,/", "x%22%C3%A9%2C%2F", "x\\\"\xC3\xA9,/"}, {Y255, Y255, Y255},
    {"z\\ z", "z%5C%20z", "z\\\\ z"}}; /* and "m012" to "m799" */

enum { DENIED = 8, REFUSED = 6 }; /* channels that the hooks authorize and policy refuse */

typedef enum payload_state { P_MEANT, P_PUBLISHED, P_REFUSED } payload_state;

typedef struct payload {
    uint16_t channel;
    uint8_t state, got;          /* got: the server has all of it */
    uint8_t is_array;            /* it came in one                */
    uint8_t transient;
    uint32_t first, count;       /* of those that came with it    */
    uint32_t message;
} payload;

typedef struct message {
    uint64_t epoch, seq, timestamp_us, born_ms, appended_us;
    uint32_t payload, size, text, length;
    uint32_t waiters; /* that it woke                  */
    uint32_t position; /* in its channel's list, all epochs */
    uint32_t first_receipt, last_receipt; /* 0: none   */
    uint8_t deleted, lost; /* with its channel's history; some of its receipts */
} message;

typedef struct receipt {
    uint32_t message, name, next;
    uint8_t held;
} receipt;

typedef struct life {
    uint64_t epoch, start_us;
    uint32_t base;
} life;

typedef struct channel {
    int exists;
    uint32_t index, epoch_number; /* the server's                          */
    uint64_t epoch, last, floor, start_us;
    uint32_t base;           /* of this epoch's messages in `list`         */
    uint64_t latest_us;      /* of all epochs                              */
    uint64_t busy_ms;        /* when it was last seen with something in it */
    uint64_t waited_ms;      /* and when with a poll, or told to have one  */
    uint32_t deletions;
    int watched;
    uint32_t told;           /* of all epochs' messages, to after_publish  */
    uint32_t rechecks;
    uint32_t seen;           /* M.seen when it was found in the table last */
    uint32_t lives, count;
    /* that stay, and grow, from world to world */
    life *life;
    uint32_t *list;
    uint32_t life_room, list_room;
} channel;

static struct model {
    uint64_t published, evicted, drawn;
    uint32_t channels, seen;
    uint32_t count, payloads, text_used;
    uint64_t asyncs;
    uint64_t releases;                  /* of the hub's mutex, by all threads  */
    uint64_t handed;                    /* receipts that were noted            */
    uint64_t replies, delivered, resets, timeouts;
    uint64_t ended;                     /* polls that their tokens have ended   */
    uint64_t latencies[LP_LATENCIES], firsts; /* that lp_stats should count */
    uint32_t rechecks;                  /* of the hub's                         */
    uint64_t keys[ADDRESSES];           /* by which the server knows an address */
    uint64_t spendings;                 /* changes of what all share            */
    uint64_t refusal_told_ms[600];      /* by status; 0: not yet                */
    lp_policy policy[CHANNELS];         /* if there are policies                */
    message messages[MESSAGES];
    payload payload[MESSAGES];
    channel channel[CHANNELS];
    char text[TEXT];
} M;

static receipt *receipts; /* from 1 on; the oldest first */
static uint32_t receipt_count, receipt_room, receipt_oldest, receipts_held;
static uint64_t asked_before, told_after, admin_counts[R_KINDS], array_count, exact_count, handed_count, lost_count;
static uint64_t messages_told, rechecked_polls, marks_passed, marks_flagged, transient_count;

static const char *const reason_of[] = {"none", "epoch", "evicted", "ahead"};

static int channel_of(const char *name)
{
    if (*name <= 'i') return *name - 'a';
    if (*name >= 'x') return *name - 'x' + 9;
    return (name[1] - '0') * 100 + (name[2] - '0') * 10 + name[3] - '0';
}

/* Room for one more of what is kept there. */
static void *grown(void *items, uint32_t count, uint32_t *room, size_t size)
{
    if (count < *room) return items;
    *room = *room ? *room * 2 : 64;
    items = realloc(items, *room * size);
    MUST(items, "the machine has no memory");
    return items;
}

/* What the channel may take. */
static lp_policy policy_of(int i) { return policies ? M.policy[i] : lpi_policy_of(&S->config); }

static message *message_at(const channel *ch, uint32_t base, uint64_t seq)
{
    MUST(seq && base + seq <= ch->count, "no such message was ever published");
    return &M.messages[ch->list[base + seq - 1]];
}

static const life *life_of(const channel *ch, uint64_t epoch)
{
    uint32_t i = ch->lives;
    while (i--)
        if (ch->life[i].epoch == epoch) return &ch->life[i];
    return NULL;
}

/* ---- payloads: what is published follows from their number ---- */

static uint32_t payload_pad(uint32_t n)
{
    uint64_t z = (n + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ world_seed * UINT64_C(0xbf58476d1ce4e5b9);
    uint32_t most = S->config.message_bytes_max < 4096 ? S->config.message_bytes_max - 100 : 3000;
    z ^= z >> 29;
    return z & 7 ? (uint32_t)(z >> 8) % 40 : (uint32_t)(z >> 8) % most;
}

/* Its members that stay. */
static size_t payload_rest(uint32_t n, char *to)
{
    uint32_t pad = payload_pad(n);
    size_t at = (size_t)sprintf(to, "\"n\":%u", n);
    if (n % 3) return at;
    at += (size_t)sprintf(to + at, ",\"pad\":\"");
    memset(to + at, 'p', pad);
    at += pad;
    to[at++] = '"';
    return at;
}

static size_t payload_json(uint32_t n, char *to)
{
    size_t at = 0;
    to[at++] = '{';
    if (n % 5 == 0) at += (size_t)sprintf(to + at, "\"i\\u0064\":[1,{\"n\":2}],");
    at += payload_rest(n, to + at);
    if (n % 7 == 0) at += (size_t)sprintf(to + at, ",\"timestamp\":\"late\",\"channel\":1");
    to[at++] = '}';
    return at;
}

/* Some in a row: the first of them. */
static uint32_t payloads_new(int of, uint32_t count, int is_array)
{
    uint32_t n = M.payloads, i;
    int transient = transients && one_in(3);
    M.payloads += count;
    for (i = n; i < M.payloads; i++) {
        payload *p = &M.payload[i];
        p->channel = (uint16_t)of;
        p->state = P_MEANT;
        p->got = 0;
        p->is_array = (uint8_t)is_array;
        p->transient = (uint8_t)transient;
        p->first = n;
        p->count = count;
    }
    return n;
}

static uint32_t payload_new(int of) { return payloads_new(of, 1, 0); }

static void payloads_set(uint32_t first, payload_state state)
{
    uint32_t i;
    for (i = 0; i < M.payload[first].count; i++) M.payload[first + i].state = (uint8_t)state;
}

/* The body that publishes them. */
static size_t payloads_json(uint32_t first, char *to)
{
    const payload *p = &M.payload[first];
    size_t at = 0;
    uint32_t i;
    if (!p->is_array) return payload_json(first, to);
    at += (size_t)sprintf(to, first % 2 ? " [" : "[ ");
    for (i = 0; i < p->count; i++) {
        if (i) at += (size_t)sprintf(to + at, i % 3 ? "," : "\n, ");
        at += payload_json(first + i, to + at);
    }
    to[at++] = ']';
    return at;
}

/* Most often one message; or an array of some, which fits in message_bytes_max. */
static uint32_t payloads_choose(int of)
{
    static char text[70000];
    uint32_t first = M.payloads, count = 1, i;
    size_t length = 2;
    if (!one_in(6)) return payload_new(of);
    array_count++;
    count = one_in(8) ? between(1, 60) : between(1, 6);
    if (count > MESSAGES - 8 - first) count = 1;
    for (i = 0; i < count; i++) {
        length += 3 + payload_json(first + i, text);
        if (i && length > S->config.message_bytes_max) break;
    }
    if (length > S->config.message_bytes_max && i < 2) return payload_new(of);
    return payloads_new(of, i, 1);
}

static int model_full(void)
{
    return M.payloads > MESSAGES - 80 || M.text_used > TEXT - 300000;
}

/* May the text of the message have been dropped? */
static int is_over(const message *m)
{
    return M.payload[m->payload].transient && now_ms() >= m->born_ms + S->config.transient_ms;
}

/* ---- reading what the server wrote ---- */

static const char *at_text, *end_text;
static const conn *reading;

#if defined(__GNUC__)
__attribute__((noreturn))
#endif
static void bad_reply(int line, const char *what)
{
    const char *p = at_text;
    char here[100];
    size_t n = 0;
    for (; p < end_text && n < sizeof here - 1; p++)
        here[n++] = *p >= 32 && *p < 127 ? *p : '?';
    here[n] = 0;
    fail_at(line, "connection %u: %s, at \"%s\"", reading ? conn_index(reading) : 0, what, here);
}

#define WANT(x, what) ((x) ? (void)0 : bad_reply(__LINE__, what))

static int eat(const char *literal, size_t length)
{
    if ((size_t)(end_text - at_text) < length || memcmp(at_text, literal, length)) return 0;
    at_text += length;
    return 1;
}

#define EAT(literal) eat(literal, sizeof(literal) - 1)
#define EXPECT(literal) WANT(EAT(literal), "expected " #literal)

static uint64_t eat_uint(void)
{
    uint64_t value = 0;
    const char *from = at_text;
    while (at_text < end_text && *at_text >= '0' && *at_text <= '9')
        value = value * 10 + (uint64_t)(*at_text++ - '0');
    WANT(at_text > from, "expected a number");
    return value;
}

static uint64_t eat_seconds(void)
{
    uint64_t whole = eat_uint(), part;
    const char *from;
    EXPECT(".");
    from = at_text;
    part = eat_uint();
    WANT(at_text - from == 6, "expected microseconds");
    return whole * 1000000 + part;
}

static uint64_t hex_of_epoch(const char *id)
{
    uint64_t epoch = 0;
    MUST(strlen(id) > 17 && !lpi_parse_epoch(id, &epoch) && id[16] == '-', "%s is no id", id);
    return epoch;
}

static uint64_t eat_epoch(void)
{
    uint64_t value = 0;
    int i;
    for (i = 0; i < 16; i++, at_text++) {
        int digit = at_text < end_text ? lpi_hex_value(*at_text) : -1;
        WANT(digit >= 0, "expected an epoch");
        value = value << 4 | (uint64_t)digit;
    }
    return value;
}

/* ---- receipts: who was handed what ---- */

static void receipt_drop(uint32_t i)
{
    receipt *r = &receipts[i];
    message *m = &M.messages[r->message];
    MUST(r->held && m->first_receipt == i, "the model's receipts");
    m->first_receipt = r->next;
    if (!r->next) m->last_receipt = 0;
    r->held = 0;
    receipts_held--;
}

static void receipts_evict(message *m)
{
    while (m->first_receipt) receipt_drop(m->first_receipt);
}

/* The server's receipts of the message, which is held, are the model's: in the same order, and it
   knows as well if some were lost. */
static void receipts_compare(uint32_t index)
{
    const message *is = &M.messages[index];
    const channel *ch = &M.channel[M.payload[is->payload].channel];
    const lpi_message *m = lpi_channel_message(lpi_channel_at(&S->hub, ch->index), is->seq);
    uint32_t i = m->first_receipt, k = is->first_receipt;
    for (; i != LPI_NONE && k; i = lpi_receipt_at(&S->hub, i)->next, k = receipts[k].next) {
        lp_slice name = lpi_name_text(lpi_name_at(&S->hub, lpi_receipt_at(&S->hub, i)->name));
        char text[32];
        sprintf(text, "c%u", receipts[k].name - 1);
        MUST(name.length == strlen(text) && !memcmp(name.bytes, text, name.length),
             "%.*s has a receipt for message %" PRIu64 ", and not %s", (int)name.length,
             name.bytes, is->seq, text);
    }
    MUST(i == LPI_NONE, "a receipt for message %" PRIu64 " of what nobody was handed", is->seq);
    MUST(!k, "c%u was handed message %" PRIu64 ", and has no receipt", k ? receipts[k].name - 1 : 0,
         is->seq);
    SAME(m->receipts_lost, is->lost, "whether receipts were lost");
}

static int message_is_held(const message *m)
{
    const channel *ch = &M.channel[M.payload[m->payload].channel];
    return ch->exists && m->epoch == ch->epoch && m->seq > ch->floor;
}

static int server_has_receipt(const message *m, uint32_t name)
{
    const channel *ch = &M.channel[M.payload[m->payload].channel];
    uint32_t i = lpi_channel_message(lpi_channel_at(&S->hub, ch->index), m->seq)->first_receipt;
    char text[32];
    sprintf(text, "c%u", name - 1);
    for (; i != LPI_NONE; i = lpi_receipt_at(&S->hub, i)->next)
        if (lpi_equal(lpi_name_text(lpi_name_at(&S->hub, lpi_receipt_at(&S->hub, i)->name)),
                      lp_s(text)))
            return 1;
    return 0;
}

static void receipt_add(uint32_t index, uint32_t name)
{
    message *m = &M.messages[index];
    receipt *r;
    uint32_t i;
    for (i = m->first_receipt; i; i = receipts[i].next)
        if (receipts[i].name == name) return;
    if (receipts_held == S->config.track_receipts) {
        while (!receipts[receipt_oldest].held) receipt_oldest++;
        M.messages[receipts[receipt_oldest].message].lost = 1;
        lost_count++;
        receipt_drop(receipt_oldest);
    }
    if (cur->excuses != cur->excuses_taken && !server_has_receipt(m, name)) { /* no memory for it */
        m->lost = 1;
        return;
    }
    receipts = (receipt *)grown(receipts, receipt_count, &receipt_room, sizeof *receipts);
    i = receipt_count++;
    r = &receipts[i];
    r->message = index;
    r->name = name;
    r->next = 0;
    r->held = 1;
    if (m->last_receipt) receipts[m->last_receipt].next = i;
    else m->first_receipt = i;
    m->last_receipt = i;
    receipts_held++;
    M.handed++;
    handed_count++;
}

/* All of the reply has been taken by the socket, and since then the hub has been told. */
static void learn_handed(void)
{
    const conn *c = (const conn *)cur->handed;
    uint32_t i;
    cur->handed = NULL;
    for (i = 0; i < c->carried_count; i++)
        if (message_is_held(&M.messages[c->carried[i]])) receipt_add(c->carried[i], c->carried_name);
    for (i = 0; i < c->carried_count; i++)
        if (message_is_held(&M.messages[c->carried[i]])) receipts_compare(c->carried[i]);
}

static void carry(conn *c, uint32_t index)
{
    c->carried = (uint32_t *)grown(c->carried, c->carried_count, &c->carried_room,
                                   sizeof *c->carried);
    c->carried[c->carried_count++] = index;
}

/* ---- the store: what it took in and what it let go ---- */

static uint32_t recount_seats(const channel *ch, uint64_t seq)
{
    lpi_hub *hub = &S->hub;
    uint32_t v = lpi_channel_at(hub, ch->index)->lists.head, n = 0;
    for (; v != LPI_NONE; v = lpi_waiter_list_at(hub, v)->link.next) {
        uint32_t waiter = lpi_waiter_list_at(hub, v)->parked.tail;
        for (; waiter != LPI_NONE; waiter = lpi_waiter_at(hub, waiter)->link.prev) {
            if (lpi_waiter_at(hub, waiter)->from.seq != seq ||
                lpi_waiter_at(hub, waiter)->epoch_number !=
                    lpi_channel_at(hub, ch->index)->epoch_number)
                break;
            n++;
        }
    }
    return n;
}

/* Which payload is the message of? */
static uint32_t payload_of(int i, const lpi_message *m)
{
    char id[64];
    uint64_t n;
    at_text = (const char *)m + m->at;
    end_text = at_text + m->length;
    reading = NULL;
    at_text = (const char *)memmem(at_text, m->length, "\"n\":", 4);
    WANT(at_text, "a message of nobody's");
    EXPECT("\"n\":");
    n = eat_uint();
    WANT(n < M.payloads && M.payload[n].channel == i, "this was not published here");
    sprintf(id, "%016" PRIx64 "-%" PRIu64, M.channel[i].epoch, m->seq);
    MUST(lpi_equal(lpi_message_id(m), lp_s(id)), "a message's id");
    return (uint32_t)n;
}

/* The message of that payload, in the ring; or NULL, if it was evicted as soon as it was
   appended. */
static void learn_message(int i, uint32_t n, const lpi_message *m, uint32_t waiters)
{
    const lpi_message *newest = S->hub.newest;
    channel *ch = &M.channel[i];
    message *to = &M.messages[M.count];
    char *text = M.text + M.text_used;
    static char json[2][70000];
    size_t prefix;
    MUST(M.payload[n].state == P_MEANT, "this was published before, or refused");
    MUST(M.payload[n].got, "this was published before it was read whole");
    memset(to, 0, sizeof *to);
    to->epoch = ch->epoch;
    to->seq = ch->last + 1;
    to->timestamp_us = ch->latest_us + 1;
    if (n == M.payload[n].first) to->timestamp_us = newest->timestamp_us - M.payload[n].count + 1;
    prefix = (size_t)sprintf(text,
                             "{\"id\":\"%016" PRIx64 "-%" PRIu64 "\",\"channel\":\"%s\","
                             "\"timestamp\":%" PRIu64 ".%06u,",
                             ch->epoch, to->seq, names[i].quoted, to->timestamp_us / 1000000,
                             (unsigned)(to->timestamp_us % 1000000));
    prefix += payload_rest(n, text + prefix);
    text[prefix++] = '}';
    to->born_ms = newest->appended_us / 1000;
    to->appended_us = newest->appended_us;
    to->payload = n;
    to->size = (uint32_t)(newest->size + payload_json(n, json[0]) -
                          payload_json(M.payload[n].first + M.payload[n].count - 1, json[1]));
    to->text = M.text_used;
    to->length = (uint32_t)prefix;
    to->waiters = waiters;
    if (m) {
        SAME(m->seq, to->seq, "a SEQ is left out or given twice");
        SAME(m->timestamp_us, to->timestamp_us, "the timestamp");
        SAME(m->appended_us, to->appended_us, "the messages of an array are not of the same time");
        SAME(m->refs, 1 + (S->config.after_publish.tell != NULL), "the new message's references");
        SAME(m->length, prefix, "the message's length");
        SAME(m->size, to->size, "the message's size");
        MUST(!memcmp((const char *)m + m->at, text, prefix), "the message's text");
    }
    M.payload[n].state = P_PUBLISHED;
    M.payload[n].message = M.count;
    M.text_used += (uint32_t)prefix;
    to->position = ch->count;
    ch->list = (uint32_t *)grown(ch->list, ch->count, &ch->list_room, sizeof *ch->list);
    ch->list[ch->count++] = M.count++;
    ch->last = to->seq;
    ch->latest_us = to->timestamp_us;
    ch->busy_ms = to->born_ms;
}

/* Of an array all messages were appended in one hold of the mutex, and nothing else. */
static void learn_messages(int i, uint64_t count)
{
    channel *ch = &M.channel[i];
    const lpi_channel *is = lpi_channel_at(&S->hub, ch->index);
    const lpi_message *newest = S->hub.newest;
    uint32_t last = payload_of(i, newest), n = M.payload[last].first;
    uint32_t waiters = recount_seats(ch, ch->last);
    uint64_t first_us = newest->timestamp_us - count + 1;
    SAME(count, M.payload[n].count, "messages appended at once");
    SAME(last, n + count - 1, "the last of an array");
    SAME(newest->seq, ch->last + count, "a SEQ is left out or given twice");
    MUST(first_us == lpi_max64(cur->last_wall_us[0], ch->latest_us + 1) ||
         first_us == lpi_max64(cur->last_wall_us[1], ch->latest_us + 1), "the timestamp");
    MUST(newest->appended_us * 1000 <= K.now_ns, "born in the future");
    MUST(S->config.history_bytes == LP_UNLIMITED || S->hub.oldest == newest ||
         S->hub.stats.history_bytes + S->hub.stats.pinned_bytes <= S->config.history_bytes,
         "more than history_bytes after an append");
    for (; n <= last; n++) {
        uint64_t seq = ch->last + 1;
        int held = seq > is->last - is->held;
        learn_message(i, n, held ? lpi_channel_message(is, seq) : NULL, waiters);
    }
    SAME(is->waiters_since_publish, 0, "fresh after an append");
}

static uint32_t gone[MESSAGES];
static uint32_t gone_count;

static void learn_evictions(channel *ch, uint64_t floor)
{
    MUST(floor >= ch->floor && floor <= ch->last, "what is held");
    while (ch->floor < floor) {
        ch->floor++;
        gone[gone_count++] = ch->list[ch->base + ch->floor - 1];
        receipts_evict(&M.messages[gone[gone_count - 1]]);
    }
}

/* By count, by age, or by bytes: then everything older is gone as well, and without it the
   budget would be exceeded. */
static void justify_evictions(void)
{
    const lpi_hub *hub = &S->hub;
    const lp_config *cfg = &S->config;
    uint32_t i, k;
    for (i = 0; i < gone_count; i++) {
        const message *m = &M.messages[gone[i]];
        const channel *ch = &M.channel[M.payload[m->payload].channel];
        uint64_t bytes = hub->stats.history_bytes + hub->stats.pinned_bytes;
        lp_policy policy = policy_of(M.payload[m->payload].channel);
        uint64_t later = (uint64_t)m->position + policy.history_count;
        if (m->deleted || is_over(m)) continue;
        if (later < ch->count && M.messages[ch->list[later]].epoch == m->epoch) continue;
        if (hub->stores) continue; /* a cache may drop what it likes, with its channel */
        if (policy.history_age_ms != LP_UNLIMITED &&
            now_ms() >= m->born_ms + policy.history_age_ms)
            continue;
        for (k = 0; k < gone_count; k++)
            if (gone[k] >= gone[i]) bytes += M.messages[gone[k]].size;
        MUST(cfg->history_bytes != LP_UNLIMITED && bytes > cfg->history_bytes,
             "message %" PRIu64 " of \"%s\" is dropped without a reason (%" PRIu64
             " bytes, %" PRIu64 " ms old)",
             m->seq, names[M.payload[m->payload].channel].name, bytes, now_ms() - m->born_ms);
        if (!hub->oldest) continue;
        {
            const channel *of = &M.channel[channel_of(lpi_channel_at(
                &S->hub, hub->oldest->channel)->name)];
            MUST(of->list[of->base + hub->oldest->seq - 1] > gone[i],
                 "a message is dropped for its bytes before an older one");
        }
    }
    gone_count = 0;
}

static void justify_forgetting(int i)
{
    const channel *ch = &M.channel[i];
    const lp_config *cfg = &S->config;
    uint64_t slack = 2 + 2 * late_ns() / 1000000;
    if (S->hub.stores) return; /* as soon as nobody waits on it for a while */
    if (cfg->history_age_ms != LP_UNLIMITED &&
        now_ms() + slack >= ch->busy_ms + cfg->history_age_ms)
        return;
    /* By one that was to be made when the table was full, even if it could not be. */
    MUST(cfg->channels_max != LP_UNLIMITED &&
         M.channels + (K.epochs_drawn - M.drawn) > cfg->channels_max,
         "channel \"%s\" is forgotten without a reason", names[i].name);
}

/* Is this thread asked to delete the channel's history now? */
static int may_delete(int i)
{
    int k;
    if (cur->slot < 0) return cur->deletes == i + 1;
    for (k = 0; k < K.conn_top; k++) {
        const conn *c = &K.conns[k];
        const request *r = &c->requests[c->replied % REQUESTS];
        if (c->used && c->fd >= 0 && c->known && c->got != c->replied && r->kind == R_DELETE &&
            OS.all[c->description].slot == cur->slot && r->at[0].channel == i)
            return 1;
    }
    return 0;
}

/* The channel's history was dropped, for somebody who asked for that. */
static void learn_deletion(int i)
{
    channel *ch = &M.channel[i];
    uint64_t seq = ch->floor;
    MUST(may_delete(i) && !cur->deleted, "\"%s\" is deleted for nobody", names[i].name);
    while (seq < ch->last) M.messages[ch->list[ch->base + seq++]].deleted = 1;
    if (ch->floor < ch->last) ch->busy_ms = now_ms();
    learn_evictions(ch, ch->last);
    cur->deleted = i + 1;
    ch->deletions++;
}

static void learn_channel(uint32_t index, uint64_t appended)
{
    lpi_channel *is = lpi_channel_at(&S->hub, index);
    int i = channel_of(is->name);
    channel *ch = &M.channel[i];
    uint64_t floor = is->last - is->held;
    MUST(is->name_length == strlen(names[i].name) &&
         !memcmp(is->name, names[i].name, is->name_length), "a channel's name");
    MUST(ch->seen != M.seen, "a channel is in the table twice");
    ch->seen = M.seen;
    int deleted = 0;
    if (ch->exists && ch->epoch != is->epoch) {
        deleted = ch->index == index && is->epoch_number == ch->epoch_number + 1;
        if (deleted) learn_deletion(i);
        else learn_evictions(ch, ch->last), justify_forgetting(i);
        ch->exists = 0;
    }
    if (!ch->exists) {
        MUST(!life_of(ch, is->epoch), "an epoch is used again");
        MUST(is->start_us > ch->latest_us, "a new epoch begins before the end of the old one");
        ch->life = (life *)grown(ch->life, ch->lives, &ch->life_room, sizeof *ch->life);
        ch->exists = 1;
        ch->epoch = is->epoch;
        ch->last = ch->floor = 0;
        ch->start_us = is->start_us;
        ch->base = ch->count;
        if (!deleted) ch->busy_ms = now_ms();
        ch->life[ch->lives].epoch = is->epoch;
        ch->life[ch->lives].start_us = is->start_us;
        ch->life[ch->lives++].base = ch->base;
        ch->latest_us = is->start_us;
    }
    ch->index = index;
    ch->epoch_number = is->epoch_number;
    if (appended && S->hub.newest->channel == index) learn_messages(i, appended);
    SAME(is->last, ch->last, "a channel's last");
    MUST(is->held <= policy_of(i).history_count, "more is held than history_count");
    MUST(!policies || i != REFUSED, "a channel is made that is refused");
    learn_evictions(ch, floor);
}

/* Look at all channels. */
static void learn_channels(uint64_t appended)
{
    lpi_hub *hub = &S->hub;
    uint32_t b, i;
    M.seen++;
    for (b = 0; b < hub->channel_table.buckets; b++) {
        uint32_t index = *lpi_table_bucket(&hub->channel_table, b);
        for (; index != LPI_NONE; index = lpi_channel_at(hub, index)->node.next)
            learn_channel(index, appended);
    }
    for (i = 0; i < world_channels; i++) {
        channel *ch = &M.channel[i];
        if (!ch->exists || ch->seen == M.seen) continue;
        learn_evictions(ch, ch->last);
        justify_forgetting((int)i);
        ch->exists = 0;
    }
}

/* Learn what happened to the store since the mutex was taken. */
static void model_sync(void)
{
    lpi_hub *hub = &S->hub;
    uint64_t evicted = hub->stats.evicted - M.evicted;
    uint64_t appended = hub->stats.published - M.published;
    int same = hub->stats.channels == M.channels && K.epochs_drawn == M.drawn;
    if (!appended && !evicted && same) return;
    if (appended && same) { /* most often that is all, but for evictions in that channel */
        M.seen++;
        learn_channel(hub->newest->channel, appended);
        appended = 0;
    }
    if (!same || evicted != gone_count) learn_channels(appended);
    SAME(gone_count, evicted, "evicted messages");
    justify_evictions();
    M.published = hub->stats.published;
    M.evicted = hub->stats.evicted;
    M.channels = hub->stats.channels;
    M.drawn = K.epochs_drawn;
}

/* ---- requests: how the store stood when one was read ---- */

static void model_got(conn *c, request *r)
{
    uint32_t i;
    r->got = 1;
    r->got_ns = cur->step_ns;
    r->others = M.releases - cur->releases;
    if (r->kind == R_PUBLISH)
        for (i = 0; i < M.payload[r->payload].count; i++) M.payload[r->payload + i].got = 1;
    if (r->kind != R_POLL) return;
    for (i = 0; i < r->count; i++) {
        place *p = &r->at[i];
        const channel *ch = &M.channel[p->channel];
        p->was_epoch = ch->exists ? ch->epoch : 0;
        p->was_last = ch->exists ? ch->last : 0;
        p->was_floor = ch->exists ? ch->floor : 0;
        p->was_deletions = ch->deletions;
        p->was_rechecks = ch->rechecks;
    }
    (void)c;
}

/* ---- replies ---- */

/* What is to be said of what is requested, with the store in that state. */
static lpi_reason judge(const channel *ch, const place *p, uint64_t epoch, uint64_t last,
                        uint64_t floor)
{
    const life *l;
    uint64_t evicted_us, last_us;
    if (p->kind == LPI_FROM_CURSOR) {
        if (p->epoch != epoch) return LPI_EPOCH;
        if (p->seq > last) return LPI_AHEAD;
        return p->seq < floor ? LPI_EVICTED : LPI_NO_RESET;
    }
    if (p->kind != LPI_FROM_TIME || !p->seq) return LPI_NO_RESET;
    l = life_of(ch, epoch);
    MUST(l, "an epoch that nobody has seen");
    evicted_us = floor ? message_at(ch, l->base, floor)->timestamp_us : 0;
    last_us = last ? message_at(ch, l->base, last)->timestamp_us : l->start_us;
    if (p->seq < l->start_us) return LPI_EPOCH;
    if (p->seq < evicted_us) return LPI_EVICTED;
    return p->seq > last_us ? LPI_AHEAD : LPI_NO_RESET;
}

/* The SEQ of the last message that is not newer than that. */
static uint64_t seq_at(const channel *ch, const life *l, uint64_t last, uint64_t us)
{
    while (last && message_at(ch, l->base, last)->timestamp_us > us) last--;
    return last;
}

/* Where the reply may go on in one channel: from *low to *high. */
static void place_bounds(const place *p, int same, uint64_t *low, uint64_t *high)
{
    const channel *ch = &M.channel[p->channel];
    *low = same ? p->was_floor : 0;
    *high = cur->reply.at[p->channel].floor;
    if (p->reason && !(S->hub.stores && p->kind == LPI_FROM_TIME)) return;
    if (p->kind == LPI_FROM_CURSOR) {
        WANT(p->got_epoch == p->epoch, "another epoch without a reset");
        *low = *high = p->seq;
    } else if (p->kind == LPI_FROM_NOW) {
        *low = same ? p->was_last : 0;
        *high = cur->reply.at[p->channel].last;
    } else if (p->kind == LPI_FROM_TIME && p->seq) {
        uint64_t at = seq_at(ch, life_of(ch, p->got_epoch), cur->reply.at[p->channel].last, p->seq);
        *low = p->reason ? lpi_max64(at, *low) : at;
        if (p->reason == LPI_AHEAD && !same) *low = 0; /* all but later ones */
        else if (p->reason == LPI_AHEAD && p->was_last < *low) *low = p->was_last;
        *high = p->reason ? lpi_max64(at, *high) : at;
    }
}

/* Where there may be marks it is not known exactly from where a reply went on: from which SEQ to
   which that may have been. What it left out was transient, and over. */
static void place_before(const place *p, uint64_t *least, uint64_t *most)
{
    const channel *ch = &M.channel[p->channel];
    const life *l = life_of(ch, p->got_epoch);
    uint64_t seq = p->got_seq;
    *most = p->got_count ? p->got_first - 1 : p->got_seq;
    while (seq > cur->reply.at[p->channel].floor &&
           (seq > *most || is_over(message_at(ch, l->base, seq))))
        seq--;
    *least = seq < *most ? seq : *most;
}

/* Is no cursor given? Then it is not told what it goes past. */
static int is_fresh(const place *p)
{
    return p->kind == LPI_FROM_START || p->kind == LPI_FROM_NOW ||
           (p->kind == LPI_FROM_TIME && !p->seq);
}

/* May the reply have gone past a mark? */
static int may_pass_mark(const place *p)
{
    uint64_t least, most;
    if (p->got_epoch != cur->reply.at[p->channel].epoch) return 0;
    place_before(p, &least, &most);
    return least < most || p->got_holes;
}

/* The reasons for a reset that there may be, as a mask. Between its request and its reply a poll
   is judged once, and once more if it was parked. */
static uint32_t place_reasons(const place *p, uint64_t was_epoch, int same)
{
    const channel *ch = &M.channel[p->channel];
    uint64_t epoch = cur->reply.at[p->channel].epoch, last = cur->reply.at[p->channel].last,
             floor = cur->reply.at[p->channel].floor;
    lpi_reason was;
    uint32_t may = 1u << judge(ch, p, epoch, last, floor);
    if (transients && may_pass_mark(p)) may |= 1u << LPI_EVICTED;
    if (p->kind == LPI_FROM_CURSOR) return may;
    was = judge(ch, p, was_epoch, p->was_last, p->was_floor);
    may |= 1u << was;
    if (!same) may |= 1u << judge(ch, p, epoch, 0, 0);
    if (p->was_deletions != ch->deletions) may |= 1u << LPI_EPOCH; /* while it was parked */
    /* A store does not tell when its newest message that is gone was published. */
    if (S->hub.stores && p->kind == LPI_FROM_TIME && floor) may |= 1u << LPI_EVICTED;
    if (was == LPI_AHEAD && last > p->was_last) may |= 1u << LPI_NO_RESET;
    if ((same ? p->was_last : 0) < floor && (p->kind != LPI_FROM_TIME || !p->seq))
        may |= 1u << LPI_EVICTED; /* all since it was parked, by the second judgement */
    return may;
}

/* Is it flagged, if a text is missing? Only who asked for no cursor is not told. */
static void verify_marks(const place *p, uint64_t low, uint64_t high)
{
    const channel *ch = &M.channel[p->channel];
    uint64_t least, most, at = UINT64_MAX;
    int fresh = is_fresh(p);
    place_before(p, &least, &most);
    if (p->kind == LPI_FROM_CURSOR && p->got_epoch == p->epoch) at = p->seq;
    if (p->kind == LPI_FROM_TIME && p->seq)
        at = seq_at(ch, life_of(ch, p->got_epoch), cur->reply.at[p->channel].last, p->seq);
    if (p->reason == LPI_EVICTED && at != UINT64_MAX) { /* for marks, perhaps */
        low = low < at ? low : at;
        high = lpi_max64(high, at);
    }
    if (p->reason == LPI_EVICTED && fresh) high = cur->reply.at[p->channel].last; /* it was parked */
    if (least > high || most < low)
        fail_at(__LINE__,
                "connection %u: \"%s\" goes on from %" PRIu64 " to %" PRIu64 ", not from %" PRIu64
                " to %" PRIu64 " (%" PRIu64 " messages up to %" PRIu64 ", requested %d, reset %s)",
                conn_index(reading), names[p->channel].name, least, most, low, high,
                (uint64_t)p->got_count, p->got_seq, p->kind, reason_of[p->reason]);
    if (p->reason || p->was_deletions != ch->deletions) return;
    if (fresh) {
        marks_passed += p->got_holes != 0;
        return;
    }
    WANT(!p->got_holes, "a text is missing, and that is not told");
    WANT(at == UINT64_MAX || !p->got_count || p->got_first == at + 1, "likewise, at the beginning");
}

/* Where the reply goes on in one channel, and whether it had to. */
static void verify_place(const request *r, const place *p)
{
    uint64_t epoch = cur->reply.at[p->channel].epoch, last = cur->reply.at[p->channel].last,
             floor = cur->reply.at[p->channel].floor;
    uint64_t was_epoch = p->was_epoch ? p->was_epoch : epoch;
    uint64_t low, high, from = p->got_seq - p->got_count;
    int same = was_epoch == epoch;
    WANT(p->got_epoch == epoch, "an epoch that is over, or was never drawn");
    WANT(p->got_seq >= p->got_count, "more messages than the SEQ allows");
    marks_flagged += transients && p->reason == LPI_EVICTED && may_pass_mark(p);
    if (!(place_reasons(p, was_epoch, same) & 1u << p->reason))
        fail_at(__LINE__,
                "connection %u: the reset of \"%s\" is %s, which is not justified (requested %d "
                "%016" PRIx64 "-%" PRIu64 "; then %016" PRIx64 " %" PRIu64 "..%" PRIu64
                ", now %016" PRIx64 " %" PRIu64 "..%" PRIu64 ")",
                conn_index(reading), names[p->channel].name, reason_of[p->reason], p->kind,
                p->epoch, p->seq, was_epoch, p->was_floor, p->was_last, epoch, floor, last);
    place_bounds(p, same, &low, &high);
    if (low < floor) low = floor;
    if (transients) {
        verify_marks(p, low, high);
    } else if (from < low || from > high)
        fail_at(__LINE__,
                "connection %u: \"%s\" goes on from %" PRIu64 ", not from %" PRIu64 " to %" PRIu64,
                conn_index(reading), names[p->channel].name, from, low, high);
    WANT(p->got_seq <= last, "a SEQ that was never given");
    if (r->rechecked) return; /* it is given nothing */
    if (r->more || (r->basic && r->at[0].got_count)) return; /* basic: one at a time */
    WANT(p->got_seq == last, "a message is held back");
}

/* One message, as the reply has it. Returns which, as an index. */
static uint32_t verify_message(request *r, uint64_t *place_of)
{
    uint64_t epoch, seq;
    const char *from = at_text;
    uint32_t i, index, age_ms;
    EXPECT("{\"id\":\"");
    epoch = eat_epoch();
    EXPECT("-");
    seq = eat_uint();
    at_text = from;
    for (i = 0; i < r->count; i++) {
        const channel *ch = &M.channel[r->at[i].channel];
        const life *l = life_of(ch, epoch);
        const message *m;
        if (!l) continue;
        WANT(seq && l->base + seq <= ch->count, "a message that was never published");
        index = ch->list[l->base + seq - 1];
        m = &M.messages[index];
        WANT(m->epoch == epoch && m->seq == seq, "a message of another epoch");
        WANT(eat(M.text + m->text, m->length), "not as it was published");
        WANT(epoch == r->at[i].got_epoch, "its epoch is not the cursor's");
        r->at[i].got_count++;
        age_ms = policy_of(r->at[i].channel).history_age_ms;
        WANT(age_ms == LP_UNLIMITED || (m->born_ms + age_ms) * 1000000 > r->got_ns,
             "older than history_age_ms");
        *place_of = i;
        return index;
    }
    bad_reply(__LINE__, "of a channel that was not asked for");
}

/* From that SEQ up to the next nothing is left out but what was transient. */
static void verify_hole(place *p, uint64_t seq, uint64_t next)
{
    const channel *ch = &M.channel[p->channel];
    WANT(seq <= next, "out of order, or a double");
    for (; seq < next; seq++) {
        WANT(transients && is_over(message_at(ch, life_of(ch, p->got_epoch)->base, seq)), "a hole");
        p->got_holes++;
    }
}

/* The list of messages: in order of their timestamps, each channel without a hole. */
static void verify_messages(conn *c, request *r, uint64_t count)
{
    uint64_t n, bytes = 0, before_us = 0, before_place = 0, i;
    uint64_t seqs[PLACES];
    for (i = 0; i < r->count; i++) seqs[i] = UINT64_MAX;
    for (n = 0; n < count; n++) {
        uint64_t at = 0;
        const message *m;
        uint32_t index;
        if (n) EXPECT(",");
        index = verify_message(r, &at);
        m = &M.messages[index];
        carry(c, index);
        WANT(m->timestamp_us > before_us ||
             (m->timestamp_us == before_us && at >= before_place), "out of order");
        if (seqs[at] == UINT64_MAX) r->at[at].got_first = m->seq;
        else verify_hole(&r->at[at], seqs[at] + 1, m->seq);
        seqs[at] = m->seq;
        before_us = m->timestamp_us;
        before_place = at;
        bytes += m->length;
    }
    for (i = 0; i < r->count; i++)
        if (seqs[i] != UINT64_MAX) verify_hole(&r->at[i], seqs[i] + 1, r->at[i].got_seq + 1);
    WANT(count <= r->limit, "more than limit= allows");
    WANT(count <= 1 || bytes <= S->config.reply_bytes_max, "more than reply_bytes_max");
    if (count) WANT(r->timestamp_us == before_us, "timestamp is not the last message's");
    r->bytes = bytes;
}

/* What was left out comes later than what was not, and had to be. */
static void verify_cut(request *r, uint64_t count)
{
    uint32_t i;
    int left = 0, too_long = 0;
    for (i = 0; i < r->count; i++) {
        const place *p = &r->at[i];
        const channel *ch = &M.channel[p->channel];
        const message *m;
        if (p->got_seq >= cur->reply.at[p->channel].last) continue;
        m = message_at(ch, life_of(ch, p->got_epoch)->base, p->got_seq + 1);
        left = 1;
        too_long |= r->bytes + m->length > S->config.reply_bytes_max;
        WANT(r->more || r->basic, "no more, and there is more");
        WANT(!count || m->timestamp_us >= r->timestamp_us, "a channel is passed over");
    }
    if (r->more) WANT(left, "more is said, and there is none");
    if (r->more) WANT(count == r->limit || (count && too_long), "cut without a reason");
}

static void verify_empty_time(const request *r)
{
    uint64_t us = 0;
    uint32_t i;
    for (i = 0; i < r->count; i++) {
        const place *p = &r->at[i];
        const channel *ch = &M.channel[p->channel];
        const life *l = life_of(ch, p->got_epoch);
        us = lpi_max64(us, p->got_seq ? message_at(ch, l->base, p->got_seq)->timestamp_us
                                      : l->start_us);
    }
    SAME(r->timestamp_us, us, "the timestamp of an empty reply");
}

/* ---- requests that are answered later ---- */

typedef struct deferral {
    lp_deferred handle;
    uint32_t conn, generation; /* the connection                                   */
    uint32_t payload, timeout_ms;
    uint64_t begun_ns, answered_ns;
    uint32_t calling;          /* calls of lp_reply_later under way                */
    uint8_t used, answered;    /* the program was told that its answer counts      */
    uint8_t over;              /* a reply was sent                                 */
    uint8_t gone;              /* the program was told that it comes too late      */
} deferral;

enum { DEFERRALS = 32 };
static deferral deferrals[DEFERRALS];
static uint64_t deferral_counts[4]; /* deferred, answered, too late, 504 */

static conn *deferral_conn(const deferral *d)
{
    conn *c = &K.conns[d->conn];
    return c->used && c->generation == d->generation && c->fd >= 0 ? c : NULL;
}

/* For how long it may wait: for the program, if it has no deadline. */
static uint64_t deferral_wait_ns(const deferral *d)
{
    return (d->timeout_ms < LPI_NEVER ? d->timeout_ms : 60000) * UINT64_C(1000000);
}

/* May the library answer 504? The clock that the loop has looked at may be a millisecond
   behind. */
static int deferral_is_due(const deferral *d)
{
    uint64_t drain_ms = S->loops[d->handle.loop].drain_ms;
    return (d->timeout_ms < LPI_NEVER &&
            K.now_ns >= d->begun_ns + d->timeout_ms * UINT64_C(1000000)) ||
           (drain_ms && now_ms() >= drain_ms);
}

/* For how long the poll may fetch. */
static uint64_t fetch_ns(const request *r)
{
    uint32_t ms = S->config.redis_timeout_ms;
    return (uint64_t)(r->wait_ms && r->wait_ms < ms ? r->wait_ms : ms) * 1000000;
}

/* How late what is sent on the connection may be. While more is ready than one wait tells of, an
   event may be passed over by several. */
static uint64_t slack_ns(void)
{
    uint32_t sockets = (uint32_t)OS.open_of[K_SOCKET];
    return 4000000 + (3 + 2 * (sockets / LPI_EVENTS)) * late_ns() + K.stalled_ns +
           (uint64_t)(sockets / 16) * 1000000;
}

/* Never early; late by a millisecond, what the wait rounds up to, and the steps. With a token
   that ends before, its end counts. */
static void verify_when(const conn *c, const request *r, int timed_out)
{
    uint64_t wait_ns = (uint64_t)r->wait_ms * 1000000;
    uint64_t begin = r->got_ns > c->reply_ns ? r->got_ns : c->reply_ns;
    uint64_t end = begin + wait_ns, slack = slack_ns();
    if (loop_of(c)->drain_ms) return;
    if (S->hub.stores) end += fetch_ns(r); /* also if it was to be answered at once */
    if (r->ends_ns && r->ends_ns < end) end = lpi_max64(r->ends_ns, begin);
    if (timed_out && !r->rechecked && K.now_ns < r->got_ns + wait_ns)
        fail_at(__LINE__, "connection %u: timed out %" PRIu64 " ns early", conn_index(c),
                r->got_ns + wait_ns - K.now_ns);
    if (K.now_ns > end + slack)
        fail_at(__LINE__, "connection %u: answered %" PRIu64 " us late", conn_index(c),
                (K.now_ns - end) / 1000);
}

/* Its token has ended, and no other reason is given: that is true, but for the millisecond to
   which it is rounded and the time between two looks at the clocks. */
static void verify_ended(const request *r)
{
    WANT(r->ends_ns && K.now_ns + 1000000 + late_ns() >= r->ends_ns, "a good token is refused");
    if (!r->bodiless) EXPECT("{\"error\":\"Token expired\"}");
    M.ended++;
}

/* Was a channel rechecked between the request and the moment when its answer was decided? */
static int was_rechecked(const request *r)
{
    uint32_t i;
    for (i = 0; i < r->count; i++)
        if (r->at[i].was_rechecks != cur->reply.at[r->at[i].channel].rechecks) return 1;
    return 0;
}

/* Who is given messages was let pass after the last recheck of each of its channels. */
static void verify_access(const request *r)
{
    uint32_t i;
    for (i = 0; hooks && i < r->count; i++)
        WANT(r->at[i].asked == cur->reply.at[r->at[i].channel].rechecks,
             "a message is given though access is to be asked for again");
}

/* How often a channel was rechecked, with the call that has counted itself and still holds the
   mutex: what the hook says from then on is what its caller wants. */
static uint32_t rechecks_begun(int i)
{
    int k, begun = 0;
    for (k = 0; S->hub.rechecks != M.rechecks && k < THREADS; k++)
        if (threads[k].rechecks == i + 1 && threads[k].held_count) begun = 1;
    return M.channel[i].rechecks + (uint32_t)begun;
}

/* The authorize hook is asked about a poll. */
static void model_asked(lp_request *r, int i)
{
    const conn *c = kernel_stream(&OS, lpi_connection_at(r->loop, r->connection)->fd);
    request *of = (request *)&c->requests[c->streams ? 0 : c->replied % REQUESTS];
    uint32_t k;
    for (k = 0; k < of->count; k++)
        if (of->at[k].channel == i) of->at[k].asked = rechecks_begun(i);
}

static void verify_poll(conn *c, request *r)
{
    uint64_t count;
    int empty, data, reset;
    uint32_t i;
    EXPECT("{\"status\":\"");
    empty = EAT("timeout");
    data = !empty && !EAT("messages") && EAT("message");
    EXPECT("\",\"last_id\":\"");
    for (i = 0; i < r->count; i++) {
        if (i) EXPECT(",");
        r->at[i].got_epoch = eat_epoch();
        EXPECT("-");
        r->at[i].got_seq = eat_uint();
        r->at[i].got_count = r->at[i].got_holes = 0;
        r->at[i].reason = 0;
    }
    EXPECT("\",\"timestamp\":");
    r->timestamp_us = eat_seconds();
    EXPECT(",\"count\":");
    count = eat_uint();
    if (data) EXPECT(",\"data\":");
    else EXPECT(",\"messages\":[");
    verify_messages(c, r, count);
    if (!data) EXPECT("]");
    r->more = (uint8_t)EAT(",\"more\":true");
    reset = EAT(",\"reset\":{");
    if (reset) {
        int first = 1;
        M.resets++;
        for (i = 0; i < r->count; i++) {
            char key[300];
            size_t n = (size_t)sprintf(key, "%s\"%s\":\"", first ? "" : ",",
                                       names[r->at[i].channel].quoted);
            if (!eat(key, n)) continue;
            first = 0;
            if (EAT("epoch\"")) r->at[i].reason = LPI_EPOCH;
            else if (EAT("evicted\"")) r->at[i].reason = LPI_EVICTED;
            else if (EAT("ahead\"")) r->at[i].reason = LPI_AHEAD;
            else bad_reply(__LINE__, "a reason");
        }
        WANT(!first, "a reset of no channel");
        EXPECT("}");
        WANT(!empty || r->basic, "a timeout with a reset");
    } else {
        WANT(empty == !count, "the status and the count");
        if (empty) M.timeouts++;
    }
    WANT(data == (r->basic && count), "the dialect");
    EXPECT("}");
    WANT(at_text == end_text, "something behind it");
    r->rechecked = (uint8_t)(!count && was_rechecked(r));
    for (i = 0; i < r->count; i++) verify_place(r, &r->at[i]);
    if (count) verify_access(r);
    if (count) verify_cut(r, count);
    else verify_empty_time(r);
    verify_when(c, r, empty && !reset);
    M.delivered += count;
}

static void verify_id(const message *m)
{
    EXPECT("\"");
    WANT(eat_epoch() == m->epoch, "the epoch");
    EXPECT("-");
    WANT(eat_uint() == m->seq, "the SEQ");
    EXPECT("\"");
}

static void verify_publish(request *r)
{
    const payload *p = &M.payload[r->payload];
    const message *m = NULL;
    uint32_t i;
    EXPECT("{\"status\":\"published\",\"message_id");
    if (p->is_array) EXPECT("s\":[");
    else EXPECT("\":");
    for (i = 0; i < p->count; i++) {
        WANT(p[i].state == P_PUBLISHED, "it says so, and it is not published");
        m = &M.messages[p[i].message];
        if (i) EXPECT(",");
        verify_id(m);
    }
    if (p->is_array) EXPECT("]");
    EXPECT(",\"timestamp\":");
    WANT(eat_seconds() == m->timestamp_us, "the timestamp");
    EXPECT(",\"waiters\":");
    WANT(eat_uint() == m->waiters, "the number of waiters");
    EXPECT("}");
}

/* Whether a limit was reached that the text names, when the poll was refused. */
static void verify_limit(const conn *c, const request *r)
{
    const lp_config *cfg = &S->config;
    const refusal *was = &cur->refusal;
    uint32_t n = 0, i, limit, by_address;
    EXPECT("{\"error\":\"");
    if (EAT("Server at capacity")) {
        WANT(was->waiters >= cfg->waiters_max, "it is not at capacity");
        return;
    }
    if (EAT("Channel at capacity")) {
        for (i = 0; i < r->count; i++)
            n |= was->on_channel[r->at[i].channel] >= policy_of(r->at[i].channel).waiters_max;
        WANT(n, "no channel is at capacity");
        return;
    }
    by_address = (uint32_t)EAT("Too many connections from address");
    WANT(by_address || EAT("Too many connections from client"), "which limit?");
    limit = by_address ? cfg->waiters_per_address : cfg->waiters_per_client;
    for (i = 0; i < was->waiters; i++)
        n += was->parked[i].address == c->speaks &&
             (by_address || was->parked[i].name == c->name);
    WANT(n >= limit, "the limit is not reached");
}

/* ---- what all share ---- */

/* Under the mutex, or at rest: the server's account of an address, or NULL. */
static const lpi_account *account_of(uint32_t address)
{
    uint32_t index = lpi_table_first(&S->hub.account_table, M.keys[address]);
    return index == LPI_NONE ? NULL : lpi_account_at(&S->hub, index);
}

/* Note what is spent, of each address's share too: of partial_bytes_max and of what slow readers
   may hold up, no address but the proxy's has more than a quarter. */
static void note_accounts(void)
{
    const lp_config *cfg = &S->config;
    uint64_t limit = cfg->partial_bytes_max == LP_UNLIMITED ? UINT64_MAX : cfg->partial_bytes_max;
    uint32_t i;
    cur->noted = M.spendings;
    cur->partial_over |= S->hub.partial_bytes > limit;
    cur->pinned_most = lpi_max64(cur->pinned_most, S->hub.stats.pinned_bytes);
    for (i = 1; i < ADDRESSES; i++) {
        const lpi_account *account = account_of(i);
        if (!account) continue;
        if (account->connections >= cfg->connections_per_address) cur->connections_full |= 1u << i;
        if (account->trusted) continue;
        if (account->partial_bytes > limit / 4) cur->partial_over |= 1u << i;
        cur->partial_most_of[i] = lpi_max64(cur->partial_most_of[i], account->partial_bytes);
        cur->pinned_most_of[i] = lpi_max64(cur->pinned_most_of[i], account->pinned_bytes);
    }
}

/* What is kept of requests has met a limit in this step; or what is kept of this one is too much
   for the address that its proxy speaks for. */
static int partial_full(const conn *c)
{
    const lpi_request_buffer *buffer = c->known ? record_of(c)->buffer : NULL;
    const lpi_account *account = account_of(c->speaks);
    uint64_t bytes = cur->partial_most_of[c->speaks];
    if (cur->partial_over & (1 | c->spoken)) return 1;
    if (!buffer || c->address.bytes[15] == c->speaks) return 0;
    /* Of what a proxy has moved there the total tells nothing. */
    if (account) bytes = lpi_max64(bytes, account->partial_bytes);
    return bytes + sizeof *buffer + buffer->in_capacity > S->config.partial_bytes_max / 4;
}

/* Whether a slow reader may have been cut off in this step, to whom so much was said. */
static int pinned_full(const conn *c, uint64_t bytes)
{
    uint64_t most = S->config.history_bytes;
    uint32_t i;
    bytes += sizeof(lpi_send_buffer);
    if (most == LP_UNLIMITED) return 0;
    if (cur->pinned_most + bytes > most / 2) return 1;
    for (i = 1; i < ADDRESSES; i++) {
        const lpi_account *account = account_of(i);
        uint64_t held = cur->pinned_most_of[i];
        /* Of one more who waits for a shared buffer the total tells nothing. */
        if (account) held = lpi_max64(held, account->pinned_bytes);
        if (c->spoken >> i & 1 && held + bytes > most / 2 / 4) return 1;
    }
    return 0;
}

/* ---- administration ---- */

/* No other thread has had the hub's mutex since this one had it last. */
static int undisturbed(void)
{
    const thread *owner = S->hub.mutex.owner; /* who has it may be amid a change */
    return M.releases - cur->releases == cur->others && (!owner || owner == cur);
}

/* A deletion, on this thread, has returned so. */
static void verify_deletion(int i, lp_result result)
{
    if (result == LP_OK) MUST(cur->deleted == i + 1, "\"%s\" is deleted, and is not", names[i].name);
    else MUST(!cur->deleted, "\"%s\" is deleted, and is said not to be", names[i].name);
    if (result == LP_ERR_NOT_FOUND && undisturbed())
        MUST(!M.channel[i].exists, "\"%s\" is not found, and is there", names[i].name);
    cur->deleted = 0;
}

static uint32_t count_waiters(const channel *ch)
{
    lpi_hub *hub = &S->hub;
    uint32_t v = lpi_channel_at(hub, ch->index)->lists.head, n = 0, w;
    for (; v != LPI_NONE; v = lpi_waiter_list_at(hub, v)->link.next) {
        for (w = lpi_waiter_list_at(hub, v)->parked.head; w != LPI_NONE; n++)
            w = lpi_waiter_at(hub, w)->link.next;
        for (w = lpi_waiter_list_at(hub, v)->fetching.head; w != LPI_NONE; n++)
            w = lpi_waiter_at(hub, w)->link.next;
    }
    return n;
}

static void id_of(char *to, const channel *ch, uint64_t seq)
{
    sprintf(to, "%016" PRIx64 "-%" PRIu64, ch->epoch, seq);
}

/* What is told of a channel: exactly how it stands, if nobody else has touched the hub. */
static void verify_info(int i, const lp_channel_info *info, int exact)
{
    const channel *ch = &M.channel[i];
    char first[40] = "", last[40] = "";
    const life *l;
    MUST(!strcmp(info->name, names[i].name), "another channel's name");
    if (*info->last_id || !S->hub.stores) {
        l = life_of(ch, hex_of_epoch(info->last_id));
        MUST(l && l->base + strtoull(info->last_id + 17, NULL, 10) <= ch->count,
             "\"%s\" has the id %s, which was never given", names[i].name, info->last_id);
        SAME(info->created_us, l->start_us, "when the epoch began");
    }
    MUST(info->held <= policy_of(i).history_count, "more is held than history_count");
    if (!exact) return;
    exact_count++;
    MUST(ch->exists, "\"%s\" is described, and is not there", names[i].name);
    if (ch->floor < ch->last) id_of(first, ch, ch->floor + 1);
    id_of(last, ch, ch->last);
    MUST(!strcmp(info->first_id, first), "first_id is %s, not %s", info->first_id, first);
    MUST(!strcmp(info->last_id, last) || (!*info->last_id && S->hub.stores),
         "last_id is %s, not %s", info->last_id, last);
    if (!transients) SAME(info->held, ch->last - ch->floor, "held");
    SAME(info->timestamp_us, ch->latest_us, "a channel's timestamp");
    SAME(info->waiters, count_waiters(ch), "a channel's waiters");
}

/* A list is of all channels, each once. */
static void verify_listed(const uint8_t *times, int exact)
{
    uint32_t i;
    for (i = 0; i < world_channels; i++) {
        MUST(times[i] <= 1 || !exact, "\"%s\" is listed twice", names[i].name);
        if (exact) SAME(times[i], M.channel[i].exists, "whether a channel is listed");
    }
}

static void eat_id(char *to)
{
    size_t n = 0;
    *to = 0;
    if (EAT("null")) return;
    EXPECT("\"");
    while (at_text < end_text && *at_text != '"' && n < 39) to[n++] = *at_text++;
    to[n] = 0;
    EXPECT("\"");
}

/* A channel's description. Returns which it is. */
static int eat_channel(lp_channel_info *info)
{
    uint64_t age_us, age0, age1;
    uint32_t i;
    memset(info, 0, sizeof *info);
    EXPECT("{\"channel\":\"");
    for (i = 0; i < world_channels; i++) {
        size_t n = strlen(names[i].quoted);
        if ((size_t)(end_text - at_text) > n && at_text[n] == '"' && eat(names[i].quoted, n)) break;
    }
    WANT(i < world_channels, "a channel that is none");
    strcpy(info->name, names[i].name);
    EXPECT("\",\"waiters\":");
    info->waiters = (uint32_t)eat_uint();
    EXPECT(",\"held\":");
    info->held = (uint32_t)eat_uint();
    EXPECT(",\"first_id\":");
    eat_id(info->first_id);
    EXPECT(",\"last_id\":");
    eat_id(info->last_id);
    EXPECT(",\"timestamp\":");
    info->timestamp_us = eat_seconds();
    EXPECT(",\"age\":");
    age_us = eat_seconds();
    EXPECT("}");
    if (!*info->last_id) return (int)i;
    info->created_us = life_of(&M.channel[i], hex_of_epoch(info->last_id))->start_us;
    age0 = cur->last_wall_us[0] > info->created_us ? cur->last_wall_us[0] - info->created_us : 0;
    age1 = cur->last_wall_us[1] > info->created_us ? cur->last_wall_us[1] - info->created_us : 0;
    WANT(age_us == age0 || age_us == age1, "the age");
    return (int)i;
}

static void verify_list(const request *r)
{
    uint8_t times[CHANNELS] = {0};
    int exact = undisturbed() && r->others == cur->others;
    EXPECT("{\"channels\":[");
    while (!EAT("]")) {
        lp_channel_info info;
        int i = eat_channel(&info);
        times[i]++;
        verify_info(i, &info, exact);
        EAT(",");
    }
    EXPECT("}");
    verify_listed(times, exact);
}

/* Of a message that is held, in the order of their age. */
static void verify_receipts(const request *r)
{
    const message *m = &M.messages[r->payload];
    uint32_t k = m->first_receipt;
    if (!undisturbed()) return;
    exact_count++;
    WANT(message_is_held(m), "the receipts of what is not held");
    EXPECT("{\"delivered_to\":[");
    for (; k; k = receipts[k].next) {
        EXPECT("\"c");
        WANT(eat_uint() == receipts[k].name - 1, "another's receipt, or one is missing");
        EXPECT("\"");
        if (receipts[k].next) EXPECT(",");
    }
    EXPECT("],\"complete\":");
    if (m->lost) EXPECT("false");
    else EXPECT("true");
    EXPECT("}");
}

/* 1 if the reply is good; the rest is judged like any other. */
static int verify_admin(const request *r)
{
    int i = r->at[0].channel;
    lp_channel_info info;
    if (r->kind == R_DELETE)
        verify_deletion(i, r->status == 200 ? LP_OK : r->status == 404 ? LP_ERR_NOT_FOUND : LP_ERR_OS);
    if (r->status != 200 && r->status != 404) return 0;
    if (r->status == 404) {
        WANT(r->kind != R_LIST && !r->expect, "404");
        if (!undisturbed()) return 1;
        if (r->kind == R_CHANNEL) WANT(!M.channel[i].exists, "it is not found, and is there");
        if (r->kind == R_RECEIPTS)
            WANT(!message_is_held(&M.messages[r->payload]), "it is not found, and is held");
        return 1;
    }
    WANT(!r->expect, "the status");
    admin_counts[r->kind]++;
    switch ((request_kind)r->kind) {
    case R_DELETE: EXPECT("{\"status\":\"deleted\"}"); break;
    case R_CHANNEL:
        WANT(eat_channel(&info) == i, "another channel");
        verify_info(i, &info, undisturbed());
        break;
    case R_LIST: verify_list(r); break;
    default: verify_receipts(r); return 1;
    }
    WANT(at_text == end_text, "something behind it");
    return 1;
}

/* A request that was put off is answered: by the program, which was told that it would be; or by
   504, at its time. */
static void verify_later(const conn *c, int status)
{
    deferral *d = &deferrals[c->later - 1];
    d->over = 1;
    if (status == 504) {
        WANT(!d->answered, "504, though there was an answer");
        WANT(deferral_is_due(d), "504 comes early");
        deferral_counts[3]++;
        return;
    }
    WANT(d->answered || d->calling, "nobody has given that answer");
    if (d->answered && !loop_of(c)->drain_ms)
        WANT(K.now_ns <= lpi_max64(d->answered_ns, c->reply_ns) + slack_ns(), "it comes late");
}

static void verify_request(conn *c, request *r)
{
    int status = r->status;
    if (c->later && r->kind == R_ECHO) {
        verify_later(c, status);
        if (status == 504) return;
    }
    if (r->expect && status == r->expect) {
        if (r->kind == R_PUBLISH) payloads_set(r->payload, P_REFUSED);
        return;
    }
    if (r->kind > R_OTHER && verify_admin(r)) return;
    if (status == 503) {
        if (r->kind == R_PUBLISH) {
            WANT(M.payload[r->payload].state == P_MEANT, "503, and it is published");
            payloads_set(r->payload, P_REFUSED);
        }
        WANT(cur->excuses || cur->channels_most >= S->config.channels_max || partial_full(c) ||
             (S->hub.stores && r->kind == R_POLL &&
              (loop_of(c)->drain_ms || K.now_ns >= r->got_ns + fetch_ns(r))),
             "503 for nothing");
        return;
    }
    if (status == 401 && r->kind == R_POLL) {
        verify_ended(r);
        verify_when(c, r, 0);
        return;
    }
    if (status == 429 && r->kind == R_POLL) {
        if (!r->bodiless) verify_limit(c, r);
        return;
    }
    WANT(status == 200 && !r->expect, "the status");
    if (r->bodiless) return;
    switch ((request_kind)r->kind) {
    case R_POLL: verify_poll(c, r); break;
    case R_PUBLISH: verify_publish(r); break;
    case R_ECHO:
        EXPECT("{\"echo\":");
        WANT(eat_uint() == r->payload, "another request's answer");
        EXPECT("}");
        break;
    default: break;
    }
}

/* What is answered though no request was read whole. */
static void verify_unasked(conn *c, int status)
{
    const lp_config *cfg = &S->config;
    if (c->wild) {
        WANT(status >= 200 && status <= 505, "the status");
        return;
    }
    if (status == 408) {
        uint32_t least = cfg->head_ms < cfg->body_ms ? cfg->head_ms : cfg->body_ms;
        WANT(c->in_at != c->blank, "an empty line is no head that is late");
        WANT(K.now_ns >= c->first_ns + (uint64_t)least * 1000000, "408 comes early");
        return;
    }
    WANT(status == 503, "an answer to nothing");
    if (at_text != end_text) EXPECT("{\"error\":\"");
    if (EAT("Too many connections from address")) {
        WANT(!c->known && cur->connections_full >> c->address.bytes[15] & 1,
             "its address has not as many");
        return;
    }
    WANT(at_text == end_text || EAT("Server at capacity") || (tokens && EAT("Out of memory")),
         "which limit?");
    WANT(cur->excuses || OS.fd_open >= OS.fd_limit - 1 ||
         partial_full(c) || cur->connections_most >= cfg->connections_max, "turned away for nothing");
}

/* When the first message in the reply was published, or 0. */
static uint64_t first_born(const char *text, size_t length)
{
    const char *at = (const char *)memmem(text, length, "{\"id\":\"", 7);
    uint64_t epoch, seq;
    uint32_t i;
    if (!at) return 0;
    at_text = at + 7;
    end_text = text + length;
    epoch = eat_epoch();
    EXPECT("-");
    seq = eat_uint();
    for (i = 0; i < world_channels; i++) {
        const life *l = life_of(&M.channel[i], epoch);
        if (l) return message_at(&M.channel[i], l->base, seq)->appended_us;
    }
    bad_reply(__LINE__, "a message of no channel");
}

/* Of which of the stream's channels is the message that stands at at_text? */
static uint32_t event_place(const request *r)
{
    const char *from = at_text;
    uint64_t epoch;
    uint32_t i;
    EXPECT("{\"id\":\"");
    epoch = eat_epoch();
    at_text = from;
    for (i = 0; i < r->count; i++)
        if (life_of(&M.channel[r->at[i].channel], epoch)) return i;
    bad_reply(__LINE__, "of a channel that was not asked for");
}

/* The place before an event is where the stream stood; but for texts that are gone, of which a reset
   has told. */
static void verify_follows(const request *r, const place *p, uint64_t epoch, uint64_t seq)
{
    const channel *ch = &M.channel[p->channel];
    uint64_t at = p->got_seq;
    WANT(epoch == p->got_epoch && seq >= at && (seq == at || (transients && (r->reset_told || is_fresh(p)))),
         "an id that does not follow");
    for (; at < seq; at++)
        WANT(is_over(message_at(ch, life_of(ch, epoch)->base, at + 1)), "a message is left out");
}

/* One event of a stream. Its id is the cursor after it: each message is the next of its channel,
   or a reset says that this is not so. */
static void verify_event(conn *c, request *r, const char *text)
{
    stream_event e;
    uint32_t i, which = PLACES;
    int known = 1, moved = 0;
    int reset = EAT("event: reset\n"), begins = EAT("retry: 1000\n");
    WANT(!r->ends_ns || K.now_ns <= r->ends_ns + slack_ns(), "its token has ended");
    if (begins && EAT("\n")) return; /* a reset comes */
    if (!reset && EAT(":\n\n")) {
        M.timeouts++;
        return;
    }
    EXPECT("id: ");
    for (i = 0; i < r->count; i++) {
        if (i) EXPECT(",");
        e.at[i].epoch = eat_epoch();
        EXPECT("-");
        e.at[i].seq = eat_uint();
    }
    EXPECT("\n");
    if (!begins) EXPECT("data: ");
    if (!begins && !reset) which = event_place(r);
    for (i = 0; i < r->count; i++) {
        place *p = &r->at[i];
        const channel *ch = &M.channel[p->channel];
        const life *l = life_of(ch, e.at[i].epoch);
        WANT(l && l->base + e.at[i].seq <= ch->count, "a cursor that is none");
        if (p->got_count && !reset)
            verify_follows(r, p, e.at[i].epoch, e.at[i].seq - (i == which));
        if (p->got_count && reset && e.at[i].epoch == p->got_epoch)
            WANT(e.at[i].seq >= p->got_seq, "a reset goes back");
        known = known && p->got_count;
        moved = moved || e.at[i].epoch != p->got_epoch || e.at[i].seq != p->got_seq;
        p->got_epoch = e.at[i].epoch;
        p->got_seq = e.at[i].seq;
        p->got_count = 1;
    }
    if (begins) {
        at_text--; /* the empty line */
    } else if (reset) {
        const char *end = (const char *)memmem(at_text, (size_t)(end_text - at_text), "\n\n", 2);
        WANT(end && *at_text == '{' && (moved || !known || transients), "a reset of nothing");
        r->reset_told = 1;
        at_text = end;
        M.resets++;
    } else {
        const channel *ch = &M.channel[r->at[which].channel];
        uint64_t seq = e.at[which].seq, epoch;
        const char *from = at_text;
        const message *m;
        EXPECT("{\"id\":\"");
        epoch = eat_epoch();
        at_text = from;
        m = message_at(ch, life_of(ch, epoch)->base, seq);
        WANT(m->epoch == epoch && m->seq == seq && epoch == e.at[which].epoch,
             "its id is not that of the event");
        WANT(eat(M.text + m->text, m->length), "not as it was published");
        verify_access(r);
        carry(c, (uint32_t)(m - M.messages));
        M.delivered++;
    }
    EXPECT("\n\n");
    e.end = c->out_sent + (uint32_t)(at_text - text);
    if (c->event_count == EVENTS) c->streams = 3; /* its client goes back to what it knows */
    if (c->streams == 3) return;
    c->events[(c->event_at + c->event_count++) % EVENTS] = e;
}

/* What is sent on a connection where a stream was asked for. */
static int model_events(conn *c, const char *text, size_t length)
{
    request *r = &c->requests[0];
    const char *body;
    c->reply_size = (uint32_t)length;
    c->pend_born_us = c->parked ? first_born(text, length) : 0;
    c->parked = 0;
    c->carried_name = r->name;
    at_text = text;
    end_text = text + length;
    if (c->streams == 1) {
        EXPECT("HTTP/1.1 ");
        r->status = (uint16_t)eat_uint();
        r->replied = 1;
        c->replied = c->got = 1;
        c->streams = r->status == 200 ? 2 : 4;
        if (r->status == 401 && r->expect != 401) {
            body = (const char *)memmem(text, length, "\r\n\r\n", 4);
            WANT(body, "an endless head");
            at_text = body + 4;
            verify_ended(r);
            return 1;
        }
        if (r->status != 200) {
            WANT(r->status == 503 || r->status == 429 || r->status == r->expect ||
                     (r->status == 408 && K.now_ns >= c->first_ns + S->config.head_ms * UINT64_C(1000000)),
                 "the status");
            return 1;
        }
        body = (const char *)memmem(text, length, "\r\n\r\n", 4);
        WANT(body && memmem(text, length, "\r\nConnection: close\r\n", 21), "a stream that goes on");
        WANT(!r->expect, "it is not refused");
        WANT(memmem(text, length, "\r\nContent-Type: text/event-stream\r\n", 35) &&
             !memmem(text, (size_t)(body - text), "Content-Length", 14), "no head of a stream");
        at_text = body + 4;
        WANT(end_text - at_text > 12 && !memcmp(at_text, "retry: 1000\n", 12), "retry");
    }
    if (c->streams == 4) return 1; /* what was refused is followed by other answers */
    while (at_text < end_text) verify_event(c, r, text);
    c->reply_ns = c->first_ns = K.now_ns;
    M.replies++;
    return 1;
}

/* A reply, before the kernel takes any of it. 0 if it is none: 100 (Continue). */
static int model_reply(conn *c, const char *text, size_t length)
{
    request *r = NULL;
    const char *head_end;
    uint64_t size = 0;
    int status, closes = 0, no_length = 1;
    at_text = text;
    end_text = text + length;
    reading = c;
    c->carried_count = c->carried_name = 0;
    if (c->streams) return model_events(c, text, length);
    EXPECT("HTTP/1.1 ");
    status = (int)eat_uint();
    if (status == 100) {
        WANT(length == 25, "100 and more");
        return 0;
    }
    c->reply_size = (uint32_t)length;
    c->pend_born_us = c->parked ? first_born(text, length) : 0;
    c->parked = 0;
    at_text = text + 12;
    WANT(!c->closing, "an answer after the one that closes");
    head_end = (const char *)memmem(text, length, "\r\n\r\n", 4);
    WANT(head_end, "an endless head");
    while (at_text < head_end) {
        while (*at_text != '\n') at_text++;
        at_text++;
        if (EAT("Content-Length: ")) {
            size = eat_uint();
            no_length = 0;
        } else if (EAT("Connection: close\r")) {
            closes = 1;
        }
    }
    at_text = head_end + 4;
    if (c->replied != c->got) {
        r = &c->requests[c->replied % REQUESTS];
    } else if (c->replied != c->asked && !c->wild) {
        r = &c->requests[c->replied % REQUESTS];
        if (!r->early || r->expect != status) r = NULL; /* refused by its head alone */
        else c->got++;
    }
    if (!r && at_text == end_text && c->replied != c->asked)
        WANT(c->wild || c->requests[c->replied % REQUESTS].bodiless, "no body");
    else if (!r || !r->bodiless)
        WANT(no_length ? status == 204 : size == (uint64_t)(end_text - at_text), "Content-Length");
    else WANT(at_text == end_text || (status == 503 && closes), /* it was not parsed any more */
              "a body to a HEAD");
    if (!r) {
        WANT(closes || c->wild, "an answer to nothing, and it goes on");
        verify_unasked(c, status);
        c->closing = (uint8_t)closes;
        return 1;
    }
    r->status = (uint16_t)status;
    r->closes = (uint8_t)closes;
    c->carried_name = r->name;
    if (!c->wild) verify_request(c, r);
    if (c->later) deferrals[c->later - 1].over = 1;
    c->later = 0;
    r->replied = 1;
    WANT(closes ? r->asks_close || loop_of(c)->drain_ms || status >= 400 || c->wild
                : !r->asks_close, "Connection: close");
    r->reply_end = c->out_sent + (uint32_t)length;
    c->closing = (uint8_t)closes;
    c->replied++;
    c->reply_ns = c->first_ns = K.now_ns;
    M.replies++;
    trace("reply to request %u of connection %u: %d", c->replied - 1, conn_index(c), status);
    return 1;
}

/* All of the reply is the kernel's. */
static void model_sent(conn *c)
{
    delayed *d = &cur->delayed[cur->delayed_count];
    MUST(!cur->handed, "a reply is out, and its receipts are not noted");
    if (S->config.track_receipts && c->carried_count && c->carried_name) cur->handed = c;
    if (!c->pend_born_us) return;
    MUST(cur->delayed_count++ < LPI_BATCH, "delays that are not measured");
    d->conn = conn_index(c);
    d->appended_us = c->pend_born_us;
    c->pend_born_us = 0;
}

static void model_unsent(const conn *c)
{
    uint32_t i, n = 0;
    for (i = 0; i < cur->delayed_count; i++)
        if (cur->delayed[i].conn != conn_index(c)) cur->delayed[n++] = cur->delayed[i];
    cur->delayed_count = n;
}

/* The loop looks at the clock: for those that it has just sent. */
static void model_clock(uint64_t now_us)
{
    uint32_t i;
    for (i = 0; i < cur->delayed_count; i++) {
        uint64_t us = now_us - cur->delayed[i].appended_us;
        uint32_t e = us < 4 ? 0 : 63u - (uint32_t)__builtin_clzll(us);
        uint32_t at = us < 4 ? (uint32_t)us : 4 * (e - 1) + (uint32_t)(us >> (e - 2) & 3);
        M.latencies[at < LP_LATENCIES ? at : LP_LATENCIES - 1]++;
    }
    cur->delayed_count = 0;
}

/* The server closes: why? */
static void model_closing(conn *c)
{
    const lp_config *cfg = &S->config;
    const lpi_connection *is;
    uint64_t limit = 0, since = 0, drain_ms;
    model_unsent(c);
    if (c->requests[c->replied % REQUESTS].kind == R_DELETE) cur->deleted = 0;
    if (!c->known || S->hub.stopped) return;
    is = record_of(c);
    drain_ms = loop_of(c)->drain_ms;
    SAME(is->fd, c->fd, "the record of a connection that is closed");
    if (c->rst || c->faulty || c->wild || cur->excuses) return;
    if (drain_ms && now_ms() >= drain_ms) return;
    if (is->phase == LPI_SERVING && pinned_full(c, c->reply_size)) return;
    if (partial_full(c)) return;
    switch ((lpi_phase)is->phase) {
    case LPI_ACCEPTED: since = c->accept_ns, limit = cfg->head_ms; break;
    case LPI_IDLE: /* empty lines do not count */
        since = c->reply_ns ? c->reply_ns : c->accept_ns;
        limit = cfg->idle_ms;
        break;
    case LPI_WRITING: since = c->pend_ns, limit = cfg->write_ms; break;
    case LPI_LINGERING: since = c->shut_ns, limit = cfg->linger_ms; break;
    default: break;
    }
    if (is->phase == LPI_IDLE && drain_ms && c->got == c->replied) return;
    if (limit && K.now_ns + late_ns() >= since + limit * 1000000) return;
    if (is->phase == LPI_WRITING && !c->pend_length && c->closing) return;
    if (is->phase == LPI_SERVING && c->closing && !c->pend_length) return;
    MUST(c->fin, "connection %u is closed for nothing, in phase %u", conn_index(c),
         is->phase);
    MUST(is->phase != LPI_WRITING, "connection %u: an answer is cut off by the end of its stream",
         conn_index(c));
    if (c->got == c->replied || c->closing || is->phase == LPI_LINGERING) return;
    MUST(c->requests[c->replied % REQUESTS].kind == R_POLL || is->phase == LPI_DEFERRED,
         "connection %u: what came before the end of its stream is not answered", conn_index(c));
}

/* ---- under the hub's mutex ---- */

static void hub_taken(void)
{
    const lpi_hub *hub = &S->hub;
    cur->excuses_taken = cur->excuses;
    cur->refused = hub->stats.refused;
    cur->waiters = hub->stats.waiters;
    cur->partial = hub->partial_bytes;
    cur->pinned = hub->stats.pinned_bytes;
    cur->recipients = cur->slot < 0 ? 0 : S->loops[cur->slot].batch.recipient_count;
}

static void plan_taken(lpi_loop *loop)
{
    const lpi_batch *batch = &loop->batch;
    uint32_t i, r, ended = 0;
    cur->reply.count = M.count;
    for (i = 0; i < world_channels; i++) {
        cur->reply.at[i].epoch = M.channel[i].exists ? M.channel[i].epoch : 0;
        cur->reply.at[i].last = M.channel[i].last;
        cur->reply.at[i].floor = M.channel[i].floor;
        cur->reply.at[i].rechecks = M.channel[i].rechecks;
    }
    for (i = cur->recipients; i < batch->recipient_count; i++) {
        int fd = lpi_connection_at(loop, batch->recipients[i].connection)->fd;
        kernel_stream(&OS, fd)->parked = batch->recipients[i].waited;
        ended += batch->recipients[i].waited;
    }
    for (r = 0; r < batch->reply_count; r++)
        for (i = batch->replies[r].recipient_first; i != LPI_NONE; i = batch->recipients[i].next)
            M.firsts += i >= cur->recipients && batch->recipients[i].first && batch->replies[r].count;
    if (!S->hub.stores)
        SAME(cur->waiters - S->hub.stats.waiters, ended, "waits that ended, and replies to them");
}

static void refusal_taken(void)
{
    refusal *to = &cur->refusal;
    uint32_t ch;
    int i;
    to->waiters = 0;
    for (ch = 0; ch < world_channels; ch++)
        to->on_channel[ch] = M.channel[ch].exists
                                 ? lpi_channel_at(&S->hub, M.channel[ch].index)->waiters : 0;
    for (i = 0; i < K.conn_top; i++) {
        const conn *c = &K.conns[i];
        const lpi_connection *is;
        if (!c->used || c->fd < 0 || !c->known) continue;
        is = record_of(c);
        if (is->wait.waiter == LPI_NONE) continue;
        to->parked[to->waiters].name = c->name;
        to->parked[to->waiters++].address = c->speaks;
    }
    SAME(to->waiters, S->hub.stats.waiters, "waiters");
}

/* Somebody has called lp_recheck: all who wait there are to be released. */
static void learn_recheck(void)
{
    channel *ch = &M.channel[cur->rechecks - 1];
    uint32_t v;
    M.rechecks = S->hub.rechecks;
    MUST(cur->rechecks, "a channel is rechecked for nobody");
    ch->rechecks++;
    if (!ch->exists) return;
    for (v = lpi_channel_at(&S->hub, ch->index)->lists.head; v != LPI_NONE;
         v = lpi_waiter_list_at(&S->hub, v)->link.next) {
        MUST(lpi_waiter_list_at(&S->hub, v)->recheck, "some who wait are not rechecked");
        rechecked_polls += lpi_waiter_list_at(&S->hub, v)->waiters;
    }
}

/* About to be released. */
static void hub_released(void)
{
    const lpi_hub *hub = &S->hub;
    model_sync();
    if (hub->rechecks != M.rechecks) learn_recheck();
    if (cur->handed) learn_handed();
    M.releases++;
    cur->releases++;
    cur->others = M.releases - cur->releases;
    if (hub->stats.channels > cur->channels_most) cur->channels_most = hub->stats.channels;
    if (hub->stats.connections > cur->connections_most) cur->connections_most = hub->stats.connections;
    if (cur->slot < 0) return;
    if (hub->partial_bytes != cur->partial || hub->stats.pinned_bytes != cur->pinned ||
        (!cur->slot && S->config.connections_per_address < CONNS))
        M.spendings++;
    if (cur->noted != M.spendings) note_accounts();
    if (S->loops[cur->slot].batch.recipient_count > cur->recipients) plan_taken(&S->loops[cur->slot]);
    if (hub->stats.refused != cur->refused) refusal_taken();
}

/* ---- steps ---- */

/* Polls come and go within a step: those that are parked are noted at each call. */
static void model_notes_waiters(void)
{
    uint32_t i;
    if (S->hub.mutex.owner) return;
    for (i = 0; i < world_channels; i++)
        if (M.channel[i].exists && lpi_channel_at(&S->hub, M.channel[i].index)->waiters)
            M.channel[i].waited_ms = now_ms();
}

static void model_step_ends(void)
{
    uint32_t i;
    if (S->hub.mutex.owner) return;
    for (i = 0; i < world_channels; i++) {
        channel *ch = &M.channel[i];
        const lpi_channel *is;
        if (!ch->exists) continue;
        is = lpi_channel_at(&S->hub, ch->index);
        if (is->held || is->waiters) ch->busy_ms = now_ms();
    }
}

/* ---- publishing from outside ---- */

static void told(void *ctx, lp_result result, const lp_published *published)
{
    payload *p = &M.payload[(size_t)ctx];
    p += p->count - 1;
    MUST(cur->slot == 0 || cur == threads, "told on another thread than lp_run's");
    M.asyncs--;
    cur->progress++;
    called_out();
    if (result != LP_OK) return;
    MUST(p->state == P_PUBLISHED, "told that it is published");
    SAME(published->timestamp_us, M.messages[p->message].timestamp_us, "what is told");
}

static void publish_told(uint32_t n, const char *json, size_t length)
{
    uint32_t excuses = cur->excuses;
    lp_slice name = lp_s(names[M.payload[n].channel].name);
    lp_result result;
    M.asyncs++; /* it may be told before the call returns */
    result = lp_publish_async(S, name, lpi_slice(json, length), told, (void *)(size_t)n);
    trace("lp_publish_async %s %u: %d", name.bytes, n, result);
    if (result != LP_OK) M.asyncs--;
    MUST(result == LP_OK || (result == LP_ERR_NOMEM && cur->excuses > excuses) ||
         (result == LP_ERR_STOPPED && S->hub.stopped), "lp_publish_async returns %d", result);
    if (M.payload[n].state != P_PUBLISHED) payloads_set(n, P_REFUSED);
}

static void publish_returned(uint32_t n, const lp_published *out)
{
    char id[40];
    const message *m;
    uint32_t i, count = M.payload[n].count;
    for (i = 0; i < count; i++)
        SAME(M.payload[n + i].state, P_PUBLISHED, "lp_publish returns OK");
    m = &M.messages[M.payload[n + count - 1].message];
    SAME(out->count, count, "lp_publish");
    sprintf(id, "%016" PRIx64 "-%" PRIu64, m->epoch, m->seq);
    MUST(!strcmp(id, out->id), "lp_publish returns the id %s, not %s", out->id, id);
    SAME(out->timestamp_us, m->timestamp_us, "lp_publish");
    SAME(out->waiters, m->waiters, "lp_publish");
}

/* On any thread. What goes wrong here excuses nothing else. */
static void publish_direct(int i)
{
    static char texts[THREADS][70000];
    char *json = texts[cur - threads];
    uint32_t n, k, excuses = cur->excuses;
    int stopped = S->hub.stopped;
    lp_result too_many = LP_OK;
    size_t length;
    lp_published out;
    lp_result result;
    if (model_full()) return;
    n = payloads_choose(i);
    if (M.payload[n].count > policy_of(i).history_count) too_many = LP_ERR_TOO_LARGE;
    if (i == REFUSED && policies && M.payload[n].count <= S->config.history_count)
        too_many = LP_ERR_REFUSED;
    for (k = 0; k < M.payload[n].count; k++) M.payload[n + k].got = 1;
    length = payloads_json(n, json);
    if (M.payload[n].is_array && one_in(8)) { /* its last element is none */
        json[length - 2] = ')';
        too_many = LP_ERR_JSON;
    }
    if (n % 16 == 1 && too_many == LP_OK && !M.payload[n].transient) {
        publish_told(n, json, length);
        cur->excuses = excuses;
        return;
    }
    result = M.payload[n].transient
                 ? lp_publish_transient(S, lp_s(names[i].name), lpi_slice(json, length), &out)
                 : lp_publish(S, lp_s(names[i].name), lpi_slice(json, length), &out);
    transient_count += M.payload[n].transient;
    trace("lp_publish %s %u: %d", names[i].name, n, result);
    MUST(result != LP_OK || !stopped, "published after the end");
    if (too_many) MUST(result == too_many || (result == LP_ERR_NOMEM && cur->excuses > excuses) ||
                       (result == LP_ERR_STOPPED && S->hub.stopped) ||
                       (result == LP_ERR_OS && cur->excuses > excuses) ||
                       (result == LP_ERR_FULL && cur->channels_most >= S->config.channels_max),
                       "a bad array: lp_publish returns %d", result);
    if (result == LP_OK) {
        publish_returned(n, &out);
    } else {
        MUST(((result == LP_ERR_NOMEM || result == LP_ERR_OS) && cur->excuses > excuses) ||
             (result == LP_ERR_STOPPED && S->hub.stopped) ||
             (result == LP_ERR_FULL && cur->channels_most >= S->config.channels_max) || too_many,
             "lp_publish returns %d", result);
        for (k = 0; k < M.payload[n].count; k++)
            SAME(M.payload[n + k].state, P_MEANT, "lp_publish failed, and yet");
        payloads_set(n, P_REFUSED);
    }
    cur->excuses = excuses;
}

/* ---- the hooks on messages ---- */

/* The payload that the JSON begins with, past the member that is to give way. */
static uint32_t payload_sent(lp_slice json)
{
    static const char first[] = "[1,{\"n\":2}],\"n\":";
    const char *at = (const char *)memmem(json.bytes, json.length, "\"n\":", 4);
    if (!at) return M.payloads;
    if (at - json.bytes > 4 && at[-2] == ',') at += sizeof first - 1 - 8;
    return (uint32_t)strtoul(at + 4, NULL, 10);
}

/* What is asked about was sent here, and is not published yet. At times it gives a copy. */
static int ask_before(void *ctx, lp_request *r, lp_slice name, lp_slice *json, const char **text)
{
    static char copies[LOOPS][70000];
    uint32_t n = payload_sent(*json);
    (void)ctx, (void)r;
    called_out();
    MUST(n < M.payloads && M.payload[n].channel == channel_of(name.bytes) && !*text,
         "before_publish is asked about something else");
    MUST(M.payload[n].state == P_MEANT ||
             (policies && M.payload[n].state == P_REFUSED), /* the policy is asked next */
         "before_publish is asked after it is published");
    asked_before++;
    if (n % 16 == 3) publish_direct((int)below(world_channels));
    if (n % 2 == 0) {
        memcpy(copies[cur->slot], json->bytes, json->length);
        json->bytes = copies[cur->slot];
    }
    return 0;
}

/* Every message of a channel, of all its epochs, is told once and in order. */
static void tell_after(void *ctx, const lp_message *is)
{
    channel *ch = &M.channel[channel_of(is->channel.bytes)];
    const message *m;
    (void)ctx;
    MUST(cur->slot == 0 || cur == threads, "messages are told on another thread than lp_run's");
    called_out();
    cur->progress++;
    MUST(ch->told < ch->count, "after_publish is told of what was not published");
    m = &M.messages[ch->list[ch->told++]];
    MUST(lpi_equal(is->channel, lp_s(names[ch - M.channel].name)), "the channel that is told");
    MUST(is->json.length == m->length && !memcmp(is->json.bytes, M.text + m->text, m->length),
         "after_publish is told of another message than the next");
    MUST(is->id.bytes == is->json.bytes + 7 && is->id.length >= 18 &&
         is->id.bytes[is->id.length] == '"', "the id that is told");
    SAME(is->timestamp_us, m->timestamp_us, "the timestamp that is told");
    told_after++;
    if (ch->told % 16 == 0) publish_direct((int)below(world_channels));
}

/* The server is gone. */
static void verify_all_told(void)
{
    int i;
    for (i = 0; i < CHANNELS; i++)
        SAME(M.channel[i].told, M.channel[i].count, "messages that after_publish was told of");
}

/* Administration, on any thread. */
static void delete_direct(int i)
{
    uint32_t excuses = cur->excuses;
    lp_result result;
    cur->deletes = i + 1;
    result = lp_channel_delete(S, lp_s(names[i].name));
    cur->deletes = 0;
    trace("lp_channel_delete %s: %d", names[i].name, result);
    MUST(result == LP_OK || result == LP_ERR_NOT_FOUND ||
         (result == LP_ERR_OS && cur->excuses > excuses) ||
         (result == LP_ERR_STOPPED && S->hub.stopped), "lp_channel_delete returns %d", result);
    verify_deletion(i, result);
    admin_counts[R_DELETE] += result == LP_OK;
    cur->excuses = excuses;
}

static void recheck_direct(int i)
{
    cur->rechecks = i + 1;
    SAME(lp_recheck(S, lp_s(names[i].name)), LP_OK, "lp_recheck");
    cur->rechecks = 0;
}

static void describe_direct(int i)
{
    lp_channel_info info;
    lp_result result = lp_channel_read(S, lp_s(names[i].name), &info);
    MUST(result == LP_OK || result == LP_ERR_NOT_FOUND, "lp_channel_read returns %d", result);
    if (result == LP_OK) verify_info(i, &info, undisturbed());
    else if (undisturbed()) MUST(!M.channel[i].exists, "it is not found, and is there");
}

static void list_direct(void)
{
    uint8_t times[CHANNELS] = {0};
    lp_channel_info infos[40];
    uint32_t position = 0, n, i, max = between(1, 40);
    uint64_t others = M.releases - cur->releases;
    do {
        n = lp_channels_read(S, &position, infos, max);
        MUST(n <= max && (n == max || !position), "lp_channels_read returns %u", n);
        for (i = 0; i < n; i++) {
            int k = channel_of(infos[i].name);
            times[k]++;
            verify_info(k, &infos[i], undisturbed() && others == cur->others);
        }
    } while (position);
    verify_listed(times, undisturbed() && others == cur->others);
}

typedef struct heard { /* what lp_messages_read has told */
    int channel;
    uint32_t count, before; /* before: the index of the last                  */
    uint32_t indices[MESSAGES / 4];
} heard;

static void hear(void *ctx, const lp_message *m)
{
    heard *h = (heard *)ctx;
    const channel *ch = &M.channel[h->channel];
    uint64_t epoch = 0;
    const life *l;
    const message *is;
    called_out();
    lpi_parse_epoch(m->id.bytes, &epoch);
    l = life_of(ch, epoch);
    MUST(l, "a message of an epoch that was never drawn");
    is = message_at(ch, l->base, strtoull(m->id.bytes + 17, NULL, 10));
    MUST(m->json.length == is->length && !memcmp(m->json.bytes, M.text + is->text, is->length),
         "a message is told, and not as it was published");
    SAME(m->timestamp_us, is->timestamp_us, "the timestamp that is told");
    if (h->count && !transients) SAME(is->seq, M.messages[h->before].seq + 1, "a gap in what is told");
    h->before = (uint32_t)(is - M.messages);
    h->indices[h->count++] = h->before;
}

/* The newest messages of a channel: if nobody else has had the mutex, exactly those. */
static void messages_direct(int i)
{
    static heard all[THREADS];
    heard *h = &all[cur - threads];
    const channel *ch = &M.channel[i];
    uint32_t excuses = cur->excuses, max = one_in(4) ? LP_UNLIMITED : between(1, 200), k;
    uint64_t others = M.releases - cur->releases, last, held;
    lp_result result;
    h->channel = i;
    h->count = 0;
    result = lp_messages_read(S, lp_s(names[i].name), max, hear, h);
    MUST(result == LP_OK || result == LP_ERR_NOT_FOUND ||
         (result == LP_ERR_NOMEM && cur->excuses > excuses), "lp_messages_read returns %d", result);
    MUST(h->count <= max, "more is told than was asked for");
    if (!transients && others == M.releases - cur->releases && others == cur->others &&
        result == LP_OK) {
        last = ch->last;
        held = ch->last - ch->floor;
        messages_told++;
        SAME(h->count, held < max ? held : max, "how many messages are told");
        for (k = 0; k < h->count; k++)
            SAME(h->indices[k], ch->list[ch->base + last - h->count + k], "which message is told");
    }
    cur->excuses = excuses;
}

/* Of one of the newest messages. */
static void receipts_direct(void)
{
    static lp_receipts pages[THREADS];
    lp_receipts *page = &pages[cur - threads];
    uint32_t back = M.count > 40 ? 40 : M.count, i, k;
    const message *m;
    char id[40];
    lp_result result;
    if (!M.count) return;
    m = &M.messages[M.count - 1 - below(back)];
    sprintf(id, "%016" PRIx64 "-%" PRIu64, m->epoch, m->seq);
    page->position = 0;
    do {
        uint32_t from = page->position;
        result = lp_receipts_read(S, lp_s(names[M.payload[m->payload].channel].name), lp_s(id), page);
        MUST(result == LP_OK || result == LP_ERR_NOT_FOUND, "lp_receipts_read returns %d", result);
        if (!undisturbed() || is_over(m)) return;
        for (k = m->first_receipt; k && from; from--) k = receipts[k].next;
        SAME(result == LP_OK, message_is_held(m), "whether it is held");
        if (result != LP_OK) return;
        SAME(page->complete, !m->lost, "whether receipts were lost");
        for (i = 0; i < page->count; i++, k = receipts[k].next)
            MUST(k && strtoul(page->client_ids[i] + 1, NULL, 10) == receipts[k].name - 1,
                 "%s has no receipt", page->client_ids[i]);
        if (!page->position) MUST(!k, "a receipt is left out");
    } while (page->position && !one_in(4));
}

/* The server is there. */
static void model_begins(void)
{
    uint8_t address[16] = {0};
    uint32_t i;
    memset(address + 10, 0xff, 2);
    address[12] = 127;
    for (i = 1; i < ADDRESSES; i++) {
        address[15] = (uint8_t)i;
        M.keys[i] = lpi_address_key(&S->hub, address);
    }
}

static void model_boot(void)
{
    static char made[CHANNELS][8];
    int i;
    memset(&M, 0, offsetof(struct model, messages));
    for (i = 0; i < CHANNELS; i++) memset(&M.channel[i], 0, offsetof(channel, life));
    for (i = PLAIN; i < CHANNELS && !names[i].name; i++) {
        sprintf(made[i], "m%03d", i);
        names[i].name = names[i].raw = names[i].quoted = made[i];
    }
    gone_count = 0;
    receipt_count = receipt_oldest = 1;
    receipts_held = 0;
    receipts = (receipt *)grown(receipts, 1, &receipt_room, sizeof *receipts);
}

#endif /* MODEL_H */
