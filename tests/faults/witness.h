/* witness.h: clients that remember what they asked and are told, and a ledger of all
   that was published, so that a wrong answer is seen whatever failed before it.

   Without a fault each request gets exactly the answer that the scenario names. With
   one it gets that, or 503, or its connection ends: never another answer, never none.

       client *c = come();
       asks(c, 200, "/api/poll/a?last_id=%s", cursor);
       publishes(come(), 200, "a", 0);
       settle(&w);
       ...
       judge_all();                 nobody waits for an answer that will not come

   Every message has a number "n" of its own. The ledger holds for each (channel, epoch,
   seq) which message that is: two answers that differ, a message that was refused with
   503 and came all the same, one that was acknowledged and is not in the history, or
   times that do not grow end the test. A follower is the client of DESIGN 3: it sends
   back the cursor that it was last given, on a new connection if need be, and must see
   every message once and in order. */

#ifndef WITNESS_H
#define WITNESS_H

static world w;

typedef struct follower follower;

typedef struct want {
    int status, may;         /* the answer; another that a fault may make of it */
    int n;                   /* the message that it acknowledges, or 0          */
    int count;               /* of an array of so many the first; 0: of none    */
    int bodiless;
    int lost;                /* it need not come, even without a fault          */
    int audit;
    const char *text;        /* the body, if that is known                      */
    follower *follower;
} want;

enum { WANTS = 40, CLIENTS = 200, FOLLOWERS = 8, SENDS = 400, NOTES = 400, NAMES = 16 };

typedef struct client {
    peer *p;
    want wants[WANTS];
    int asked, told;
    int continues;           /* how many 100 Continue came                      */
} client;

typedef struct place {       /* where a follower stands                         */
    char channel[64];
    int known;
    uint64_t epoch, seq;
} place;

struct follower {
    client *c;
    const char *channels;
    int basic, more, heard;
    place at[NAMES];
    int count;
    char cursor[400];
};

typedef enum sent { S_FREE, S_SENT, S_ACKED, S_REFUSED } sent;

typedef struct send_record {
    sent state;
    char channel[64], id[40];
    int audited;
} send_record;

typedef struct note {
    char channel[64];
    uint64_t epoch, seq, us;
    int n;
} note;

/* What one run of a scenario has. */
typedef struct run_state {
    int clean;               /* nothing fails, or nothing will any more         */
    int armed, created;
    int resets;              /* the scenario makes replies with "reset"         */
    int lossy;               /* it makes the history forget                     */
    int stopping;
    const char *extra;       /* header lines of every request                   */
    int full;                /* there may be no room for another channel        */
    uint64_t patience_ms;    /* how long the last answer may take               */
    const char *prefix;      /* of the API, if it is not /api                   */
    int client_count;
    follower followers[FOLLOWERS];
    int follower_count;
    send_record sends[SENDS];
    int send_count;
    note notes[NOTES];
    int note_count;
    int async_asked, async_told;
} run_state;

static run_state run;
static client clients[CLIENTS]; /* each is blank when it comes */

#define COMPLAIN(...) unit_fail(__FILE__, __LINE__, __VA_ARGS__)

/* ---- the ledger ---- */

static int announce(const char *channel) {
    send_record *s = &run.sends[++run.send_count];
    CHECK(run.send_count < SENDS && strlen(channel) < sizeof s->channel);
    s->state = S_SENT;
    strcpy(s->channel, channel);
    return run.send_count;
}

static void note_id(char *to, const note *at) {
    *lpi_put_id(to, at->epoch, at->seq) = 0;
}

static void check_note(const note *a, const note *b) {
    if (strcmp(a->channel, b->channel)) return;
    if (a->epoch != b->epoch) {
        if (a->n == b->n) COMPLAIN("message %d is there twice", a->n);
    } else if (a->seq == b->seq) {
        if (a->n != b->n || a->us != b->us)
            COMPLAIN("messages %d and %d have the same id", a->n, b->n);
    } else {
        if (a->n == b->n) COMPLAIN("message %d is there twice", a->n);
        if ((a->seq < b->seq) != (a->us < b->us))
            COMPLAIN("the timestamps of %d and %d go the other way", a->n, b->n);
    }
}

static void check_send(const note *at) {
    char id[40];
    const send_record *s = &run.sends[at->n];
    note_id(id, at);
    if (at->n < 1 || at->n > run.send_count || strcmp(s->channel, at->channel))
        COMPLAIN("message %d on channel %s was never published there", at->n, at->channel);
    if (s->state == S_REFUSED) COMPLAIN("message %d was refused, and came", at->n);
    if (s->state == S_ACKED && strcmp(s->id, id))
        COMPLAIN("message %d was acknowledged as %s and came as %s", at->n, s->id, id);
}

static void take_note(const note *at) {
    int i;
    check_send(at);
    for (i = 0; i < run.note_count; i++) {
        check_note(&run.notes[i], at);
        if (run.notes[i].n == at->n) return;
    }
    CHECK(run.note_count < NOTES);
    run.notes[run.note_count++] = *at;
}

static void settle_send(int n, sent state, const char *id) {
    int i;
    send_record *s = &run.sends[n];
    CHECK(s->state == S_SENT);
    s->state = state;
    if (id) strcpy(s->id, id);
    for (i = 0; i < run.note_count; i++)
        if (run.notes[i].n == n) check_send(&run.notes[i]);
}

/* ---- publishing from the program itself ---- */

static void put_json(char *to, size_t size, int n, size_t padding) {
    int at = snprintf(to, size, "{\"n\":%d,\"pad\":\"", n);
    CHECK((size_t)at + padding + 3 <= size);
    memset(to + at, 'x', padding);
    memcpy(to + (size_t)at + padding, "\"}", 3);
}

static char json_room[70000];

/* `full`: the channel table may have no room for it. */
static void tells_with(const char *channel, size_t padding, int full) {
    lp_published out;
    int n = announce(channel);
    lp_result result;
    put_json(json_room, sizeof json_room, n, padding);
    memset(&out, 0, sizeof out);
    result = lp_publish(w.s, lp_s(channel), lp_s(json_room), &out);
    if (run.clean && !full) CHECK_INT(result, LP_OK);
    if (result == LP_OK) {
        settle_send(n, S_ACKED, out.id);
        return;
    }
    if (result != LP_ERR_NOMEM && result != LP_ERR_OS && !(full && result == LP_ERR_FULL))
        COMPLAIN("lp_publish returned %d", result);
    CHECK(!out.id[0]); /* untouched */
    settle_send(n, S_REFUSED, NULL);
}

static void tells(const char *channel) { tells_with(channel, 0, 0); }

/* An array of `count` messages, that are announced here. Returns the first. */
static int put_array(char *to, size_t size, const char *channel, int count) {
    int first = run.send_count + 1, i;
    for (i = 0; i < count; i++) {
        *to++ = i ? ',' : '[';
        put_json(to, --size, announce(channel), 20);
        size -= strlen(to);
        to += strlen(to);
    }
    CHECK(size > 2);
    strcpy(to, "]");
    return first;
}

/* All of them are acknowledged, with ids that end with this one; or all are refused. */
static void settle_array(int first, int count, const char *last_id) {
    lpi_requested last;
    char id[40];
    int i;
    if (last_id) CHECK(!lpi_query_cursor(lp_s(last_id), &last));
    for (i = 0; i < count; i++) {
        if (last_id) *lpi_put_id(id, last.epoch, last.seq - (uint64_t)(count - 1 - i)) = 0;
        settle_send(first + i, last_id ? S_ACKED : S_REFUSED, last_id ? id : NULL);
    }
}

static void tells_array(const char *channel, int count) {
    lp_published out;
    int first = put_array(json_room, sizeof json_room, channel, count);
    lp_result result;
    memset(&out, 0, sizeof out);
    result = lp_publish(w.s, lp_s(channel), lp_s(json_room), &out);
    if (run.clean) CHECK_INT(result, LP_OK);
    CHECK(result == LP_OK || result == LP_ERR_NOMEM || result == LP_ERR_OS);
    CHECK_INT(out.count, result == LP_OK ? count : 0);
    settle_array(first, count, result == LP_OK ? out.id : NULL);
}

static void told_later(void *ctx, lp_result result, const lp_published *published) {
    int n = (int)(size_t)ctx;
    CHECK(!published == (result != LP_OK));
    run.async_told++;
    if (result == LP_OK) settle_send(n, S_ACKED, published->id);
    else settle_send(n, S_REFUSED, NULL);
    if (run.clean) CHECK_INT(result, LP_OK);
}

static void tells_async(const char *channel) {
    int n = announce(channel);
    lp_result result;
    put_json(json_room, sizeof json_room, n, 0);
    result = lp_publish_async(w.s, lp_s(channel), lp_s(json_room), told_later,
                              (void *)(size_t)n);
    if (run.clean) CHECK_INT(result, LP_OK);
    if (result == LP_OK) {
        run.async_asked++;
        return;
    }
    CHECK_INT(result, LP_ERR_NOMEM);
    settle_send(n, S_REFUSED, NULL);
}

/* ---- asking ---- */

static client *come_from(const char *address) {
    client *c = &clients[run.client_count++];
    CHECK(run.client_count <= CLIENTS);
    memset(c, 0, sizeof *c);
    c->p = dial_from(&w, address);
    return c;
}

static client *come(void) { return come_from("127.0.0.1"); }

/* An answer is owed from now on. */
static want *wants(client *c, int status) {
    want *a = &c->wants[c->asked++];
    CHECK(c->asked <= WANTS);
    memset(a, 0, sizeof *a);
    a->status = status;
    return a;
}

static const char *api(void) { return run.prefix ? run.prefix : "/api"; }

static const char *extra(void) { return run.extra ? run.extra : ""; }

UNIT_UNUSED static want *asks(client *c, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static want *asks(client *c, int status, const char *format, ...) {
    char target[3000];
    va_list args;
    va_start(args, format);
    CHECK(vsnprintf(target, sizeof target, format, args) < (int)sizeof target);
    va_end(args);
    sayf(c->p, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", target, extra());
    return wants(c, status);
}

static want *publishes(client *c, int status, const char *channel, size_t padding) {
    int n = announce(channel);
    want *a;
    put_json(json_room, sizeof json_room, n, padding);
    sayf(c->p, "POST %s/publish/%s HTTP/1.1\r\nHost: localhost\r\n%s"
               "Content-Type: application/json\r\nContent-Length: %lu\r\n\r\n",
         api(), channel, extra(), (unsigned long)strlen(json_room));
    say(c->p, json_room);
    a = wants(c, status);
    a->n = n;
    return a;
}

static want *publishes_array(client *c, int status, const char *channel, int count) {
    want *a;
    int first = put_array(json_room, sizeof json_room, channel, count);
    sayf(c->p, "POST %s/publish/%s HTTP/1.1\r\nHost: localhost\r\n%s"
               "Content-Type: application/json\r\nContent-Length: %lu\r\n\r\n",
         api(), channel, extra(), (unsigned long)strlen(json_room));
    say(c->p, json_room);
    a = wants(c, status);
    a->n = first;
    a->count = count;
    return a;
}

/* ---- what an answer to a poll may be ---- */

static void follow_message(follower *f, const note *at, int reset) {
    place *p = f->at;
    while (p < f->at + f->count && strcmp(p->channel, at->channel)) p++;
    if (p == f->at + f->count) COMPLAIN("a message of channel %s, not asked for", at->channel);
    if (p->known && (p->epoch != at->epoch || p->seq + 1 != at->seq) && !reset)
        COMPLAIN("after %d of %s came %d", (int)p->seq, at->channel, (int)at->seq);
    if (!p->known && !run.lossy && at->seq != 1)
        COMPLAIN("the first of %s is %d", at->channel, (int)at->seq);
    p->known = 1;
    p->epoch = at->epoch;
    p->seq = at->seq;
}

static uint64_t digits(const char **at, unsigned base) {
    char *end;
    uint64_t value = strtoull(*at, &end, (int)base);
    CHECK(end > *at);
    *at = end;
    return value;
}

/* The message at `text`; where its own members begin. */
static const char *read_message(const char *text, note *out) {
    const char *at = text + strlen("{\"id\":\""), *end;
    uint64_t seconds;
    memset(out, 0, sizeof *out);
    out->epoch = digits(&at, 16);
    CHECK(*at++ == '-');
    out->seq = digits(&at, 10);
    CHECK(!strncmp(at, "\",\"channel\":\"", 13));
    at += 13;
    end = strchr(at, '"');
    CHECK(end && (size_t)(end - at) < sizeof out->channel);
    memcpy(out->channel, at, (size_t)(end - at));
    CHECK(!strncmp(end, "\",\"timestamp\":", 14));
    at = end + 14;
    seconds = digits(&at, 10);
    CHECK(*at++ == '.');
    out->us = seconds * 1000000 + digits(&at, 10);
    CHECK(!strncmp(at, ",\"n\":", 5));
    at += 5;
    out->n = (int)digits(&at, 10);
    return at;
}

/* Each channel's part is without holes, and last_id is where it ends. */
static int check_messages(const char *body, follower *f, int audit) {
    note last[NAMES], at;
    int names = 0, count = 0, i;
    const char *text = body, *cursor = strstr(body, "\"last_id\":\"");
    int reset = strstr(body, "\"reset\":{") != NULL;
    CHECK(cursor);
    for (; (text = strstr(text, "{\"id\":\"")); count++) {
        text = read_message(text, &at);
        take_note(&at);
        if (audit) run.sends[at.n].audited++;
        if (f) follow_message(f, &at, reset);
        for (i = 0; i < names && strcmp(last[i].channel, at.channel);) i++;
        if (i == names) CHECK(names++ < NAMES);
        else if (last[i].epoch != at.epoch || last[i].seq + 1 != at.seq)
            COMPLAIN("%d of %s stands behind %d", (int)at.seq, at.channel, (int)last[i].seq);
        last[i] = at;
    }
    for (i = 0; i < names; i++) {
        char id[40];
        const char *found;
        note_id(id, &last[i]);
        found = strstr(cursor, id);
        if (!found || found > strchr(cursor + 11, '"') ||
            (found[strlen(id)] != '"' && found[strlen(id)] != ','))
            COMPLAIN("last_id is not that of the last message of %s", last[i].channel);
    }
    return count;
}

/* Adopt the cursor that came; where nothing was known before, it tells. */
static void follow_cursor(follower *f, const char *body) {
    lp_slice text = lp_s(body), list, part;
    int i;
    list = f->basic ? member(text, "timestamp") : member(text, "last_id");
    CHECK(list.length && list.length < sizeof f->cursor);
    memcpy(f->cursor, list.bytes, list.length);
    f->cursor[list.length] = 0;
    f->more = strstr(body, "\"more\":true") != NULL;
    f->heard++;
    list = member(text, "last_id");
    for (i = 0; lpi_split(&list, ',', &part); i++) {
        place at;
        const char *from = part.bytes;
        CHECK(i < f->count);
        at.epoch = digits(&from, 16);
        CHECK(*from++ == '-');
        at.seq = digits(&from, 10);
        if (f->at[i].known && !strstr(body, "\"reset\":{"))
            CHECK(f->at[i].epoch == at.epoch && f->at[i].seq == at.seq);
        f->at[i].epoch = at.epoch;
        f->at[i].seq = at.seq;
        f->at[i].known = 1;
    }
    CHECK_INT(i, f->count);
}

static void judge_poll(const client *c, const want *a, const char *body) {
    follower *f = a->follower && a->follower->c == c ? a->follower : NULL; /* or he has left */
    int count = check_messages(body, f, a->audit);
    if (strcmp(text_of(lp_s(body), "count"), "") && atoi(text_of(lp_s(body), "count")) != count)
        COMPLAIN("count is %s, not %d", text_of(lp_s(body), "count"), count);
    if (strstr(body, "\"status\":\"timeout\"")) CHECK_INT(count, 0);
    if (strstr(body, "\"status\":\"message\"")) CHECK_INT(count, 1);
    if (strstr(body, "\"reset\":{")) CHECK(run.resets);
    if (f) follow_cursor(f, body);
}

/* The last of "message_ids". */
static const char *last_of_ids(lp_slice body) {
    static char id[40];
    const char *end = (const char *)memmem(body.bytes, body.length, "\"],\"timestamp\":", 15);
    const char *from = end;
    CHECK(end && has(body, "\"message_ids\":[\""));
    while (from[-1] != '"') from--;
    CHECK(end - from < 40);
    memcpy(id, from, (size_t)(end - from));
    id[end - from] = 0;
    return id;
}

static void judge(client *c, const answer *got) {
    const want *a;
    char quoted[200];
    if (c->told == c->asked) { /* turned away before it spoke */
        if (got->status != 503 || run.clean)
            COMPLAIN("%d came, and nothing was asked", got->status);
        CHECK(c->p->closed);
        return;
    }
    a = &c->wants[c->told++];
    if (got->status != a->status && (run.clean || (got->status != a->may && got->status != 503)))
        COMPLAIN("answer %d is %d, not %d: %s", c->told, got->status, a->status,
                 unit_quote(quoted, sizeof quoted, got->body.bytes, got->body.length));
    if (a->count)
        settle_array(a->n, a->count, got->status == 200 ? last_of_ids(got->body) : NULL);
    else if (a->n && got->status == 200)
        settle_send(a->n, S_ACKED, text_of(got->body, "message_id"));
    else if (a->n) settle_send(a->n, S_REFUSED, NULL);
    else if (got->status == 200 && !a->text && !strncmp(got->body.bytes, "{\"status\":\"", 11))
        judge_poll(c, a, got->body.bytes);
    if (a->text && got->status == a->status) CHECK_STR(got->body, a->text);
}

/* ---- hearing ---- */

/* The length of a whole answer that is there, or 0. */
static int answer_is_whole(client *c, int *status, int *bodiless) {
    lp_slice text = unheard(c->p), value;
    const char *end = (const char *)memmem(text.bytes, text.length, "\r\n\r\n", 4);
    size_t head = end ? (size_t)(end - text.bytes) + 4 : 0;
    uint64_t length = 0;
    int i;
    if (text.length && strncmp(text.bytes, "HTTP/1.1 ", text.length < 9 ? text.length : 9))
        COMPLAIN("what came is no answer");
    if (!end || head < 13) return 0;
    for (*status = 0, i = 9; i < 12; i++) *status = *status * 10 + text.bytes[i] - '0';
    *bodiless = c->told < c->asked && c->wants[c->told].bodiless &&
                !(*status == 503 && c->p->closed && text.length > head);
    value = heading_of(lpi_slice(text.bytes, head), "Content-Length");
    if (value.bytes) CHECK(!lpi_parse_uint(value, &length));
    return *bodiless || text.length - head >= length;
}

/* Take all that has come. */
static void hear(client *c) {
    int status, bodiless;
    while (answer_is_whole(c, &status, &bodiless)) {
        const answer *a;
        if (status == 100) {
            lp_slice text = unheard(c->p);
            const char *end = (const char *)memmem(text.bytes, text.length, "\r\n\r\n", 4);
            c->p->out_at += (size_t)(end - text.bytes) + 4;
            c->continues++;
            continue;
        }
        a = take_with(c->p, bodiless);
        judge(c, a);
    }
}

/* The cursor in the last answer that came, or 0. */
static const char *last_id_of(client *c) {
    const answer *a = w.answers;
    hear(c);
    a = w.answers;
    return a && a->status == 200 ? text_of(a->body, "last_id") : "0";
}

/* ---- followers ---- */

static follower *follows(const char *channels, int basic) {
    follower *f = &run.followers[run.follower_count++];
    lp_slice list = lp_s(channels), part;
    CHECK(run.follower_count <= FOLLOWERS);
    f->channels = channels;
    f->basic = basic;
    strcpy(f->cursor, "0");
    while (lpi_split(&list, ',', &part)) {
        CHECK(f->count < NAMES && part.length < sizeof f->at[0].channel);
        memcpy(f->at[f->count++].channel, part.bytes, part.length);
    }
    return f;
}

/* Take what came; ask again, if there is nothing outstanding. */
static void follow(follower *f) {
    if (f->c) hear(f->c);
    if (f->c && !f->c->p->closed && !f->c->p->rst && !f->c->p->fin && f->c->told < f->c->asked)
        return;
    if (!f->c || f->c->p->closed || f->c->p->rst || f->c->p->fin || f->c->asked == WANTS)
        f->c = come();
    asks(f->c, 200, "/api/poll/%s?%s=%s&timeout=20", f->channels,
         f->basic ? "since" : "last_id", f->cursor)->follower = f;
}

static void follow_all(void) {
    int i;
    for (i = 0; i < run.follower_count; i++) follow(&run.followers[i]);
    settle(&w);
}

/* ---- the end of a run ---- */

static lpi_connection *connection_of(const peer *p) {
    uint32_t index = 0;
    lpi_connection *c;
    for (; (c = lpi_loop_each(&w.s->loops[0], &index)); index++)
        if (c->fd == p->fd) return c;
    return NULL;
}

static int is_behind(uint32_t index) {
    const lpi_waiter *waiter = lpi_waiter_at(&w.s->hub, index);
    uint32_t channel = lpi_waiter_list_at(&w.s->hub, waiter->list)->channel;
    return lpi_waiter_is_behind(waiter, lpi_channel_at(&w.s->hub, channel));
}

/* Whether a poll of it is parked where nothing more has come. */
static int waits_rightly(const client *c) {
    lpi_connection *at = c->p->fd >= 0 ? connection_of(c->p) : NULL;
    uint32_t waiter;
    if (!at || at->phase != LPI_PARKED) return 0;
    for (waiter = at->wait.waiter; waiter != LPI_NONE; waiter = lpi_waiter_at(&w.s->hub, waiter)->sibling)
        if (is_behind(waiter)) COMPLAIN("a wake-up was lost");
    return 1;
}

/* Everybody has an answer, or his connection has ended, or his poll is parked. */
static void judge_all(void) {
    int i;
    for (i = 0; i < run.client_count; i++) {
        client *c = &clients[i];
        const want *a = &c->wants[c->told];
        hear(c);
        a = &c->wants[c->told];
        if (c->told == c->asked || a->follower) continue;
        if (a->lost && run.clean) continue;
        if (!run.clean && (c->p->closed || c->p->shut || c->p->rst)) continue;
        if (!run.clean && waits_rightly(c)) continue;
        COMPLAIN("client %d has no answer to request %d (%d), and is %s", i + 1, c->told + 1,
                 a->status, c->p->closed ? "closed" : "open");
    }
}

static void catch_up(void) {
    int i, rounds = 6;
    if (!run.follower_count) return;
    while (rounds--) follow_all();
    for (i = 0; i < run.follower_count; i++) {
        const follower *f = &run.followers[i];
        hear(f->c);
        if (!waits_rightly(f->c)) COMPLAIN("a follower cannot catch up");
    }
}

/* All that a channel holds. Returns where it ends, or NULL if it cannot be there: the
   channel table is full. */
static const char *read_all(const char *channel, int have) {
    client *c = come();
    char cursor[60] = "0";
    for (;;) {
        want *a = asks(c, 200, "%s/poll/%s?timeout=0&limit=1000&last_id=%s", api(), channel,
                       cursor);
        a->audit = 1;
        a->may = have ? 0 : 503;
        settle(&w);
        run.clean = have;
        hear(c);
        run.clean = 1;
        CHECK_INT(c->told, c->asked);
        if (w.answers->status != 200) break;
        if (!has(w.answers->body, "\"more\":true")) break;
        strcpy(cursor, text_of(w.answers->body, "last_id"));
    }
    finish(c->p);
    settle(&w);
    return w.answers->status == 200 ? text_of(w.answers->body, "last_id") : NULL;
}

/* Each acknowledged message is held, once; a follower has had the last. */
static void audit_channel(const char *channel, int have) {
    const char *last = read_all(channel, have);
    int i, k;
    for (i = 0; last && i < run.follower_count; i++)
        for (k = 0; k < run.followers[i].count; k++) {
            const place *at = &run.followers[i].at[k];
            char id[40];
            if (strcmp(at->channel, channel)) continue;
            *lpi_put_id(id, at->epoch, at->seq) = 0;
            if (at->known && strcmp(id, last))
                COMPLAIN("a follower of %s is at %s, and the last is %s", channel, id, last);
        }
}

static void audit(void) {
    int n, m;
    for (n = 1; n <= run.send_count; n++) {
        int have = 0;
        for (m = 1; m < n && strcmp(run.sends[m].channel, run.sends[n].channel);) m++;
        if (m < n) continue;
        for (; m <= run.send_count; m++)
            have |= run.sends[m].state == S_ACKED &&
                    !strcmp(run.sends[m].channel, run.sends[n].channel);
        audit_channel(run.sends[n].channel, have && !run.lossy);
    }
    for (n = 1; n <= run.send_count; n++) {
        const send_record *s = &run.sends[n];
        if (s->audited > 1) COMPLAIN("message %d is held %d times", n, s->audited);
        if (s->state == S_ACKED && !s->audited && !run.lossy)
            COMPLAIN("message %d was acknowledged and is not held", n);
    }
}

static const char *a_channel_that_is_there(void) {
    int n;
    for (n = 1; n <= run.send_count; n++)
        if (run.sends[n].state == S_ACKED) return run.sends[n].channel;
    return "fresh";
}

/* A new client polls, another publishes, and both are answered exactly. */
static void check_serves(void) {
    const char *channel = run.full ? a_channel_that_is_there() : "fresh";
    client *c = come(), *p = come();
    int before = (int)stats_of(&w).waiters;
    want *a = asks(c, 200, "%s/poll/%s?last_id=now&timeout=5", api(), channel);
    settle(&w);
    CHECK_INT(stats_of(&w).waiters, before + 1);
    CHECK_SILENT(c->p);
    publishes(p, 200, channel, 10);
    settle(&w);
    hear(c);
    CHECK_INT(c->told, 1);
    CHECK(a == c->wants);
    CHECK(has(w.answers->body, "\"count\":1"));
    hear(p);
    CHECK_INT(p->told, 1);
    CHECK(has(w.answers->body, "\"waiters\":1}") || run.follower_count);
}

static void everybody_leaves(void) {
    peer *p;
    for (p = w.peers; p; p = p->next) {
        widen(p, SIZE_MAX);
        finish(p);
    }
    settle(&w);
    pass(&w, 2600); /* those who linger, and a listener that rests */
    CHECK_INT(stats_of(&w).connections, 0);
    CHECK_INT(stats_of(&w).waiters, 0);
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    CHECK_INT(w.s->hub.partial_bytes, 0);
    CHECK_INT(w.s->hub.waiters.used, 0);
    CHECK_INT(w.s->hub.counters.used, 0);
}

#endif /* WITNESS_H */
