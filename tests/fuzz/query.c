/* query.c: what a poll asks: names, percent-encoding, cursors, seconds and numbers.

   Input: what stands behind "/api/poll/". The whole text also goes through each of the small
   parsers alone, against simple ones here that work on text: no value is computed where a
   comparison of digits will do. */

#include "fuzz.h"
#include "strict.h"

enum { MOST = 4096 };

static fuzz_pages pages, ask_pages, code_pages;

/* ---- percent-encoding ---- */

BLIND static int simple_name_good(lp_slice name)
{
    size_t i = 0, n;
    uint32_t code;
    if (name.length < 1 || name.length > 255) return 0;
    for (; i < name.length; i += n) {
        n = fuzz_utf8(name.bytes + i, name.length - i, &code);
        if (!n || code < 0x20 || (code >= 0x7f && code <= 0x9f)) return 0;
    }
    return 1;
}

static void check_decode(lp_slice text)
{
    static char got[MOST], want[MOST], channel[LPI_CHANNEL_RAW];
    lp_slice name;
    int plus;
    long n = 0;
    for (plus = 1; plus >= 0; plus--) {
        n = lpi_percent_decode(got, text, plus);
        MUST(n == strict_decode(want, text, plus) && (n < 0 || !memcmp(got, want, (size_t)n)),
             "decoded to %ld bytes", n);
    }
    if (lpi_channel_decode(channel, text, &name)) {
        MUST(n < 0 || !simple_name_good(lpi_slice(want, (size_t)n)), "a good name is refused");
        return;
    }
    MUST(n >= 0 && simple_name_good(name), "a bad name is accepted");
    MUST(fuzz_same(name, lpi_slice(want, (size_t)n)), "another name");
}

/* Some bytes as they are, if they may be, the rest in either case. */
static void check_encode(lp_slice text)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    static char code[3 * MOST], got[3 * MOST], channel[LPI_CHANNEL_RAW];
    lp_slice all, name;
    size_t i, n = 0;
    for (i = 0; i < text.length; i++) {
        unsigned c = (unsigned char)text.bytes[i], upper = (c ^ (unsigned)i) & 16;
        if (c >= 'a' && c <= 'z') {
            code[n++] = (char)c;
            continue;
        }
        code[n++] = '%';
        code[n++] = digits[upper + (c >> 4)];
        code[n++] = digits[upper + (c & 15)];
    }
    all = fuzz_guarded(&code_pages, code, n);
    MUST(lpi_percent_decode(got, all, 1) == (long)text.length &&
             !memcmp(got, text.bytes, text.length), "decode(encode(x)) is not x");
    if (lpi_channel_decode(channel, all, &name))
        MUST(!simple_name_good(text), "a good name, encoded, is refused");
    else
        MUST(simple_name_good(text) && fuzz_same(name, text), "a name, encoded, is another");
}

/* ---- numbers and cursors, as text ---- */

BLIND static size_t digits_at(lp_slice s, size_t at)
{
    size_t n = at;
    while (n < s.length && strict_digit(s.bytes[n])) n++;
    return n - at;
}

BLIND static int simple_uint(lp_slice s)
{
    if (!s.length || digits_at(s, 0) != s.length || (s.length > 1 && s.bytes[0] == '0')) return 0;
    return s.length < 20 || (s.length == 20 && memcmp(s.bytes, "18446744073709551615", 20) <= 0);
}

static void check_uint(lp_slice text)
{
    char again[20];
    uint64_t value = 0;
    int got = !lpi_parse_uint(text, &value);
    MUST(got == simple_uint(text), "number: %d", got);
    if (!got) return;
    MUST(fuzz_same(lpi_slice_to(again, lpi_put_uint(again, value)), text), "a number, written again");
}

/* DIGITS [ "." DIGITS ]; 0: it is not that. */
BLIND static int simple_seconds(lp_slice s, lp_slice *whole, lp_slice *part)
{
    size_t n = digits_at(s, 0);
    *whole = strict_cut(s, 0, n);
    *part = lpi_slice("", 0);
    if (!n) return 0;
    if (n == s.length) return 1;
    *part = strict_cut(s, n + 1, s.length);
    return s.bytes[n] == '.' && part->length && digits_at(*part, 0) == part->length;
}

/* Of so many digits behind the point, filled up with zeros; *more: others that are not 0. */
BLIND static uint64_t simple_part(lp_slice part, size_t places, int *more)
{
    uint64_t value = 0;
    size_t i;
    *more = 0;
    for (i = 0; i < places; i++)
        value = value * 10 + (i < part.length ? (uint64_t)(part.bytes[i] - '0') : 0);
    for (; i < part.length; i++) *more |= part.bytes[i] != '0';
    return value;
}

BLIND static uint64_t simple_whole(lp_slice whole, uint64_t most)
{
    uint64_t value = 0;
    size_t i;
    for (i = 0; i < whole.length; i++) {
        value = value * 10 + (uint64_t)(whole.bytes[i] - '0');
        if (value > most) value = most;
    }
    return value;
}

static void check_seconds(lp_slice text, int exact)
{
    char again[27];
    lp_slice whole, part;
    uint64_t us = 0, twice = 0, want;
    int got = !lpi_query_seconds(text, exact, &us), more;
    int good = simple_seconds(text, &whole, &part);
    if (exact && part.length > 6) good = 0;
    MUST(got == good, "seconds: %d", got);
    if (!got) return;
    want = simple_whole(whole, UINT64_C(1000000000000)) * 1000000 + simple_part(part, 6, &more);
    MUST(us == want + (uint64_t)more, "%" PRIu64 " us, not %" PRIu64, us, want + (uint64_t)more);
    if (us >= UINT64_C(1000000000000000000)) return; /* cut, and perhaps rounded up */
    whole = lpi_slice_to(again, lpi_put_seconds(again, us));
    MUST(!lpi_query_seconds(whole, 1, &twice) && twice == us, "seconds, written and read again");
}

/* 0: none; else 1 + its kind. */
BLIND static int simple_cursor(lp_slice s)
{
    size_t i;
    if (!s.length || (s.length == 1 && s.bytes[0] == '0')) return 1 + LPI_FROM_START;
    if (s.length == 3 && !memcmp(s.bytes, "now", 3)) return 1 + LPI_FROM_NOW;
    if (s.length < 18 || s.bytes[16] != '-') return 0;
    for (i = 0; i < 16; i++)
        if (!strict_digit(s.bytes[i]) && (s.bytes[i] < 'a' || s.bytes[i] > 'f')) return 0;
    return simple_uint(strict_cut(s, 17, s.length)) ? 1 + LPI_FROM_CURSOR : 0;
}

static void check_claim(lp_slice text, const lpi_requested *requested)
{
    char again[40];
    MUST(1 + (int)requested->kind == simple_cursor(text), "a cursor of another kind");
    if (requested->kind != LPI_FROM_CURSOR) {
        MUST(!requested->epoch && !requested->seq, "a cursor with leftovers");
        return;
    }
    MUST(fuzz_same(lpi_slice_to(again, lpi_put_id(again, requested->epoch, requested->seq)), text),
         "a cursor, written again, is another");
}

static void check_cursors(lp_slice text, uint32_t count)
{
    lpi_requested requested[LPI_POLL_CHANNELS];
    lp_slice rest = text;
    int bad = lpi_query_cursors(text, requested, count), good = 1, first = simple_cursor(text);
    uint32_t i, commas = 0;
    for (i = 0; i < text.length; i++) commas += text.bytes[i] == ',';
    for (i = 0; i <= commas && good; i++) {
        lp_slice one = strict_cut(rest, 0, strict_find(rest, ','));
        good = simple_cursor(one) != 0;
        if (!bad) check_claim(one, &requested[i]);
        rest = strict_cut(rest, one.length + (one.length < rest.length), rest.length);
    }
    if (!commas && first && first != 1 + LPI_FROM_CURSOR) commas = count - 1; /* one for all */
    good = good && commas + 1 == count;
    MUST((bad == 0) == good, "cursors: %d", bad);
    for (i = 1; !bad && i < count && first; i++)
        MUST(requested[i].kind == requested[0].kind, "one cursor for all");
}

static void check_cursor(lp_slice text)
{
    lpi_requested requested;
    int got = !lpi_query_cursor(text, &requested);
    MUST(got == (simple_cursor(text) != 0), "cursor: %d", got);
    if (got) check_claim(text, &requested);
}

/* ---- a whole question ---- */

typedef struct answer {
    char names[LPI_POLL_CHANNELS][MOST];
    lp_slice name[LPI_POLL_CHANNELS];
    char values[LPI_Q_KNOWN][MOST];
    lp_slice value[LPI_Q_KNOWN]; /* no bytes: not asked */
    uint32_t count;
} answer;

BLIND static int simple_names(lp_slice path, answer *a)
{
    uint32_t i;
    for (;;) {
        lp_slice one = strict_cut(path, 0, strict_find(path, ','));
        long n;
        if (a->count == LPI_POLL_CHANNELS) return 0;
        n = strict_decode(a->names[a->count], one, 0);
        if (n < 0) return 0;
        a->name[a->count] = lpi_slice(a->names[a->count], (size_t)n);
        if (!simple_name_good(a->name[a->count])) return 0;
        for (i = 0; i < a->count; i++)
            if (fuzz_same(a->name[i], a->name[a->count])) return 0;
        a->count++;
        if (one.length == path.length) return 1;
        path = strict_cut(path, one.length + 1, path.length);
    }
}

BLIND static int simple_values(lp_slice query, answer *a)
{
    static const char *const known[LPI_Q_KNOWN] = {"last_id", "since", "timeout", "limit"};
    static char name[MOST];
    while (query.length) {
        lp_slice one = strict_cut(query, 0, strict_find(query, '&')), value;
        size_t equals = strict_find(one, '=');
        long n = strict_decode(name, strict_cut(one, 0, equals), 1);
        int i;
        value = strict_cut(one, equals < one.length ? equals + 1 : equals, one.length);
        for (i = 0; i < LPI_Q_KNOWN; i++) {
            if (n < 0 || !fuzz_same(lpi_slice(name, (size_t)n), lp_s(known[i]))) continue;
            if (a->value[i].bytes) return 0;
            n = strict_decode(a->values[i], value, 1);
            if (n < 0) return 0;
            a->value[i] = lpi_slice(a->values[i], (size_t)n);
        }
        query = strict_cut(query, one.length + (one.length < query.length), query.length);
    }
    return 1;
}

static lp_server server;
static lpi_loop loop;

static void check_where(const answer *a)
{
    lp_slice since = a->value[LPI_Q_SINCE], cursor = a->value[LPI_Q_LAST_ID], whole, part;
    lpi_poll_request ask;
    int good, more;
    memset(&ask, 0, sizeof ask);
    ask.count = a->count;
    good = !lpi_poll_read_cursors(&ask, a->value);
    if (!since.bytes) {
        MUST(!ask.basic, "the basic dialect, unasked");
        if (cursor.bytes) check_cursors(cursor, a->count);
        else MUST(good && ask.requested[a->count - 1].kind == LPI_FROM_START, "no cursor");
        return;
    }
    MUST(good == (!cursor.bytes && a->count == 1 && simple_seconds(since, &whole, &part) &&
                  part.length <= 6), "since: %d", good);
    if (!good) return;
    MUST(ask.basic && ask.requested[0].kind == LPI_FROM_TIME && !ask.requested[0].epoch &&
             ask.requested[0].seq == simple_whole(whole, UINT64_C(1000000000000)) * 1000000 +
                                      simple_part(part, 6, &more), "since");
}

static void check_numbers(const answer *a, int basic)
{
    lp_slice timeout = a->value[LPI_Q_TIMEOUT], limit = a->value[LPI_Q_LIMIT], whole, part;
    uint64_t wait = server.config.timeout_ms, count = server.config.reply_messages;
    lpi_poll_request ask;
    int got, good = 1, more;
    memset(&ask, 0, sizeof ask);
    ask.basic = basic;
    got = !lpi_poll_read_numbers(&server.config, &ask, a->value);
    if (timeout.bytes) {
        good = simple_seconds(timeout, &whole, &part);
        if (good) wait = simple_whole(whole, 1000000) * 1000 + simple_part(part, 3, &more);
        if (good) wait += (uint64_t)more;
    }
    if (limit.bytes) {
        good = good && limit.length <= 4 && simple_uint(limit);
        if (good) count = simple_whole(limit, 10000);
        good = good && count >= 1 && count <= server.config.reply_messages_max;
    }
    MUST(got == good, "numbers: %d", got);
    if (!good) return;
    if (wait > server.config.timeout_ms_max) wait = server.config.timeout_ms_max;
    MUST(ask.wait_ms == wait, "it waits %u ms, not %" PRIu64, ask.wait_ms, wait);
    MUST(ask.limit == (basic ? 1 : count), "the limit is %u", ask.limit);
}

static void request_init(lp_request *r, lpi_http *http, lpi_route *route, lp_slice path,
                         lp_slice query, const char *bytes)
{
    memset(r, 0, sizeof *r);
    memset(http, 0, sizeof *http);
    memset(route, 0, sizeof *route);
    loop.arena.memory = &lpi_libc_memory;
    server.config.timeout_ms = 30000;
    server.config.timeout_ms_max = 60000;
    server.config.reply_messages = 100;
    server.config.reply_messages_max = 1000;
    route->pattern = LPI_S("/api/poll/{channels}");
    http->path = lpi_span_of((size_t)(path.bytes - bytes), path.length);
    http->query = lpi_span_of((size_t)(query.bytes - bytes), query.length);
    http->escaped = strict_find(path, '%') < path.length ||
                    strict_find(query, '%') < query.length ||
                    strict_find(query, '+') < query.length;
    r->server = &server;
    r->loop = &loop;
    r->http = http;
    r->bytes = bytes;
    r->route = route;
    lpi_arena_clear(&loop.arena, 1);
}

static void check_ask(lp_slice text)
{
    static const char prefix[] = "/api/poll/";
    static char target[MOST + sizeof prefix];
    static answer a;
    lp_slice all, path, query, values[LPI_Q_KNOWN];
    lpi_poll_request ask;
    lp_request r;
    lpi_http http;
    lpi_route route;
    size_t mark;
    uint32_t i;
    int got, good;
    memcpy(target, prefix, sizeof prefix - 1);
    memcpy(target + sizeof prefix - 1, text.bytes, text.length);
    all = fuzz_guarded(&ask_pages, target, sizeof prefix - 1 + text.length);
    mark = strict_find(all, '?');
    path = strict_cut(all, 0, mark);
    query = strict_cut(all, mark < all.length ? mark + 1 : mark, all.length);
    if (path.length < sizeof prefix) return;
    text = strict_cut(path, sizeof prefix - 1, path.length);
    if (strict_find(text, '/') < text.length) return;
    a.count = 0;
    memset(a.value, 0, sizeof a.value);
    memset(&ask, 0, sizeof ask);
    request_init(&r, &http, &route, path, query, all.bytes);
    got = !lpi_poll_read_names(&r, &ask);
    good = simple_names(text, &a);
    MUST(got == good, "names: %d", got);
    for (i = 0; good && i < a.count; i++)
        MUST(i < ask.count && fuzz_same(ask.names[i], a.name[i]), "name %u", i);
    if (!good) a.count = 1;
    else MUST(ask.count == a.count, "%u names", ask.count);
    got = !lpi_poll_read_values(&r, values);
    good = simple_values(query, &a);
    MUST(got == good, "values: %d", got);
    if (!good) return;
    for (i = 0; i < LPI_Q_KNOWN; i++)
        MUST(!values[i].bytes == !a.value[i].bytes && fuzz_same(values[i], a.value[i]),
             "the value of %s", lpi_query_names[i].bytes);
    check_where(&a);
    check_numbers(&a, 0);
    check_numbers(&a, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lp_slice text;
    if (size > MOST) return 0;
    text = fuzz_guarded(&pages, data, size);
    check_decode(text);
    check_encode(text);
    check_uint(text);
    check_seconds(text, 0);
    check_seconds(text, 1);
    check_cursor(text);
    check_cursors(text, 1 + (uint32_t)(size % LPI_POLL_CHANNELS));
    check_ask(text);
    return 0;
}
