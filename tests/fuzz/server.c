/* server.c: whole connections through the whole server, on the kernel of the unit tests.

   Input: a byte whose bits choose the configuration (none of them if it is '^'), then a
   program. Bytes are said on the current connection as they are; "^" and a letter does
   something:

       ^0 to ^7   that connection is the current one; it is opened if need be
       ^F ^R      it finishes; it resets
       ^W ^B n    it reads n bytes more; it sends n bytes at a time (n: a byte, see sizes[])
       ^E ^I      it asks for an echo: the replies must come in this order; one that is given
                  later
       ^J         the oldest that is to be given later is given now
       ^G         it polls the subscriber's channel from the subscriber's cursor, if that is
                  free: every message must come once and in order, or a reset be told
       ^D ^d      it publishes, but for the last byte; the last byte
       ^L n       it says so many bytes of filler (sizes[])
       ^P ^Q      publish there; publish on "a", which anybody may name
       ^M ^C      publish three messages there at once; drop that channel's history
       ^N ^K      publish what is transient on "a"; ask anew who may poll the subscriber's channel
       ^S ^s      let the server do all that it can; one step
       ^T n       let time pass (times_ms[])
       ^A n       the n-th allocation from here fails; ^a: and all that follow, until ^A
       ^X n       a system call fails (faults[])
       ^Z         stop
       ^^         a "^" is said

   After each the server is counted through (check_world); what it sends must be replies
   in good form; in the end nothing may have leaked, and nobody been forgotten. */

#include "fuzz.h"
#include "strict.h"
#include "reference.h"

/* A failed check must end the process in a way that a fuzzer sees. */
#define main unit_main
#define _exit(code) abort()
#include "unit/unit.h"
#include "unit/kernel.h"
#undef main
#undef _exit

enum { SLOTS = 8, CLIENTS = 32, STEPS = 400, LATER = 64, NONE = -1 };

typedef struct client {
    peer *c;
    int raw;                  /* it said what is not known here               */
    int broken;               /* it reset or finished                         */
    int reset, narrow;        /* it reset; it may have read too slowly        */
    int half;                 /* of a request the last byte is missing        */
    int told_close, streams, waits; /* it has asked for what is given later   */
    uint32_t poll;            /* which of its requests is the subscriber's    */
    uint32_t asked, answered;
    uint32_t echo;            /* the last that was answered                   */
    uint32_t raw_bytes;
} client;

static struct state {
    client clients[CLIENTS];
    int count, slots[SLOTS], current;
    uint64_t nonce;
    uint32_t echoes;
    lp_deferred later[LATER]; /* echoes that are to be given, a ring of them  */
    char later_text[LATER][64];
    uint32_t later_first, later_count;
    int excused;              /* something was made to fail, or to end        */
    /* the subscriber */
    char channel[32], cursor[128];
    int poller;               /* the client that it polls on                  */
    uint32_t published, heard, told; /* the last that lp_after_publish was told */
    uint32_t published_before; /* the poll was asked                          */
    int parked;               /* the server has read the poll, and keeps it    */
    int anywhere;             /* whatever comes next does not follow on `heard` */
} st;

static world w;
static unit_test here = {"server", NULL, NULL, NULL};

static const size_t sizes[16] = {0, 1, 2, 7, 30, 100, 200, 500, 1000, 1500, 4000, 10000, 16384,
                                 40000, 100000, SIZE_MAX};
static const uint32_t times_ms[16] = {1, 2, 5, 10, 50, 100, 300, 999, 1000, 1001, 3000, 5000,
                                      10000, 31000, 76000, 301000};
static const struct { kernel_call call; int error; } faults[16] = {
    {K_RECV, EAGAIN}, {K_RECV, EINTR}, {K_RECV, ECONNRESET}, {K_RECV, ENOMEM}, {K_SEND, EAGAIN},
    {K_SEND, EINTR}, {K_SEND, EPIPE}, {K_SEND, ENOBUFS}, {K_ACCEPT, EMFILE},
    {K_ACCEPT, ECONNABORTED}, {K_POLLER_SET, ENOMEM}, {K_POLLER_WAIT, EINTR},
    {K_SHUTDOWN, ENOTCONN}, {K_RANDOM, EIO}, {K_RESERVE, ENFILE}, {K_ACCEPT, ENOMEM}};

/* ---- hooks and handlers ---- */

static void echo(lp_request *r, void *ctx)
{
    lp_slice n = lp_param(r, "n");
    lp_json j;
    (void)ctx;
    if (!n.bytes) {
        lp_reply_error(r, 503, "Out of memory");
        return;
    }
    lp_json_init(&j, NULL);
    lp_json_object(&j);
    lp_json_key(&j, lp_s("echo"));
    lp_json_string(&j, n);
    lp_json_end(&j);
    lp_reply(r, 200, "application/json", lp_json_text(&j));
    lp_json_free(&j);
}

static void give_later(void)
{
    uint32_t i = st.later_first++ % LATER;
    lp_result result = lp_reply_later(w.s, st.later[i], 200, "application/json",
                                      lp_s(st.later_text[i]));
    st.later_count--;
    MUST(result == LP_OK || result == LP_ERR_GONE || (st.excused && result == LP_ERR_NOMEM),
         "lp_reply_later: %s", lp_strerror(result));
}

/* Behind one that waits others may wait, too. */
static void give_all_later(void)
{
    while (st.later_count) {
        give_later();
        settle(&w);
    }
}

static void later(lp_request *r, void *ctx)
{
    lp_slice n = lp_param(r, "n");
    uint32_t i;
    (void)ctx;
    if (st.later_count == LATER) give_later();
    i = (st.later_first + st.later_count) % LATER;
    sprintf(st.later_text[i], "{\"echo\":\"%.*s\"}", n.length < 40 ? (int)n.length : 0, n.bytes);
    if (!n.bytes || lp_json_check(lp_s(st.later_text[i]), NULL) != LP_OK)
        lp_reply_error(r, 400, "It is no number");
    else if (lp_defer(r, n.length % 2 ? 0 : 3000, &st.later[i]) == LP_OK) st.later_count++;
    else lp_reply_error(r, 503, "Out of memory");
}

/* A page, which may be there already. */
static void page(lp_request *r, void *ctx)
{
    (void)ctx;
    lp_reply_asset(r, "page.json", lp_s("{\"page\":1}"));
}

static int ask_hook(void *ctx, lp_request *r, lp_action action, lp_slice name)
{
    (void)ctx, (void)r;
    if (action == LP_ADMIN && !name.length) return 0; /* it is about none */
    MUST(lpi_channel_name_good(name), "a bad name is asked about");
    return name.bytes[0] == 'd' ? 403 : name.bytes[0] == 'u' ? 401 : 0;
}

/* Channels that begin with b refuse, those with e have something else published. */
static int before_hook(void *ctx, lp_request *r, lp_slice channel, lp_slice *json,
                       const char **text)
{
    (void)ctx;
    MUST(lpi_channel_name_good(channel), "a bad name is published to");
    MUST(lp_json_check(*json, NULL) == LP_OK, "what is no JSON is to be published");
    MUST(lp_body(r).length >= json->length, "more is published than came");
    if (channel.bytes[0] == 'e') *json = lp_s(channel.length > 3 ? "[{},{}]" : "{\"e\":1}");
    if (channel.bytes[0] == 'b' && channel.length > 3) *text = "No";
    return channel.bytes[0] == 'b' ? 403 : 0;
}

/* Each in its order, and a text that can be read. */
static void after_hook(void *ctx, const lp_message *m)
{
    uint64_t n;
    lp_slice k = lpi_slice(NULL, 0);
    (void)ctx;
    MUST(lp_json_check(m->json, NULL) == LP_OK, "what is no JSON was published");
    if (!lpi_equal(m->channel, lp_s(st.channel))) return;
    if (lp_json_get(m->json, "k", &k) != LP_OK) return;
    MUST(lp_json_get_uint(k, "", &n) == LP_OK && n == ++st.told, "message %u is told, not %u",
         (unsigned)n, st.told);
}

static int policy_hook(void *ctx, lp_slice channel, lp_policy *policy)
{
    (void)ctx;
    if (channel.bytes[0] == 's') policy->history_count = 2, policy->waiters_max = 1;
    return channel.bytes[0] != 'n';
}

static void watch_hook(void *ctx, lp_channel_event event, lp_slice name)
{
    (void)ctx, (void)event;
    MUST(lpi_channel_name_good(name), "a bad name is watched");
}

/* ---- what the server says ---- */

typedef struct heard {
    int status, closes;
    size_t head;
    lp_slice body;
    uint64_t length;
    int has_length, is_text, is_stream; /* no JSON                              */
} heard;

static int is_field(lp_slice name, const char *want) { return strict_is(name, want); }

static void read_field(lp_slice line, heard *h, uint32_t *dates)
{
    size_t colon = strict_find(line, ':'), i;
    lp_slice name = strict_cut(line, 0, colon), value;
    MUST(colon > 0 && colon < line.length, "a field without a name");
    value = strict_trim(strict_cut(line, colon + 1, line.length));
    for (i = 0; i < name.length; i++) MUST(strict_tchar(strict_at(name, i)), "a field's name");
    for (i = 0; i < value.length; i++) MUST(strict_vchar(strict_at(value, i)), "a field's value");
    if (is_field(name, "date")) ++*dates;
    if (is_field(name, "connection")) h->closes = strict_is(value, "close");
    MUST(!is_field(name, "transfer-encoding"), "a reply in chunks");
    if (is_field(name, "content-type")) {
        h->is_stream = strict_is(value, "text/event-stream");
        h->is_text = h->is_stream || strict_is(strict_cut(value, 0, 10), "text/plain");
    }
    if (!is_field(name, "content-length")) return;
    MUST(!h->has_length && strict_length(value, &h->length), "Content-Length");
    h->has_length = 1;
}

/* Something that is no digit follows it, but perhaps no NUL, which strtoul wants. */
static uint32_t number(const char *at)
{
    uint32_t n = 0;
    while (*at >= '0' && *at <= '9') n = 10 * n + (uint32_t)(*at++ - '0');
    return n;
}

/* 1: a whole reply stands at the text's beginning. */
static int read_reply(const client *k, lp_slice text, heard *h)
{
    static const char start[] = "HTTP/1.1 ";
    size_t n = text.length < 9 ? text.length : 9, at;
    uint32_t dates = 0;
    memset(h, 0, sizeof *h);
    MUST(!memcmp(text.bytes, start, n), "what is said is no reply: %.*s", (int)n, text.bytes);
    h->head = strict_end(text);
    if (!h->head) return 0;
    h->status = (int)number(text.bytes + 9);
    MUST(h->status >= 100 && h->status < 600, "status %d", h->status);
    for (at = strict_find(text, '\n') + 1; at + 2 < h->head;) {
        size_t end = at;
        while (memcmp(text.bytes + end, "\r\n", 2)) end++;
        read_field(strict_cut(text, at, end), h, &dates);
        at = end + 2;
    }
    if (h->status == 100) {
        MUST(h->head == 25, "100 (Continue) with fields");
        return 1;
    }
    MUST(dates == 1, "%u dates", dates);
    MUST(h->has_length == (h->status != 204 && h->status != 304 && !h->is_stream),
         "status %d, its length", h->status);
    text = strict_cut(text, h->head, text.length);
    if (k->raw && h->length && (text.length >= 9 && !memcmp(text.bytes, start, 9)))
        h->length = 0; /* it may have been HEAD */
    if (text.length < h->length) return 0;
    h->body = strict_cut(text, 0, (size_t)h->length);
    return 1;
}

static lp_slice string_of(lp_slice body, const char *key)
{
    size_t n = strlen(key);
    const char *at = (const char *)memmem(body.bytes, body.length, key, n);
    if (!at) return lpi_slice(NULL, 0);
    body = lpi_slice(at + n, (size_t)(body.bytes + body.length - at) - n);
    return strict_cut(body, 0, strict_find(body, '"'));
}

static int contains(lp_slice body, const char *text)
{
    return memmem(body.bytes, body.length, text, strlen(text)) != NULL;
}

/* A reply to the subscriber: what comes next, without a gap, or a reset. */
static void hear_poll(const heard *h)
{
    lp_slice last_id, rest = h->body;
    uint32_t next = st.heard + 1, first = 1;
    const char *at;
    /* From "0" comes all that is held, whatever that is. */
    int reset = contains(h->body, "\"reset\":{") || !strcmp(st.cursor, "0") || st.anywhere;
    st.poller = NONE;
    if (h->status != 200) return;
    while ((at = (const char *)memmem(rest.bytes, rest.length, "\"k\":", 4))) {
        uint32_t k = number(at + 4);
        if (first && reset) next = k;
        first = 0;
        MUST(k == next++, "message %u comes, not %u", k, next - 1);
        rest = lpi_slice(at + 4, (size_t)(rest.bytes + rest.length - at) - 4);
    }
    MUST(next - 1 <= st.published, "a message from the future");
    if (contains(h->body, "\"status\":\"messages\""))
        MUST(!first || reset, "messages, and none");
    st.anywhere = first && reset; /* nothing is held: who knows where it goes on */
    st.heard = next - 1;
    last_id = string_of(h->body, "\"last_id\":\"");
    MUST(last_id.length && last_id.length < sizeof st.cursor, "no last_id");
    memcpy(st.cursor, last_id.bytes, last_id.length);
    st.cursor[last_id.length] = 0;
}

static void hear_echo(client *k, lp_slice body)
{
    char mine[32];
    lp_slice got = string_of(body, "{\"echo\":\"");
    uint32_t n;
    sprintf(mine, "%016" PRIx64 "-", st.nonce);
    if (got.length < 18 || memcmp(got.bytes, mine, 17)) return;
    n = number(got.bytes + 17);
    MUST(n > k->echo, "echo %u after %u", n, k->echo);
    k->echo = n;
}

/* A stopped server is healthy no more, which is no error. */
static void hear_error(const heard *h)
{
    if (h->status == 503 && contains(h->body, "{\"status\":\"draining\"}"))
        MUST(h->closes, "it drains, and stays");
    else
        MUST(string_of(h->body, "{\"error\":\"").bytes == h->body.bytes + 10, "an error's body");
}

static void hear(client *k)
{
    lp_slice text = unheard(k->c);
    heard h;
    ref r;
    while (text.length) {
        if (k->streams) { /* what its events say is for other tests */
            k->c->out_at += text.length;
            return;
        }
        MUST(!k->told_close, "it says more after Connection: close");
        if (!read_reply(k, text, &h)) return;
        k->c->out_at += h.head + h.body.length;
        text = unheard(k->c);
        if (h.status == 100) {
            MUST(k->raw, "100 (Continue), and nobody asked");
            continue;
        }
        k->answered++;
        k->told_close = h.closes;
        k->streams = h.is_stream;
        MUST(!h.body.length || h.is_text || !ref_text(&r, h.body, NULL), "a body that is not JSON");
        if (h.status >= 400 && h.body.length) hear_error(&h);
        MUST(h.status != 304 || k->raw, "304, and nobody has it");
        if (!k->raw && k->answered > k->asked) /* too slow, or refused before it was whole */
            MUST(h.status >= 400 && h.closes, "a reply that nobody asked for");
        hear_echo(k, h.body);
        if (st.poller == (int)(k - st.clients) && k->answered == k->poll)
            hear_poll(&h);
    }
}

static void hear_all(void)
{
    int i;
    for (i = 0; i < st.count; i++) hear(&st.clients[i]);
    if (st.poller != NONE && st.clients[st.poller].c->closed) st.poller = NONE;
}

/* Once for each step of the program, not for each of the server's: that would take most of
   the time. */
static void check(void)
{
    w.unchecked = 0;
    check_world(&w);
    w.unchecked = 1;
    hear_all();
}

/* ---- what the program does ---- */

static client *current(void)
{
    return st.current == NONE ? NULL : &st.clients[st.current];
}

static void use(int slot)
{
    static const char *const from[4] = {"127.0.0.1", "127.0.0.2", "10.0.0.1", "::1"};
    int i = st.slots[slot];
    if (i == NONE || st.clients[i].c->closed || st.clients[i].broken) {
        if (st.count == CLIENTS) return;
        i = st.slots[slot] = st.count++;
        st.clients[i].c = dial_from(&w, from[slot % 4]);
    }
    st.current = i;
}

static void ask_echo(client *k, const char *from)
{
    if (k->broken || k->half || k->c->closed) return;
    sayf(k->c, "GET /%s/%016" PRIx64 "-%u HTTP/1.1\r\nHost: localhost\r\n\r\n", from, st.nonce,
         ++st.echoes);
    k->asked++;
    k->waits |= *from == 'l';
}

/* On a connection of which all is known, and nothing else is asked until the reply. A body
   changes nothing. */
static void ask_poll(client *k)
{
    static const char *const bodies[3] = {
        "\r\n", "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nhel\r\n2;c\r\nlo\r\n0\r\n\r\n"};
    if (st.poller != NONE || k->raw || k->half || k->broken || k->c->closed) return;
    if (k->told_close) return; /* nothing more is read there */
    sayf(k->c, "GET /api/poll/%s?timeout=1&last_id=%s HTTP/1.1\r\nHost: localhost\r\n%s",
         st.channel, st.cursor, bodies[st.echoes % 3]);
    k->poll = ++k->asked;
    st.published_before = st.published;
    st.poller = (int)(k - st.clients);
    st.parked = 0;
}

/* Nothing may come of it before its last byte. */
static void ask_publish(client *k)
{
    if (k->raw || k->half || k->broken || k->c->closed) return;
    if (st.poller == (int)(k - st.clients)) return;
    sayf(k->c, "POST /api/publish/p%016" PRIx64 " HTTP/1.1\r\nHost: localhost\r\nAuthorization: "
         "Bearer t\r\nContent-Type: application/json\r\n%s\r\n\r\n%s", st.nonce,
         st.echoes & 1 ? "Transfer-Encoding: chunked" : "Content-Length: 7",
         st.echoes & 1 ? "3\r\n{\"d\r\n4\r\n\":1}\r\n0\r\n\r" : "{\"d\":1");
    k->half = st.echoes & 1 ? '\n' : '}';
}

static void ask_last_byte(client *k)
{
    char c = (char)k->half;
    if (!c || k->broken) return;
    say_bytes(k->c, &c, 1);
    k->half = 0;
    k->asked++;
}

static void publish_known(void)
{
    char json[64];
    sprintf(json, "{\"k\":%u,\"pad\":\"%.*s\"}", st.published + 1, (int)(st.published % 20),
            "xxxxxxxxxxxxxxxxxxxxxxxx");
    if (lp_publish(w.s, lp_s(st.channel), lp_s(json), NULL) == LP_OK) st.published++;
}

static void publish_three(void)
{
    char json[64];
    uint32_t k = st.published;
    sprintf(json, "[{\"k\":%u},{\"k\":%u},{\"k\":%u}]", k + 1, k + 2, k + 3);
    if (lp_publish(w.s, lp_s(st.channel), lp_s(json), NULL) == LP_OK) st.published += 3;
}

/* Has the poll a place in the history? From "0" it has none until the server has read it. */
static int has_place(void)
{
    return st.parked || strcmp(st.cursor, "0");
}

/* Who has a place of before is to be told of it at once. */
static void drop_history(void)
{
    if (lp_channel_delete(w.s, lp_s(st.channel)) == LP_OK && has_place())
        st.published_before = UINT32_MAX;
}

static void fail_allocations(size_t skip, int forever)
{
    w.m.fail_at = skip ? w.m.calls + skip : 0;
    w.m.fail_forever = forever;
    st.excused = 1;
}

static int may_say(const client *k)
{
    return !k->broken && !k->half && k->raw_bytes < 200000 && st.poller != (int)(k - st.clients);
}

static void say_raw(client *k, char c)
{
    if (!may_say(k)) return;
    k->raw = 1;
    k->raw_bytes++;
    say_bytes(k->c, &c, 1);
}

static void say_filler(client *k, size_t n)
{
    static char filler[40000];
    if (!may_say(k) || n > sizeof filler) return;
    if (!*filler) memset(filler, '7', sizeof filler); /* of a name, a number or a string */
    k->raw = 1;
    k->raw_bytes += (uint32_t)n;
    say_bytes(k->c, filler, n);
}

/* From "0" comes what is held once the server reads of it: what was dropped before is not
   missed. */
static int is_owed(void)
{
    lp_channel_info info;
    if (st.published == st.published_before) return 0;
    return has_place() ||
           (lp_channel_read(w.s, lp_s(st.channel), &info) == LP_OK && info.held);
}

/* The server has done all that it can: the subscriber has been told what is new. */
static void settle_and_check(void)
{
    settle(&w);
    check();
    if (st.excused || st.poller == NONE || st.clients[st.poller].narrow) return;
    MUST(!is_owed(), "a poll is not told of a message");
    st.parked = 1;
    st.published_before = st.published; /* of which what is not held was dropped */
}

/* Much in small pieces takes more steps than a test may. */
static void hurry(void)
{
    int i;
    for (i = 0; i < st.count; i++)
        if (st.clients[i].c->in_length - st.clients[i].c->in_at > 4000) st.clients[i].c->piece = 0;
}

/* `n` is the byte behind the letter. Returns whether it was used. */
static int act(char op, unsigned n)
{
    client *k = current();
    hurry();
    if (op >= '0' && op <= '7') use(op - '0');
    else if (op == 'S') settle_and_check();
    else if (op == 's') turn(&w, 0);
    else if (op == 'P') publish_known();
    else if (op == 'Q') lp_publish(w.s, lp_s("a"), lp_s("{\"a\":1}"), NULL);
    else if (op == 'N') lp_publish_transient(w.s, lp_s("a"), lp_s("{\"a\":2}"), NULL);
    else if (op == 'K') lp_recheck(w.s, lp_s(st.channel));
    else if (op == 'J' && st.later_count) give_later();
    else if (op == 'M') publish_three();
    else if (op == 'C') drop_history();
    else if (op == 'a') fail_allocations(1, 1);
    else if (op == 'Z') st.excused = 1, lp_stop(w.s);
    else if (op == 'T') return pass(&w, times_ms[n & 15]), 1;
    else if (op == 'A') return fail_allocations(n & 15, 0), 1;
    else if (op == 'X') {
        st.excused = 1;
        fault(&w, faults[n & 15].call, faults[n & 15].error, n >> 4 & 3, 1 + (n >> 6));
        return 1;
    }
    if (!k) return 0;
    if (op == 'F') k->broken = 1, finish(k->c);
    if (op == 'R') k->broken = k->reset = 1, reset(k->c);
    if (op == 'D') ask_publish(k);
    if (op == 'd') ask_last_byte(k);
    if (op == 'L') return say_filler(k, sizes[n & 15]), 1;
    if (op == 'E') ask_echo(k, "echo");
    if (op == 'I') ask_echo(k, "later");
    if (op == 'G') ask_poll(k);
    if (op == '^') say_raw(k, '^');
    if (op == 'W') return k->narrow = 1, widen(k->c, sizes[n & 15]), 1;
    if (op == 'B') return k->c->piece = n & 15 ? sizes[n & 15] : 0, 1;
    return 0;
}

static void configure(int bits)
{
    lp_config *cfg = &w.cfg;
    cfg->waiters_per_client = LP_UNLIMITED;
    if (bits == '^') bits = 0;
    if (bits & 1) {
        cfg->waiters_max = 3;
        cfg->waiters_per_client = 1;
        cfg->waiters_per_channel = 2;
        cfg->connections_max = 4;
        cfg->connections_per_address = 2;
        cfg->channels_max = 2;
    }
    if (bits & 2) cfg->history_count = 3, cfg->history_age_ms = 3000, cfg->history_bytes = 2000;
    if (bits & 4) cfg->reply_messages = 2, cfg->reply_messages_max = 2, cfg->reply_bytes_max = 200;
    if (bits & 8) {
        cfg->head_bytes_max = 256;
        cfg->message_bytes_max = 64;
        cfg->body_bytes_max = 32;
        cfg->partial_bytes_max = 70000;
    }
    if (bits & 16) {
        cfg->admin_token = "t";
        cfg->track_receipts = 5;
        cfg->head_ms = cfg->body_ms = cfg->idle_ms = cfg->write_ms = 50;
        cfg->linger_ms = cfg->channel_linger_ms = cfg->drain_ms = 5;
    }
    if (bits & 32) {
        cfg->publish_token = "t";
        cfg->cors = "http://h,https://o";
        cfg->hosts = "h";
        cfg->trusted_proxies = "127.0.0.2,10.0.0.0/8";
    }
    if (bits & 64) {
        cfg->authorize.ask = ask_hook;
        cfg->before_publish.ask = before_hook;
    }
    if (bits & 128) {
        cfg->watch.channel = watch_hook;
        cfg->after_publish.tell = after_hook;
        cfg->policy.ask = policy_hook;
    }
}

static uint64_t nonce_of(const uint8_t *data, size_t size)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    while (size--) hash = (hash ^ *data++) * UINT64_C(1099511628211);
    return hash;
}

static void begin(const uint8_t *data, size_t size)
{
    int i;
    memset(&w, 0, sizeof w);
    memset(&st, 0, sizeof st);
    unit_current = &here;
    for (i = 0; i < SLOTS; i++) st.slots[i] = NONE;
    st.current = st.poller = NONE;
    st.nonce = nonce_of(data, size);
    sprintf(st.channel, "c%016" PRIx64, st.nonce);
    strcpy(st.cursor, "0");
    configure(size ? data[0] : 0);
    open_world(&w);
    w.unchecked = 1;
    CHECK_INT(lp_on(w.s, "GET", "/echo/{n}", echo, NULL), LP_OK);
    CHECK_INT(lp_on(w.s, "GET", "/later/{n}", later, NULL), LP_OK);
    CHECK_INT(lp_on(w.s, "GET", "/{page...}", page, NULL), LP_OK);
}

static void run(const uint8_t *data, size_t size)
{
    size_t i = size && data[0] != '^' ? 1 : 0;
    int steps = STEPS;
    for (; i < size && steps; i++) {
        client *k = current();
        if (data[i] == '^' && i + 1 < size) {
            unsigned n = i + 2 < size ? data[i + 2] : 0;
            i += 1 + (size_t)act((char)data[i + 1], n);
            steps--;
            check();
        } else if (k) {
            say_raw(k, (char)data[i]);
        }
    }
}

/* Who is still connected has its answers, and who finished behind what it asked has them too,
   but for a poll, which a finished client does not wait for. */
static void check_answers(const client *k)
{
    if (k->raw || k->reset || k->told_close) return;
    if (k->c->closed && (!k->broken || k->narrow || k->poll || k->half || k->waits)) return;
    MUST(k->answered == k->asked, "%u of %u requests are answered", k->answered, k->asked);
    MUST(!unheard(k->c).length, "half a reply");
}

/* Nobody says anything more: however slowly they read, in the end all are closed, but streams. */
static void check_deadlines(void)
{
    int i, left = 40;
    for (i = 0; i < st.count && left; i++) {
        while (st.clients[i].c->accepted && !st.clients[i].c->closed && !st.clients[i].streams && left--) {
            pass(&w, 60000);
            hear_all();
        }
    }
    MUST(left > 0, "a connection stays open");
}

/* Everybody reads now (or not), and nothing fails any more. */
static void end(void)
{
    int i;
    hurry();
    w.m.fail_at = 0;
    memset(w.k.faults, 0, sizeof w.k.faults);
    if (st.nonce & 1) check_deadlines();
    for (i = 0; i < st.count; i++) widen(st.clients[i].c, SIZE_MAX);
    give_all_later();
    pass(&w, 1500);
    give_all_later(); /* behind a poll that has ended */
    pass(&w, 1500);
    check();
    for (i = 0; i < st.count && !st.excused; i++) check_answers(&st.clients[i]);
    check_deadlines();
    w.unchecked = 0;
    close_world(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    begin(data, size);
    run(data, size);
    end();
    return 0;
}
