/* clients.h: the clients, of every temper. All that a client does it does in happenings of
   the kernel's heap: when its time comes, when something arrives, when it is cut off. */

#ifndef CLIENTS_H
#define CLIENTS_H

typedef enum temper {
    T_CORRECT, T_MULTI, T_BASIC, T_SLOW, T_DRIP, T_HALF, T_RESET, T_PIPE, T_LIAR, T_GARBAGE,
    T_PUBLISHER, T_OLD, T_STREAM, T_ADMIN, T_KINDS
} temper;

static const char *const temper_names[T_KINDS] = {
    "correct", "several channels", "basic dialect", "slow reader", "slow sender",
    "half-closing", "resetting", "pipelining", "lying", "garbage", "publishing", "HTTP/1.0",
    "streaming", "administering"};

static uint64_t temper_requests[T_KINDS], temper_replies[T_KINDS];
static uint64_t status_counts[600], reason_counts[4];

enum { CLIENTS = 900 };

typedef enum reply { PLAN_NONE, PLAN_RESET, PLAN_FINISH, PLAN_READ } reply;

typedef struct client {
    uint8_t temper, count, reply, named, reads;
    uint8_t shared; /* its connection is a proxy's, and carries other clients' requests too */
    uint16_t channels[PLACES];
    struct { uint8_t kind; uint64_t epoch, seq; } cursor[PLACES];
    conn *conn;
    uint32_t generation, name, address, window;
    uint32_t cut; /* reset when so much of the answers has come; 0: not */
} client;

static client clients[CLIENTS];
static uint32_t client_count, think_us, wait_most_ms, publish_us, burst;
static uint64_t tides; /* of all worlds */
static uint32_t tide_us; /* all come, and after that time all go for as long; 0: each when it likes */
static uint64_t handovers;
static int same_temper; /* all of one: its number, or T_KINDS */
static uint32_t addresses; /* that clients have, at most A_LAST */

static void client_at(client *k, uint32_t us, reply what)
{
    k->reply = (uint8_t)what;
    k->generation++;
    happen(K.now_ns + (uint64_t)us * 1000, H_CLIENT, (uint32_t)(k - clients), k->generation, 0);
}

/* The tide: until it turns; and whether it is low. */
static uint32_t tide_left_us(void) { return tide_us - (uint32_t)(K.now_ns / 1000 % tide_us); }

static int tide_is_low(void) { return tide_us && K.now_ns / 1000 / tide_us % 2; }

static void client_thinks(client *k)
{
    client_at(k, tide_is_low() ? tide_left_us() + below(2000) : below(think_us) + 1, PLAN_NONE);
}

static void client_leaves(client *k, int reset)
{
    if (k->conn) conn_drop(k->conn, reset);
    k->conn = NULL;
    k->cut = 0;
    k->reads = 0;
    client_thinks(k);
}

/* Who its requests are of, from now on. */
static void client_speaks(client *k)
{
    k->conn->name = k->named ? 1 + k->name : 0;
    k->conn->speaks = (uint8_t)k->address;
    k->conn->spoken |= 1u << k->address;
}

/* Nothing is under way: the next request may be another client's. */
static void client_changes(client *k)
{
    if (!k->shared || one_in(2)) return;
    k->named = (uint8_t)!one_in(4);
    k->name = below(one_in(2) ? 6 : 10000);
    if (proxies) k->address = one_in(8) ? (uint32_t)A_PROXY : between(1, addresses);
    client_speaks(k);
}

/* ---- tokens ---- */

typedef enum shown { /* one that is */
    SHOWN_GOOD, SHOWN_SHORT, SHOWN_ENDED, SHOWN_NARROW, SHOWN_FORGED, SHOWN_NONE, SHOWN_KINDS
} shown;

static const char *const shown_names[SHOWN_KINDS] = {
    "good for long", "soon to end", "over", "for something else", "forged", "not there"};

static uint64_t shown_counts[SHOWN_KINDS];
static char token_text[TOKEN_ROOM]; /* of the request that is being said; empty: none */
static int token_in_query;

/* The payload of a token that is good for these channels; but for SHOWN_NARROW one of them, or
   the action, is another. */
static const char *token_payload(shown kind, const char *action, const uint16_t *channels,
                                 uint32_t count, uint64_t ends_us)
{
    static char text[3000];
    uint32_t i, other = kind == SHOWN_NARROW ? below(count + 1) : UINT32_MAX;
    char *to = text + sprintf(text, "{\"sub\":\"%u\",\"exp\":%" PRIu64 ".%06u,\"channels\":[",
                              below(1000), ends_us / 1000000, (unsigned)(ends_us % 1000000));
    for (i = 0; i < count; i++) {
        const char *name = names[channels[i]].quoted;
        uint32_t how = kind == SHOWN_NARROW ? 3 : below(6);
        to += sprintf(to, "%s\"%s%s%s\"", i ? "," : "", how == 0 || how == 1 ? "*" : "",
                      how == 0 ? "" : name, how == 2 ? "*" : i == other ? "x*" : "");
    }
    if (other == count) action = !strcmp(action, "poll") ? "publish" : "poll";
    sprintf(to, "],\"actions\":[\"%s\"]}", action);
    return text;
}

/* Show a token of that kind: what the request gets follows from that. The wall clock does not
   jump in such a world. */
static void show_token(request *r, shown kind, const char *action, const uint16_t *channels,
                       uint32_t count)
{
    uint64_t now_us = K.wall_us + K.now_ns / 1000, ends_us = now_us + UINT64_C(3600000000);
    uint32_t length, forged = 0; /* 1: another secret, 2: another header, 3: a character */
    char *at;
    if (!tokens) return;
    if (kind == SHOWN_FORGED) forged = between(1, 3);
    if (kind == SHOWN_SHORT) ends_us = now_us + below(2000 * (r->wait_ms + 1) + 50000);
    if (kind == SHOWN_ENDED) ends_us = now_us - below(2000000);
    token_in_query = one_in(3);
    token_sign(token_text, forged == 1 ? token_secret + 1 : token_secret,
               forged == 2 ? "{\"alg\":\"none\"}" : token_header,
               token_payload(kind, action, channels, count, ends_us));
    if (forged == 3) {
        length = (uint32_t)strlen(token_text);
        at = token_text + (one_in(2) ? length - 1 - below(43) : below(length));
        *at = *at == 'A' ? 'B' : 'A';
    }
    if (kind == SHOWN_NONE) *token_text = 0;
    if (kind == SHOWN_SHORT) r->ends_ns = (ends_us - K.wall_us) * 1000;
    else if (kind == SHOWN_NARROW) r->expect = 403;
    else if (kind != SHOWN_GOOD) r->expect = 401;
    shown_counts[kind]++;
}

static shown any_token(void)
{
    return !tokens || one_in(2) ? SHOWN_GOOD : (shown)below(SHOWN_KINDS);
}

/* ---- what is said ---- */

static char said[STREAM];
static size_t said_length;

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
static void put(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    said_length += (size_t)vsprintf(said + said_length, format, args);
    va_end(args);
}

static request *ask_begin(conn *c, request_kind kind)
{
    request *r = &c->requests[c->asked % REQUESTS];
    memset(r, 0, sizeof *r);
    r->kind = (uint8_t)kind;
    r->name = c->name;
    said_length = 0;
    *token_text = 0;
    if (c->blank != c->sent && one_in(24)) put("\r\n"); /* one is passed over */
    return r;
}

/* Send what was put. 0 or -1: there is no room, and nothing was said. */
static int ask_end(client *k)
{
    conn *c = k->conn;
    request *r = &c->requests[c->asked % REQUESTS];
    uint32_t gap = k->temper == T_DRIP ? 1u << between(4, 20) : 0;
    if (conn_say(c, said, said_length, gap)) return -1;
    r->end = c->sent;
    c->asked++;
    if (one_in(24) && !conn_say(c, "\r\n", 2, gap)) c->blank = c->sent;
    temper_requests[k->temper]++;
    trace("client %d: request %u, kind %u, %zu bytes, connection %u", (int)(k - clients),
          c->asked - 1, r->kind, said_length, conn_index(c));
    return 0;
}

static void put_fields(const client *k)
{
    put("Host: localhost\r\n");
    if (k->named) put("X-Client-ID: c%u\r\n", k->name);
    if (*token_text && !token_in_query) put("Authorization: Bearer %s\r\n", token_text);
    if (k->conn->address.bytes[15] != k->address)
        put("X-Forwarded-For: %s127.0.0.%u\r\n", one_in(4) ? "10.1.2.3, " : "", k->address);
    else if (one_in(16) && k->address != A_PROXY) /* nobody believes that */
        put("X-Forwarded-For: 127.0.0.%u\r\n", between(1, A_LAST));
}

static void put_token(void) /* behind other parameters */
{
    if (*token_text && token_in_query) put("&access_token=%s", token_text);
}

static void put_cursor(const place *p)
{
    if (p->kind == LPI_FROM_START) put("%s", "0");
    else if (p->kind == LPI_FROM_NOW) put("now");
    else put("%016" PRIx64 "-%" PRIu64, p->epoch, p->seq);
}

static void put_poll(const client *k, const request *r, const char *version)
{
    uint32_t i;
    put("%s /api/poll/", r->bodiless ? "HEAD" : "GET");
    for (i = 0; i < r->count; i++)
        put("%s%s", i ? "," : "", names[r->at[i].channel].raw);
    if (r->basic) {
        put("?since=%" PRIu64 ".%06u", r->at[0].seq / 1000000, (unsigned)(r->at[0].seq % 1000000));
    } else {
        put("?last_id=");
        for (i = 0; i < r->count; i++) {
            if (i) put(",");
            put_cursor(&r->at[i]);
        }
    }
    put("&timeout=%u.%03u", r->wait_ms / 1000, r->wait_ms % 1000);
    if (!r->basic) put("&limit=%u", r->limit);
    put_token();
    put(" HTTP/%s\r\n", version);
    put_fields(k);
}

static void fill_poll(const client *k, request *r, uint32_t wait_ms)
{
    uint32_t i;
    r->count = k->count;
    r->basic = k->temper == T_BASIC;
    r->limit = (uint16_t)(r->basic ? 1 : one_in(3) ? between(1, S->config.reply_messages_max)
                                                   : S->config.reply_messages);
    r->wait_ms = wait_ms;
    for (i = 0; i < k->count; i++) {
        r->at[i].channel = k->channels[i];
        r->at[i].kind = k->cursor[i].kind;
        r->at[i].epoch = k->cursor[i].epoch;
        r->at[i].seq = k->cursor[i].seq;
        if ((k->channels[i] == DENIED && hooks) || (k->channels[i] == REFUSED && policies))
            r->expect = 403;
    }
    show_token(r, any_token(), "poll", k->channels, k->count);
}

static void settle_wait(request *r)
{
    if (r->wait_ms > S->config.timeout_ms_max) r->wait_ms = S->config.timeout_ms_max;
    if (r->bodiless) r->wait_ms = 0;
}

static void put_chunked(const char *body, size_t length)
{
    size_t at = 0;
    while (at < length) {
        size_t n = between(1, (uint32_t)(length - at));
        put("%zx%s\r\n", n, one_in(4) ? ";x=\"y\"" : "");
        memcpy(said + said_length, body + at, n);
        said_length += n;
        put("\r\n");
        at += n;
    }
    put("0\r\n%s\r\n", one_in(4) ? "X-Sum: 1\r\n" : "");
}

/* The end of a poll's head, now and then with a body, for which it has no use. */
static void put_useless_body(int may_chunk)
{
    static const char text[] = "GET /echo/7 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char body[3000];
    uint32_t length = between(1, sizeof body), i;
    if (!one_in(8)) {
        put("\r\n");
        return;
    }
    if (length > S->config.message_bytes_max) length = S->config.message_bytes_max;
    for (i = 0; i < length; i++) body[i] = text[i % (sizeof text - 1)];
    if (may_chunk && one_in(3)) {
        put("Transfer-Encoding: chunked\r\n\r\n");
        put_chunked(body, length);
        return;
    }
    put("Content-Length: %u\r\n\r\n", length);
    memcpy(said + said_length, body, length);
    said_length += length;
}

static int ask_poll(client *k, uint32_t wait_ms)
{
    request *r = ask_begin(k->conn, R_POLL);
    const char *version = "1.1";
    fill_poll(k, r, wait_ms);
    if (k->temper == T_PIPE && one_in(8)) r->bodiless = 1;
    if (k->temper == T_OLD) {
        version = "1.0";
        r->asks_close = (uint8_t)one_in(2);
    } else {
        r->asks_close = (uint8_t)one_in(40);
    }
    put_poll(k, r, version);
    if (k->temper == T_OLD && !r->asks_close) put("Connection: keep-alive\r\n");
    else if (r->asks_close && k->temper != T_OLD) put("Connection: close\r\n");
    put_useless_body(k->temper != T_OLD);
    settle_wait(r);
    return ask_end(k);
}

/* On a connection of its own. What is heard is verified apart from other replies. */
static int ask_stream(client *k)
{
    conn *c = k->conn;
    request *r = ask_begin(c, R_STREAM);
    uint32_t i;
    int header = one_in(2);
    fill_poll(k, r, 0);
    put("GET /api/stream/");
    for (i = 0; i < r->count; i++) put("%s%s", i ? "," : "", names[r->at[i].channel].raw);
    put("?last_id=");
    for (i = 0; !header && i < r->count; i++) {
        if (i) put(",");
        put_cursor(&r->at[i]);
    }
    put("&limit=%u", r->limit);
    put_token();
    put(" HTTP/1.%u\r\n", one_in(8) ? 0 : 1);
    put_fields(k);
    if (header) put("Last-Event-ID: ");
    for (i = 0; header && i < r->count; i++) {
        if (i) put(",");
        put_cursor(&r->at[i]);
    }
    put(header ? "\r\n\r\n" : "\r\n");
    for (i = 0; i < r->count; i++) {
        place *p = &r->at[i];
        p->got_count = p->kind == LPI_FROM_CURSOR;
        p->got_epoch = p->epoch;
        p->got_seq = p->seq;
    }
    c->wild = c->streams = 1;
    c->event_at = c->event_count = 0;
    if (one_in(8)) put("GET /echo/7 HTTP/1.1\r\nHost: localhost\r\n\r\n"); /* never answered */
    if (ask_end(k)) return -1;
    client_at(k, one_in(2) ? below(wait_most_ms * 2000 + 1) : below(3 * think_us), PLAN_RESET);
    return 0;
}

/* The client has read some events: it would go on after the last. */
static void client_reads_events(client *k, conn *c)
{
    uint32_t i;
    for (; c->event_count; c->event_count--, c->event_at++) {
        const stream_event *e = &c->events[c->event_at % EVENTS];
        if ((int32_t)(e->end - c->out_read) > 0) return;
        for (i = 0; i < k->count; i++) {
            k->cursor[i].kind = LPI_FROM_CURSOR;
            k->cursor[i].epoch = e->at[i].epoch;
            k->cursor[i].seq = e->at[i].seq;
        }
        temper_replies[T_STREAM]++;
    }
}

/* A cursor that was never given, or is older than the last, or is none. */
static int ask_lie(client *k)
{
    request *r = ask_begin(k->conn, R_POLL);
    place *p = &r->at[0];
    fill_poll(k, r, below(wait_most_ms));
    r->basic = 0;
    if (p->kind == LPI_FROM_START) p->epoch = draw(), p->seq = below(20);
    if (p->kind == LPI_FROM_TIME || p->kind == LPI_FROM_NOW) p->epoch = 1, p->seq = 2;
    p->kind = LPI_FROM_CURSOR;
    switch (below(11)) {
    case 0: p->epoch = draw(); break;
    case 1: p->seq += between(1, 3); break;
    case 2: p->seq -= p->seq ? 1 + draw() % p->seq : 0; break;
    case 3: p->seq = 0; break;
    case 4: p->seq = UINT64_MAX; break;
    case 5:
        r->basic = 1;
        r->limit = 1;
        p->kind = LPI_FROM_TIME;
        p->seq = K.wall_us + K.now_ns / 1000;
        p->seq += one_in(2) ? below(100000000) : 0u - (uint64_t)below(100000000);
        break;
    case 6:
        r->kind = R_OTHER;
        r->expect = 400;
        put("GET /api/poll/a?last_id=%s HTTP/1.1\r\n",
            below(2) ? "0123456789abcdef-01" : "0123456789ABCDEF-1");
        put_fields(k);
        break;
    case 7:
        r->kind = R_OTHER;
        r->expect = 400;
        put("GET /api/poll/a,b,%%61 HTTP/1.1\r\n");
        put_fields(k);
        break;
    case 8:
        r->kind = R_OTHER;
        r->expect = one_in(2) ? 404 : 405;
        put("GET /api/%s HTTP/1.1\r\n", r->expect == 404 ? "poll/" : "publish/a");
        put_fields(k);
        break;
    default:
        p->kind = LPI_FROM_START;
        break;
    }
    if (p->kind == LPI_FROM_START && r->kind == R_POLL) p->epoch = p->seq = 0;
    if (r->kind == R_POLL) put_poll(k, r, "1.1");
    if (r->kind == R_OTHER) r->wait_ms = 0;
    put("\r\n");
    settle_wait(r);
    return ask_end(k);
}

static int ask_echo(client *k)
{
    request *r = ask_begin(k->conn, R_ECHO);
    r->payload = below(1000000);
    put("GET /echo/%u HTTP/1.1\r\n", r->payload);
    put_fields(k);
    put("\r\n");
    return ask_end(k);
}

/* One element of the array is not JSON: the first, the last or any other. */
static void json_spoil(char *json, size_t length)
{
    char *at = json, *next;
    while ((next = (char *)memmem(at + 1, length - (size_t)(at + 1 - json), "\"n\":", 4)) &&
           (at == json || !one_in(3)))
        at = next;
    *at = '?';
}

static int ask_publish(client *k)
{
    static char json[70000];
    conn *c = k->conn;
    request *r;
    int to = (int)below(world_channels), wrong = (int)below(32), refused = 0;
    uint32_t n;
    size_t length;
    uint16_t asked;
    shown kind = any_token();
    if (model_full()) return ask_echo(k);
    r = ask_begin(c, R_PUBLISH);
    n = r->payload = payloads_choose(to);
    length = payloads_json(n, json);
    if (length > STREAM / 3) length = STREAM; /* no room */
    asked = (uint16_t)to;
    show_token(r, kind == SHOWN_SHORT ? SHOWN_GOOD : kind, "publish", &asked, 1);
    put("POST /api/publish/%s%s", names[to].raw,
        M.payload[n].transient ? "?transient=1" : *token_text && token_in_query ? "?x" : "");
    put_token();
    put(" HTTP/1.1\r\n");
    put_fields(k);
    put("Content-Type: %s\r\n", wrong == 1 ? "text/plain" : "application/json; charset=utf-8");
    if (one_in(8)) put("Expect: 100-continue\r\n");
    if (to == DENIED && hooks && !r->expect) r->expect = 403;
    if (wrong == 1 && !r->expect) r->expect = 415;
    if (wrong == 2 && !r->expect) {
        r->expect = 413;
        length = STREAM / 4;
        memset(json, ' ', length);
        put("Content-Length: %u\r\n\r\n", S->config.message_bytes_max + 1);
        if (length > S->config.message_bytes_max + 1) length = S->config.message_bytes_max + 1;
        memcpy(said + said_length, json, length);
        said_length += length;
    } else {
        if (wrong == 3 && !r->expect && length < STREAM) {
            r->expect = 400;
            if (!M.payload[n].is_array) json[length - 1] = ']';
            else json_spoil(json, length);
        } else if (!r->expect && M.payload[n].count > S->config.history_count) {
            r->expect = 413;
        } else if (!r->expect && to == REFUSED && policies) {
            r->expect = 403;
            refused = 1;
        } else if (!r->expect && M.payload[n].count > policy_of(to).history_count) {
            r->expect = 413;
        }
        if (one_in(3)) {
            put("Transfer-Encoding: chunked\r\n\r\n");
            if (length > 3000) length = STREAM;
            else put_chunked(json, length);
        } else {
            put("Content-Length: %zu\r\n\r\n", length);
            if (length < STREAM) {
                memcpy(said + said_length, json, length);
                said_length += length;
            }
        }
    }
    if (r->expect) r->kind = R_OTHER, payloads_set(n, P_REFUSED);
    r->early = r->expect && r->expect != 400 && !(r->expect == 413 && wrong != 2) && !refused;
    if (length == STREAM || said_length > STREAM) {
        payloads_set(n, P_REFUSED);
        return -1;
    }
    if (!ask_end(k)) return 0;
    payloads_set(n, P_REFUSED);
    return -1;
}

static int deletions; /* channels are deleted in this world */

/* What an administrator asks. */
static int ask_admin(client *k)
{
    conn *c = k->conn;
    request *r;
    uint32_t what = below(8), i = below(world_channels);
    uint32_t back = M.count > 40 ? 40 : M.count;
    if (!M.count && what >= 5) what = 0;
    r = ask_begin(c, what < 2 ? R_CHANNEL : what < 4 ? R_LIST : what < 5 ? R_DELETE : R_RECEIPTS);
    if (r->kind == R_DELETE && !deletions) r->kind = R_CHANNEL;
    if (r->kind == R_RECEIPTS) {
        r->payload = M.count - 1 - below(back);
        i = M.payload[M.messages[r->payload].payload].channel;
        if (!S->config.track_receipts) r->expect = 404;
    }
    r->at[0].channel = (uint16_t)i;
    put("%s /api/%s", r->kind == R_DELETE ? "DELETE" : "GET",
        r->kind == R_RECEIPTS ? "receipts" : "channels");
    if (r->kind != R_LIST) put("/%s", names[i].raw);
    if (r->kind == R_RECEIPTS)
        put("/%016" PRIx64 "-%" PRIu64, M.messages[r->payload].epoch, M.messages[r->payload].seq);
    if (r->kind == R_LIST || r->kind == R_RECEIPTS) put("?limit=1000");
    put(" HTTP/1.1\r\n");
    put_fields(k);
    if (one_in(16)) {
        if (r->expect != 404) r->expect = 401, r->early = 1;
        r->kind = R_OTHER;
        if (one_in(2)) put("Authorization: Bearer secrets\r\n");
    } else {
        put("Authorization: Bearer secret\r\n");
    }
    if (r->expect == 404) r->kind = R_OTHER;
    put("\r\n");
    return ask_end(k);
}

/* What no client should send. Nothing of it publishes, or names another channel. */
static void ask_garbage(client *k)
{
    conn *c = k->conn;
    size_t i, from, n;
    request *r = ask_begin(c, R_POLL);
    c->wild = 1;
    fill_poll(k, r, below(100));
    put_poll(k, r, "1.1");
    put("\r\n");
    from = (size_t)(strchr(said, '?') - said) + 1;
    switch (below(4)) {
    case 0:
        n = between(1, 200);
        for (i = 0; i < n; i++) said[i] = (char)draw();
        said_length = n;
        break;
    case 1:
        n = between(1, 3);
        while (n--) said[from + below((uint32_t)(said_length - from))] = (char)draw();
        break;
    case 2:
        said_length = from;
        if (one_in(2)) put(" HTTP/1.1\r\nX: ");
        while (said_length < S->config.head_bytes_max + 100 && said_length < STREAM - 100)
            put("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        break;
    default:
        said[below(4)] = (char)draw();
        break;
    }
    conn_say(c, said, said_length, 0);
    temper_requests[T_GARBAGE]++;
    if (one_in(3)) conn_finish(c);
    client_at(k, between(1, 3000000), PLAN_RESET);
}

/* What begins like a TLS hello begins no request: that is said at its first byte. */
static void ask_hello(client *k)
{
    conn *c = k->conn;
    request *r = ask_begin(c, R_OTHER);
    size_t i, n = between(1, 300);
    uint32_t begin = c->sent;
    memcpy(said, "\x16\x03\x01\x02", 4);
    for (i = 4; i < n; i++) said[i] = (char)draw();
    if (conn_say(c, said, n, 0)) return;
    r->expect = 400;
    r->end = begin + 1;
    c->asked++;
    temper_requests[k->temper]++;
    client_at(k, between(1, 3000000), PLAN_RESET);
}

/* A request that ends somewhere in the middle. */
static void ask_part(client *k, int reset)
{
    conn *c = k->conn;
    request *r = ask_begin(c, R_POLL);
    uint32_t n = UINT32_MAX;
    const uint16_t first = 0;
    if (one_in(3) && !model_full()) {
        n = payload_new(0);
        M.payload[n].state = P_REFUSED;
        show_token(r, SHOWN_GOOD, "publish", &first, 1);
        put("POST /api/publish/a%s", *token_text && token_in_query ? "?x" : "");
        put_token();
        put(" HTTP/1.1\r\n");
        put_fields(k);
        put("Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"n\":%07u}      ", n);
    } else {
        fill_poll(k, r, below(wait_most_ms));
        put_poll(k, r, "1.1");
        put("\r\n");
    }
    said_length = between(1, (uint32_t)said_length - 1);
    conn_say(c, said, said_length, 0);
    temper_requests[k->temper]++;
    trace("client %d: %zu bytes of a request", (int)(k - clients), said_length);
    if (!reset) conn_finish(c);
    client_at(k, between(1, 2 * think_us), reset ? PLAN_RESET : PLAN_NONE);
}

/* Many at once, often in one piece. Behind one that ends the connection comes nothing. */
static int ask_many(client *k)
{
    conn *c = k->conn;
    uint32_t n = between(1, 48), first = c->asked, piece = K.piece;
    int bad = 0;
    if (one_in(2)) K.piece = 0, K.joined = 1;
    while (n-- && !bad && c->asked - c->done < REQUESTS - 1) {
        const request *r = &c->requests[c->asked % REQUESTS];
        uint32_t what = below(8), asked = c->asked;
        if (what < 4) bad = one_in(8) ? ask_admin(k) : ask_echo(k);
        else if (what < 6) bad = ask_publish(k);
        else bad = ask_poll(k, below(100));
        if (asked != c->asked && (r->early || r->asks_close)) break;
    }
    if (c->blank != c->sent && one_in(4) && !conn_say(c, "\r\n", 2, 0)) c->blank = c->sent;
    K.piece = piece;
    K.joined = 0;
    if (c->asked == first) return -1;
    if (one_in(10)) client_at(k, below(300), PLAN_RESET);
    return 0;
}

static void client_asks(client *k)
{
    uint32_t wait = one_in(8) ? 0 : below(wait_most_ms);
    int bad = 0;
    conn *c = k->conn;
    if (c->fin_said) return; /* nothing more will be said */
    if (world_channels > PLAIN && k->temper == T_CORRECT && !one_in(4))
        k->cursor[0].kind = LPI_FROM_NOW; /* it does not care for what it missed */
    if (tide_us && one_in(2)) wait = tide_left_us() / 1000 + between(0, 2);
    if (k->temper == T_RESET && one_in(3)) {
        ask_part(k, 1);
        return;
    }
    if (k->temper == T_HALF && one_in(4)) {
        ask_part(k, 0);
        return;
    }
    switch ((temper)k->temper) {
    case T_PUBLISHER: bad = ask_publish(k); break;
    case T_ADMIN: bad = one_in(3) ? ask_poll(k, wait) : ask_admin(k); break;
    case T_GARBAGE:
        if (one_in(4)) ask_hello(k);
        else ask_garbage(k);
        return;
    case T_LIAR: bad = one_in(3) ? ask_poll(k, wait) : ask_lie(k); break;
    case T_DRIP: bad = one_in(2) ? ask_publish(k) : ask_poll(k, wait); break;
    case T_HALF:
        bad = one_in(3) ? ask_publish(k) : one_in(2) ? ask_echo(k) : ask_poll(k, wait);
        break;
    case T_PIPE: bad = ask_many(k); break;
    case T_STREAM:
        if (ask_stream(k)) client_leaves(k, 1);
        return;
    default: bad = tide_us && one_in(16) ? ask_echo(k) : ask_poll(k, wait); break;
    }
    if (bad) {
        client_at(k, between(5000, 50000), PLAN_NONE);
        return;
    }
    if (k->temper == T_HALF && one_in(2)) conn_finish(c);
    if (k->temper == T_RESET && one_in(2)) client_at(k, below(3 * think_us), PLAN_RESET);
    else if (k->temper == T_RESET) k->cut = c->out_read + between(1, 600);
    else if (one_in(100)) client_at(k, below(wait_most_ms) * 1000, PLAN_RESET); /* goes away */
    else if (tide_us) client_at(k, tide_left_us() + 5000 + below(2000), PLAN_NONE);
}

/* ---- what is heard ---- */

static void client_poll_answered(client *k, const request *r)
{
    uint32_t i;
    for (i = 0; i < r->count; i++) {
        reason_counts[r->at[i].reason]++;
        if (r->basic) {
            k->cursor[i].kind = LPI_FROM_TIME;
            k->cursor[i].seq = r->timestamp_us;
            continue;
        }
        k->cursor[i].kind = LPI_FROM_CURSOR;
        k->cursor[i].epoch = r->at[i].got_epoch;
        k->cursor[i].seq = r->at[i].got_seq;
    }
}

static void client_answered(client *k, const request *r)
{
    status_counts[r->status < 600 ? r->status : 0]++;
    temper_replies[k->temper]++;
    if (r->kind == R_POLL && r->status == 200 && !r->bodiless && !k->conn->wild &&
        (k->temper != T_BASIC) == !r->basic)
        client_poll_answered(k, r);
}

static void client_reads(conn *c, uint32_t upto)
{
    client *k = &clients[c->client];
    int closes = 0;
    c->window += upto - c->out_read;
    c->out_read = upto;
    kernel_refresh_stream(&OS, c);
    if (c->streams) {
        client_reads_events(k, c);
        return;
    }
    if (k->cut && upto >= k->cut) {
        client_leaves(k, 1);
        return;
    }
    while (c->done != c->replied &&
           (int32_t)(c->requests[c->done % REQUESTS].reply_end - c->out_read) <= 0) {
        const request *r = &c->requests[c->done++ % REQUESTS];
        client_answered(k, r);
        if (r->closes) closes = 1;
    }
    if (closes) client_leaves(k, 0);
    else if (c->done == c->asked && !c->fin_said && !c->wild && k->reply != PLAN_RESET) client_thinks(k);
}

static void client_hears(conn *c)
{
    client *k = &clients[c->client];
    if (k->temper != T_SLOW) {
        client_reads(c, c->out_arrived);
    } else if (!k->reads) {
        k->reads = 1;
        if (one_in(60)) return; /* it reads no more */
        client_at(k, 1u << between(3, one_in(30) ? 22 : 14), PLAN_READ);
    }
}

static void client_lost(conn *c, int reset)
{
    client *k = &clients[c->client];
    if (!reset) client_reads(c, c->out_arrived);
    if (c->client < 0) return; /* it let go itself */
    client_leaves(k, reset);
}

static void client_happens(int index, uint32_t generation)
{
    client *k = &clients[index];
    reply what = (reply)k->reply;
    if (generation != k->generation) return;
    k->reply = PLAN_NONE;
    if (tide_is_low()) { /* who has been answered may stay, and ask again when it rises */
        if (k->conn && (what != PLAN_NONE || k->conn->done != k->conn->asked || one_in(4)))
            client_leaves(k, one_in(2));
        else client_thinks(k);
        return;
    }
    if (!k->conn) {
        k->conn = conn_open(index, proxies && k->shared ? (uint32_t)A_PROXY : k->address,
                            k->window);
        if (!k->conn) {
            client_at(k, between(5000, 50000), PLAN_NONE);
            return;
        }
        client_speaks(k);
        client_asks(k);
        return;
    }
    if (what == PLAN_RESET) {
        client_leaves(k, one_in(2));
    } else if (what == PLAN_READ) {
        uint32_t n = k->conn->out_arrived - k->conn->out_read;
        k->reads = 0;
        if (n > 400) n = between(1, 400);
        client_reads(k->conn, k->conn->out_read + n);
        if (k->conn && k->conn->out_arrived != k->conn->out_read) client_hears(k->conn);
    } else if (k->conn->streams) {
        client_leaves(k, one_in(2)); /* the tide rises, and it comes anew */
    } else if (k->conn->done == k->conn->asked) {
        client_changes(k);
        client_asks(k);
    } else if (k->conn->fin_said && one_in(2)) {
        client_leaves(k, one_in(2));
    }
}

/* ---- what other threads do ---- */

static void publish_somewhere(void) { publish_direct((int)below(world_channels)); }

static void publish_happens(void)
{
    uint32_t n = one_in(8) ? between(1, burst) : 1;
    int one = (int)below(world_channels);
    if (S->hub.stopped) return;
    while (n--) publish_direct(one_in(4) ? (int)below(world_channels) : one);
    happen(K.now_ns + (uint64_t)below(publish_us) * 1000, H_JOB, J_PUBLISH, 0, 0);
}

/* To all channels, of which many were to be forgotten; nobody else's turn comes meanwhile. */
static void publish_to_all(void)
{
    uint32_t i, first = below(world_channels), preempts = K.preempts;
    K.preempts = 0;
    for (i = 0; i < world_channels; i++) publish_direct((int)((first + i) % world_channels));
    K.preempts = preempts;
}

static uint32_t admin_us; /* between two calls of other threads that administer; 0: none */

static void admin_happens(void)
{
    int i = (int)below(world_channels);
    if (S->hub.stopped) return;
    switch (below(7)) {
    case 0:
    case 1:
        if (deletions) delete_direct(i);
        break;
    case 4: messages_direct(i); break;
    case 5: recheck_direct(i); break;
    case 2: describe_direct(i); break;
    case 3: list_direct(); break;
    default: receipts_direct(); break;
    }
    happen(K.now_ns + (uint64_t)below(admin_us) * 1000, H_JOB, J_ADMIN, 0, 0);
}

/* A loop amid a step may be closing any of its connections just now. */
static int loop_is_busy(uint32_t slot)
{
    int i;
    for (i = FIRST_LOOP; i < FIRST_OTHER; i++)
        if (threads[i].slot == (int)slot && threads[i].busy) return 1;
    return 0;
}

/* Answer a request that was put off, or one that was answered already. */
static void deferral_answer(deferral *d)
{
    char body[64];
    uint32_t excuses = cur->excuses;
    uint64_t number = d->handle.number;
    lp_result result;
    int length = sprintf(body, "{\"echo\":%u}", d->payload);
    int was_answered = d->answered;
    d->calling++;
    result = lp_reply_later(S, d->handle, 200, "application/json", lpi_slice(body, (size_t)length));
    if (d->handle.number != number) return; /* another one has its place by now */
    d->calling--;
    if (result == LP_OK) {
        MUST(!was_answered && !d->answered, "two answers to one request");
        d->answered = 1;
        d->answered_ns = K.now_ns;
        deferral_counts[1]++;
        return;
    }
    if (result == LP_ERR_NOMEM) {
        MUST(cur->excuses != excuses, "lp_reply_later has no memory, and there is some");
        return;
    }
    MUST(result == LP_ERR_GONE, "lp_reply_later returns %d", result);
    d->gone = 1; /* check_deferral sees that it is */
    MUST(d->answered || d->calling || d->over || deferral_is_due(d) || S->hub.stopped ||
             !deferral_conn(d) || deferral_conn(d)->fin || deferral_conn(d)->rst ||
             deferral_conn(d)->faulty || deferral_conn(d)->end_read ||
             loop_is_busy(d->handle.loop),
         "lp_reply_later says that connection %u has gone, and it waits", d->conn);
    deferral_counts[2]++;
}

/* The one that has waited longest; or any, also one that is over. */
static void later_happens(void)
{
    deferral *d, *oldest = NULL, *any = &deferrals[below(DEFERRALS)];
    for (d = deferrals; d < deferrals + DEFERRALS; d++)
        if (d->used && !d->answered && !d->over && !d->calling &&
            (!oldest || d->begun_ns < oldest->begun_ns))
            oldest = d;
    if (one_in(4) && any->used) deferral_answer(any);
    else if (oldest) deferral_answer(oldest);
    /* Some are still to be answered, and some of them have no deadline. */
    if (oldest && !S->hub.stopped)
        happen(K.now_ns + (uint64_t)below(400000) * 1000, H_JOB, J_LATER, 0, 0);
}

/* A place for another one: free, or of one that is over. */
static deferral *deferral_place(void)
{
    uint32_t i, first = below(DEFERRALS);
    for (i = 0; i < DEFERRALS; i++) {
        deferral *d = &deferrals[(first + i) % DEFERRALS];
        const conn *c = deferral_conn(d);
        if (!d->used || (!d->calling && (d->over || !c))) return d;
    }
    return NULL;
}

/* Put a request off. 0 if that was not possible. */
static int deferral_begin(lp_request *r, uint32_t number)
{
    static const uint32_t times_ms[] = {0, LP_OFF, 1, 20, 300, 2000};
    conn *c = kernel_stream(&OS, lpi_connection_at(r->loop, r->connection)->fd);
    deferral *d = deferral_place();
    uint32_t excuses = cur->excuses, timeout_ms = times_ms[below(6)];
    lp_deferred handle;
    lp_result result;
    if (!d) return 0;
    d->used = 1;
    d->calling = 1; /* nobody else takes its place */
    d->over = 1;
    result = lp_defer(r, timeout_ms, &handle);
    d->calling = 0;
    if (result != LP_OK) {
        MUST(result == LP_ERR_NOMEM && cur->excuses != excuses, "lp_defer returns %d", result);
        d->used = 0;
        return 0;
    }
    memset(d, 0, sizeof *d);
    d->used = 1;
    d->handle = handle;
    d->conn = conn_index(c);
    d->generation = c->generation;
    d->payload = number;
    d->timeout_ms = timeout_ms ? timeout_ms : S->config.later_ms;
    d->begun_ns = K.now_ns;
    c->later = (uint8_t)(1 + (d - deferrals));
    deferral_counts[0]++;
    if (one_in(4)) deferral_answer(d);
    else if (timeout_ms == LP_OFF || !one_in(6))
        happen(K.now_ns + (uint64_t)below(one_in(2) ? 3000 : 400000) * 1000, H_JOB, J_LATER, 0, 0);
    return 1;
}

/* The tide rises, now. */
static void tide_happens(void)
{
    uint32_t left_us = tide_left_us();
    if (S->hub.stopped) return;
    if (K.tides++ % 2) {
        if (one_in(3)) publish_to_all();
        else K.to_all = 1;
    }
    tides++;
    if (!tide_is_low()) left_us += tide_us;
    happen(K.now_ns + (uint64_t)(left_us + below(1000)) * 1000, H_JOB, J_TIDE, 0, 0);
}

/* The store is elsewhere, and its answer about a channel arrives: polls that were fetching
   can be judged. */
static void arrive_happens(void)
{
    lpi_hub *hub = &S->hub;
    uint32_t b;
    if (hub->stopped) return;
    cur->cancel = PTHREAD_CANCEL_DISABLE;
    lpi_hub_lock(hub);
    for (b = 0; b < hub->channel_table.buckets; b++) {
        uint32_t i = *lpi_table_bucket(&hub->channel_table, b);
        for (; i != LPI_NONE; i = lpi_node_at(&hub->channel_table, i)->next)
            if (store_is_fetching(lpi_channel_at(hub, i)) && one_in(2)) {
                store_load_channel(hub, i, now_ms());
                handovers++;
            }
    }
    lpi_hub_unlock_and_signal(hub);
    cur->cancel = PTHREAD_CANCEL_ENABLE;
    happen(K.now_ns + (uint64_t)below(20000) * 1000, H_JOB, J_ARRIVE, 0, 0);
}

/* ---- a crowd ---- */

static void client_new(client *k)
{
    uint32_t i, n;
    memset(k, 0, offsetof(client, conn));
    k->conn = NULL;
    k->cut = 0;
    k->generation = 0;
    k->temper = (uint8_t)(one_in(3) ? T_CORRECT : below(T_KINDS));
    if (same_temper < T_KINDS) k->temper = (uint8_t)same_temper;
    k->named = (uint8_t)(k->temper != T_GARBAGE && !one_in(4));
    k->name = below(one_in(2) ? 6 : 10000);
    k->shared = (uint8_t)(k->temper != T_GARBAGE && one_in(same_temper == T_DRIP ? 2 : 6));
    k->address = k->temper == T_GARBAGE ? (uint32_t)A_GARBAGE : between(1, addresses);
    k->window = PICK(65536, 65536, 4000, 700);
    if (k->temper == T_SLOW) k->window = between(60, 1500);
    k->count = (uint8_t)(k->temper == T_MULTI || (k->temper == T_PIPE && one_in(3)) ||
                                 (k->temper == T_STREAM && one_in(2))
                             ? between(1, world_channels < PLACES ? world_channels : PLACES) : 1);
    if (same_temper == T_MULTI && world_channels >= PLACES) k->count = PLACES;
    for (i = 0; i < k->count; i++) {
        do {
            k->channels[i] = (uint16_t)below(world_channels);
            if (world_channels > PLAIN && !i)
                k->channels[i] = (uint16_t)((uint32_t)(k - clients) % world_channels);
            for (n = 0; n < i && k->channels[n] != k->channels[i];) n++;
        } while (n < i);
        k->cursor[i].kind = (uint8_t)(one_in(2) ? LPI_FROM_START : LPI_FROM_NOW);
        if (k->temper == T_BASIC) k->cursor[i].kind = LPI_FROM_TIME;
    }
    if (tide_us) client_thinks(k);
    else client_at(k, below(2 * think_us), PLAN_NONE);
}

#endif /* CLIENTS_H */
