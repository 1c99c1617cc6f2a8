/* form.c: what forms, cookies and numbers in the query are.

   Input: a name, and behind line feeds the lists of two Cookie fields, a query, and the body of a
   form (which may have line feeds in it). What lp_cookie, lp_query_int and lp_form give is
   compared with simple readers here, which go through the text from its end, or byte by byte. */

#include "fuzz.h"
#include "strict.h"

enum { MOST = 4096 };

static fuzz_pages head_pages, body_pages, name_pages;
static lp_server server;
static lpi_loop loop;
static lpi_route route;

/* ---- the second readers ---- */

/* The last pair that matches, from the end, is the first. */
BLIND static int simple_cookie(lp_slice list, lp_slice name, lp_slice *out)
{
    size_t end = list.length, begin;
    int found = 0;
    for (;; end = begin - 1) {
        lp_slice pair, value;
        size_t equals;
        for (begin = end; begin && list.bytes[begin - 1] != ';';) begin--;
        pair = strict_trim(strict_cut(list, begin, end));
        equals = strict_find(pair, '=');
        if (equals < pair.length && name.length && fuzz_same(strict_cut(pair, 0, equals), name)) {
            value = strict_cut(pair, equals + 1, pair.length);
            if (value.length >= 2 && strict_at(value, 0) == '"' &&
                strict_at(value, value.length - 1) == '"')
                value = strict_cut(value, 1, value.length - 1);
            *out = value;
            found = 1;
        }
        if (!begin) return found;
    }
}

/* The value as it stands. */
BLIND static int simple_find(lp_slice pairs, lp_slice name, lp_slice *out)
{
    static char text[MOST];
    while (pairs.length) {
        lp_slice one = strict_cut(pairs, 0, strict_find(pairs, '&'));
        size_t equals = strict_find(one, '=');
        long n = strict_decode(text, strict_cut(one, 0, equals), 1);
        if (n >= 0 && one.length && equals <= 3 * 64 && fuzz_same(lpi_slice(text, (size_t)n), name)) {
            *out = strict_cut(one, equals < one.length ? equals + 1 : equals, one.length);
            return 1;
        }
        pairs = strict_cut(pairs, one.length + (one.length < pairs.length), pairs.length);
    }
    return 0;
}

/* -?(0|[1-9][0-9]*), in the range of an int64_t: by the text of the ends of it. */
BLIND static int simple_int(lp_slice s, int64_t *out)
{
    static const char *const ends[] = {"9223372036854775807", "9223372036854775808"};
    size_t sign = s.length && s.bytes[0] == '-', i;
    lp_slice digits = strict_cut(s, sign, s.length);
    int64_t value = 0;
    if (!digits.length || (digits.length > 1 && digits.bytes[0] == '0')) return 0;
    for (i = 0; i < digits.length; i++)
        if (!strict_digit(digits.bytes[i])) return 0;
    if (digits.length > 19 || (digits.length == 19 && memcmp(digits.bytes, ends[sign], 19) > 0))
        return 0;
    for (i = 0; i < digits.length; i++)
        value = value * 10 + (sign ? -1 : 1) * (digits.bytes[i] - '0');
    *out = value;
    return 1;
}

/* ---- a request ---- */

typedef struct input {
    lp_slice name, lists[2], query, body;
} input;

static lp_slice take_line(lp_slice *rest)
{
    lp_slice line = strict_cut(*rest, 0, strict_find(*rest, '\n'));
    *rest = strict_cut(*rest, line.length + (line.length < rest->length), rest->length);
    return line;
}

/* The head, if it is good; else NULL. */
static const char *make_head(const input *in, const char *type, lpi_http *http)
{
    static char text[MOST + 200];
    size_t n = (size_t)sprintf(text, "POST /?");
    lp_slice head;
    int i;
    memcpy(text + n, in->query.bytes, in->query.length);
    n += in->query.length;
    n += (size_t)sprintf(text + n, " HTTP/1.1\r\nHost: h\r\nContent-Type:%s\r\n", type);
    for (i = 0; i < 2; i++) {
        n += (size_t)sprintf(text + n, i ? "cOOKIE:" : "Cookie:");
        memcpy(text + n, in->lists[i].bytes, in->lists[i].length);
        n += in->lists[i].length;
        n += (size_t)sprintf(text + n, "\r\nX:y\r\n");
    }
    n += (size_t)sprintf(text + n, "\r\n");
    head = fuzz_guarded(&head_pages, text, n);
    lpi_http_init(http, 65535);
    return lpi_http_head(http, head.bytes, n) == (int)n ? head.bytes : NULL;
}

static void check_slice(lp_slice got, int found, lp_slice want, const char *what)
{
    if (!found) MUST(!got.bytes && !got.length, "%s: there is none", what);
    else MUST(got.bytes && fuzz_same(got, want), "%s: \"%.*s\"", what, (int)got.length, got.bytes);
}

static void check_query(const input *in, lp_request *r, const char *name)
{
    static char text[MOST];
    lp_slice raw = lpi_slice(NULL, 0), value = raw;
    int64_t got = 77, want = 77;
    lp_result result = lp_query_int(r, name, &got);
    int found = simple_find(in->query, lp_s(name), &raw);
    long n = found ? strict_decode(text, raw, 1) : -1;
    if (n >= 0) value = lpi_slice(text, (size_t)n);
    check_slice(lp_query(r, name), n >= 0, value, "a query");
    if (!found) MUST(result == LP_ERR_NOT_FOUND && got == 77, "a number: %d", result);
    else if (n < 0 || !simple_int(value, &want))
        MUST(result == LP_ERR_TYPE && got == 77, "a number: %d", result);
    else MUST(result == LP_OK && got == want, "%" PRId64 ", not %" PRId64, got, want);
}

static void check_form(const input *in, lp_request *r, const char *name, int is_form)
{
    static char text[MOST];
    lp_slice raw = lpi_slice(NULL, 0);
    int found = is_form && simple_find(in->body, lp_s(name), &raw);
    long n = found ? strict_decode(text, raw, 1) : -1;
    check_slice(lp_form(r, name), n >= 0, lpi_slice(text, n < 0 ? 0 : (size_t)n), "a form");
}

static void check_request(const input *in, int is_form)
{
    static const char *const types[] = {"text/plain",
                                        " application/x-WWW-form-urlencoded; charset=utf-8"};
    static char name_text[MOST + 1];
    const char *name;
    lp_slice value = lpi_slice(NULL, 0);
    lp_request r;
    lpi_http http;
    int found;
    memcpy(name_text, in->name.bytes, in->name.length);
    name_text[in->name.length] = 0;
    name = fuzz_guarded(&name_pages, name_text, strlen(name_text) + 1).bytes;
    memset(&r, 0, sizeof r);
    loop.arena.memory = &lpi_libc_memory;
    lpi_arena_clear(&loop.arena, 1);
    r.server = &server;
    r.loop = &loop;
    r.route = &route;
    r.http = &http;
    r.bytes = make_head(in, types[is_form], &http);
    r.body = in->body;
    if (!r.bytes) return;
    found = simple_cookie(in->lists[0], lp_s(name), &value) ||
            simple_cookie(in->lists[1], lp_s(name), &value);
    check_slice(lp_cookie(&r, name), found, value, "a cookie");
    check_query(in, &r, name);
    check_form(in, &r, name, is_form);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lp_slice rest = lpi_slice((const char *)data, size);
    input in;
    if (size > MOST) return 0;
    in.name = take_line(&rest);
    in.lists[0] = take_line(&rest);
    in.lists[1] = take_line(&rest);
    in.query = take_line(&rest);
    in.body = fuzz_guarded(&body_pages, rest.bytes, rest.length);
    check_request(&in, 1);
    check_request(&in, 0);
    return 0;
}
