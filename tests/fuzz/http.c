/* http.c: the request parser and the chunk decoder.

   Input: a byte of options, a byte that says where to cut, then what a client sends. It is
   read whole, byte by byte and cut in two: all must give the same. What is accepted, what is refused and what is found in it must be as
   strict.h has it.

       bit 0     1: a chunked body alone, 0: requests
       bits 1-2  head limit: 16384, 64, 200, 400
       bits 3-4  body limit: 65536, 0, 5, 100 */

#include "fuzz.h"
#include "strict.h"

enum { REQUESTS = 3, SIZE_MOST = 65535 };

/* All that a reading gives: how each request was read, and the bodies. */
typedef struct reading {
    int result;    /* the last: 0 it wants more, or -STATUS                     */
    uint32_t count;
    size_t taken;  /* by whole requests                                         */
    uint64_t raw, decoded; /* by the chunk decoder, when it stopped             */
    struct {
        lpi_http http;
        size_t at, head, body; /* where it begins; how long they are            */
    } requests[REQUESTS];
    size_t bodies; /* bytes in `body`                                           */
    char body[SIZE_MOST + 1];
} reading;

typedef struct reader {
    reading *out;
    char *bytes;    /* of the request that comes                                */
    size_t length;  /* so many are here                                         */
    size_t origin;  /* where it begins in the text                              */
    size_t seen;    /* bytes of the text that were given                        */
    int chunks_only, in_body;
    uint32_t head_limit;
    uint64_t body_limit;
    size_t head;
    lpi_http http;
    lpi_chunked chunked;
} reader;

static fuzz_pages guarded, plain, origin;
static reading whole, other;

static void reader_init(reader *r, reading *out, int options)
{
    static const uint32_t heads[4] = {16384, 64, 200, 400};
    static const uint64_t bodies[4] = {65536, 0, 5, 100};
    out->result = 0;
    out->count = 0;
    out->taken = out->bodies = 0;
    out->raw = out->decoded = 0;
    r->out = out;
    r->length = r->origin = r->seen = r->head = 0;
    r->chunks_only = r->in_body = options & 1;
    r->head_limit = heads[options >> 1 & 3];
    r->body_limit = bodies[options >> 3 & 3];
    lpi_http_init(&r->http, r->head_limit);
    if (r->chunks_only) r->http.chunked = 1;
    lpi_chunked_init(&r->chunked, r->body_limit);
}

/* A request of so many bytes is whole, its body of `size` behind the head. */
static void reader_done(reader *r, size_t taken, size_t size, size_t behind)
{
    reading *out = r->out;
    MUST(taken && taken <= r->length, "a request takes %zu of %zu bytes", taken, r->length);
    MUST(out->bodies + size <= sizeof out->body, "a body is longer than what was sent");
    memcpy(out->body + out->bodies, r->bytes + r->head, size);
    out->bodies += size;
    out->requests[out->count].http = r->http;
    out->requests[out->count].at = r->origin;
    out->requests[out->count].head = r->head;
    out->requests[out->count].body = size;
    out->count++;
    r->bytes += taken;
    r->length -= taken;
    MUST(behind == r->length, "bytes are lost");
    r->origin = r->seen - behind;
    out->taken = r->origin;
    r->in_body = r->chunks_only;
    r->head = 0;
    lpi_http_init(&r->http, r->head_limit);
    if (r->chunks_only) r->http.chunked = 1;
    lpi_chunked_init(&r->chunked, r->body_limit);
}

/* 1: a head is complete; else what read_one returns. */
static int read_head(reader *r)
{
    int n = lpi_http_head(&r->http, r->bytes, r->length);
    if (n <= 0) return n;
    MUST((size_t)n <= r->length && (uint32_t)n <= r->head_limit, "a head of %d bytes", n);
    r->head = (size_t)n;
    r->in_body = 1;
    return 1;
}

/* As the server does: what was decoded stays, and what comes next is put behind it. */
static int read_chunks(reader *r)
{
    size_t at = r->head + (size_t)r->chunked.decoded, taken = SIZE_MAX;
    uint64_t raw = r->chunked.raw;
    char *body = r->bytes + at;
    int done = lpi_chunked_decode(&r->chunked, body, body, r->length - at, &taken);
    if (done < 0) return done;
    MUST(taken <= r->length - at, "%zu bytes taken of %zu", taken, r->length - at);
    MUST(r->chunked.raw - raw == taken, "raw bytes are miscounted");
    MUST(r->chunked.decoded <= r->body_limit, "the limit of the body");
    if (done) {
        reader_done(r, at + taken, (size_t)r->chunked.decoded, r->length - at - taken);
        return 1;
    }
    MUST(taken == r->length - at, "it wants more, and leaves some");
    r->length = r->head + (size_t)r->chunked.decoded;
    return 0;
}

/* 1: go on; 0: it needs more; or -STATUS. */
static int read_one(reader *r)
{
    size_t body;
    if (!r->in_body) return read_head(r);
    if (r->http.chunked) return read_chunks(r);
    if (r->http.content_length > r->body_limit) return -413;
    body = (size_t)r->http.content_length;
    if (r->length < r->head + body) return 0;
    reader_done(r, r->head + body, body, r->length - r->head - body);
    return 1;
}

/* Every round takes something, or is the last. */
static void read_on(reader *r)
{
    int result = 1;
    while (result == 1 && r->out->count < REQUESTS && (r->length || r->in_body))
        result = read_one(r);
    r->out->result = result == 1 ? 0 : result;
    r->out->raw = r->chunked.raw;
    r->out->decoded = r->chunked.decoded;
}

static int read_ends(const reader *r) { return r->out->result < 0 || r->out->count == REQUESTS; }

/* In pieces of which each ends where the readable memory does. */
static void read_in_two(reading *out, lp_slice text, size_t cut, int options)
{
    reader r;
    size_t pieces[2], i;
    pieces[0] = cut;
    pieces[1] = text.length - cut;
    reader_init(&r, out, options);
    fuzz_pages_init(&guarded);
    r.bytes = guarded.end;
    for (i = 0; i < 2 && !read_ends(&r); i++) {
        char *to = guarded.end - pieces[i] - r.length;
        memmove(to, r.bytes, r.length);
        if (pieces[i]) memcpy(to + r.length, text.bytes + r.seen, pieces[i]);
        r.bytes = to;
        r.length += pieces[i];
        r.seen += pieces[i];
        read_on(&r);
    }
}

/* At the front edge of the readable memory; behind what has come stands what a line ends
   with, so that looking ahead shows. */
static void read_bytewise(reading *out, lp_slice text, int options)
{
    reader r;
    reader_init(&r, out, options);
    fuzz_pages_init(&plain);
    r.bytes = plain.begin;
    while (r.seen < text.length && !read_ends(&r)) {
        r.bytes[r.length] = text.bytes[r.seen++];
        r.bytes[++r.length] = '\n';
        read_on(&r);
    }
}

/* ---- oracles ---- */

BLIND static int same_span(lpi_span a, lpi_span b) { return a.at == b.at && a.length == b.length; }

BLIND static void check_same_head(const lpi_http *a, const lpi_http *b)
{
    int i;
    MUST(a->method == b->method && a->minor == b->minor && a->absolute == b->absolute &&
             a->close == b->close && a->keep_alive == b->keep_alive && a->chunked == b->chunked &&
             a->expects == b->expects && a->content_length == b->content_length &&
             a->field_count == b->field_count && a->fields == b->fields && a->line == b->line,
         "a head's marks differ");
    MUST(same_span(a->method_text, b->method_text) && same_span(a->path, b->path) &&
             same_span(a->query, b->query) && same_span(a->authority, b->authority),
         "a head's parts differ");
    for (i = 0; i < LPI_F_KNOWN; i++)
        MUST(same_span(a->values[i], b->values[i]), "known field %d differs", i);
}

BLIND static void check_same(const reading *a, const reading *b, const char *how)
{
    uint32_t i;
    MUST(a->result == b->result, "%s: %d, whole: %d", how, b->result, a->result);
    MUST(a->count == b->count, "%s: %u requests, whole: %u", how, b->count, a->count);
    MUST(a->taken == b->taken, "%s: %zu bytes, whole: %zu", how, b->taken, a->taken);
    MUST(a->raw == b->raw && a->decoded == b->decoded, "%s: another end of the chunks", how);
    MUST(a->bodies == b->bodies && !memcmp(a->body, b->body, a->bodies), "%s: other bodies", how);
    for (i = 0; i < a->count; i++) {
        MUST(a->requests[i].at == b->requests[i].at && a->requests[i].head == b->requests[i].head &&
                 a->requests[i].body == b->requests[i].body, "%s: request %u", how, i);
        check_same_head(&a->requests[i].http, &b->requests[i].http);
    }
}

BLIND static lp_slice part(lp_slice head, lpi_span span)
{
    MUST((size_t)span.at + span.length <= head.length, "a part lies outside its head");
    return lpi_slice(head.bytes + span.at, span.length);
}

BLIND static void check_fields(const lpi_http *h, lp_slice head)
{
    static const char *const known[LPI_F_KNOWN] = {
        "host", "content-length", "transfer-encoding", "expect", "content-type", "authorization",
        "origin", "x-client-id", "content-encoding", "x-real-ip", "access-control-request-method",
        "connection", "x-forwarded-for"};
    lp_slice last[LPI_F_KNOWN], name, value;
    size_t at = h->fields, begin = at, count = 0, k;
    memset(last, 0, sizeof last);
    for (; lpi_http_next(h, head.bytes, &at, &name, &value); begin = at, count++) {
        const char *end = value.bytes + value.length;
        MUST(at > begin && at <= head.length && name.bytes == head.bytes + begin &&
                 head.bytes[begin - 1] == '\n', "fields out of order");
        MUST(name.length && name.bytes[name.length] == ':' && value.bytes > name.bytes + name.length,
             "a name's edges");
        MUST(end <= head.bytes + at - 2 && !memcmp(head.bytes + at - 2, "\r\n", 2) &&
                 strict_trim(value).length == value.length, "a value's edges");
        for (k = 0; k < name.length; k++)
            MUST(strict_tchar(strict_at(name, k)), "a name that is no token");
        for (k = 0; k < value.length; k++)
            MUST(strict_vchar(strict_at(value, k)), "a control character in a value");
        for (k = 0; k < LPI_F_KNOWN; k++)
            if (strict_is(name, known[k])) last[k] = value;
    }
    MUST(at + 2 == head.length && count == h->field_count, "the fields' end");
    for (k = 0; k < LPI_F_KNOWN; k++) {
        value = lpi_http_field(h, head.bytes, (lpi_field)k);
        MUST(value.bytes == last[k].bytes && value.length == last[k].length, "field %zu", k);
        MUST(lpi_http_has(h, (lpi_field)k) == (last[k].bytes != NULL), "whether field %zu is there",
             k);
    }
    MUST(!(last[LPI_F_LENGTH].bytes && last[LPI_F_TRANSFER_ENCODING].bytes), "two lengths accepted");
}

BLIND static void check_accepted(const lpi_http *h, lp_slice head, const strict_head *want)
{
    MUST(h->method < LPI_METHODS && lpi_equal(want->method, lp_s(strict_methods[h->method])),
         "the method");
    MUST(h->minor == want->minor && h->absolute == want->absolute && h->close == want->close &&
             h->keep_alive == want->keep_alive && h->chunked == want->chunked &&
             h->expects == want->expects && h->field_count == want->fields &&
             h->content_length == want->content_length, "marks");
    MUST(fuzz_same(part(head, h->method_text), want->method), "the method's text");
    MUST(fuzz_same(part(head, h->path), want->path), "the path");
    MUST(fuzz_same(part(head, h->query), want->query), "the query");
    MUST((h->query.at != 0) == (want->query.bytes != NULL), "whether there is a query");
    MUST(fuzz_same(part(head, h->authority), want->authority), "the authority");
    check_fields(h, head);
}

/* A refusal must have its reason in the text. */
BLIND static void check_refused(int status, lp_slice text, uint32_t limit)
{
    size_t first = strict_find(text, '\n'), line;
    if (!first || (first == 1 && text.bytes[0] == '\r'))
        first += 1 + strict_find(strict_cut(text, first + 1, text.length), '\n');
    switch (status) {
    case 400: case 417: case 501: case 505: return;
    case 414: MUST(text.length >= limit && first >= limit, "414 for a short line"); return;
    case 431:
        if (text.length >= limit) return;
        for (line = 0, first = 0; first < text.length; first++) line += text.bytes[first] == '\n';
        MUST(line > 100, "431 for %zu lines", line);
        return;
    default: MUST(0, "status %d", status);
    }
}

/* The chunked body at the text's beginning, as strict.h has it. Returns how much it takes. */
BLIND static size_t check_chunks(const reading *got, uint32_t i, lp_slice text, size_t body_at,
                           uint64_t limit)
{
    static char body[SIZE_MOST + 1];
    strict_chunks c;
    int result;
    memset(&c, 0, sizeof c);
    c.text = text;
    c.limit = limit;
    c.body = body;
    result = strict_body(&c);
    MUST((result == 1) == (i < got->count), "chunks: strict says %d", result);
    if (result < 0) MUST(got->result < 0, "bad chunks wait for more");
    if (!result) MUST(!got->result, "chunks that could go on: %d", got->result);
    if (result < 0)
        MUST(got->result == -400 || got->result == -413 || got->result == -431, "chunks: %d",
             got->result);
    if (result != 1) return SIZE_MAX;
    MUST(c.length == got->requests[i].body && !memcmp(body, got->body + body_at, c.length),
         "chunks decoded wrongly");
    return c.at;
}

/* The request at the text's beginning. Returns how much it takes, SIZE_MAX: it is the last. */
BLIND static size_t check_request(const reading *got, uint32_t i, lp_slice text, size_t body_at,
                            uint32_t head_limit, uint64_t body_limit)
{
    size_t end = strict_end(text), taken;
    strict_head want;
    if (!end || end > head_limit || !strict_read(strict_cut(text, 0, end), &want)) {
        MUST(i == got->count, "a bad head is accepted");
        if (end || text.length >= head_limit || !strict_begins(text))
            MUST(got->result < 0, "a bad head waits for more");
        if (got->result) check_refused(-got->result, text, head_limit);
        return SIZE_MAX;
    }
    if (i == got->count && !want.chunked) {
        if (want.content_length > body_limit) MUST(got->result == -413, "a long body is awaited");
        else MUST(!got->result && want.content_length > text.length - end, "a good head: %d",
                  got->result);
        return SIZE_MAX;
    }
    if (i < got->count) {
        MUST(got->requests[i].head == end, "a head of %zu bytes: %zu", end, got->requests[i].head);
        check_accepted(&got->requests[i].http, strict_cut(text, 0, end), &want);
    }
    text = strict_cut(text, end, text.length);
    if (want.chunked) {
        taken = check_chunks(got, i, text, body_at, body_limit);
        return taken == SIZE_MAX ? taken : end + taken;
    }
    MUST(want.content_length == got->requests[i].body, "the body's length");
    MUST(!memcmp(got->body + body_at, text.bytes, got->requests[i].body), "the body");
    return end + got->requests[i].body;
}

BLIND static void check_against_strict(const reading *got, lp_slice text, const reader *limits)
{
    size_t at = 0, bodies = 0, taken;
    uint32_t i;
    for (i = 0; i < REQUESTS && at < text.length; i++) {
        lp_slice rest = strict_cut(text, at, text.length);
        if (limits->chunks_only)
            taken = check_chunks(got, i, rest, bodies, limits->body_limit);
        else
            taken = check_request(got, i, rest, bodies, limits->head_limit, limits->body_limit);
        if (taken == SIZE_MAX) break;
        MUST(got->requests[i].at == at, "a request begins at %zu", got->requests[i].at);
        at += taken;
        bodies += got->requests[i].body;
    }
    MUST(i == got->count && at == got->taken, "%u requests of %zu bytes; strict has %u of %zu",
         got->count, got->taken, i, at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader limits;
    lp_slice text;
    size_t cut;
    if (size < 2 || size - 2 > SIZE_MOST) return 0;
    text = fuzz_guarded(&origin, data + 2, size - 2);
    cut = text.length < 255 ? data[1] % (text.length + 1) : text.length * data[1] / 255;
    read_in_two(&whole, text, text.length, data[0]);
    read_in_two(&other, text, cut, data[0]);
    check_same(&whole, &other, "cut in two");
    read_bytewise(&other, text, data[0]);
    check_same(&whole, &other, "byte by byte");
    reader_init(&limits, &other, data[0]);
    check_against_strict(&whole, text, &limits);
    return 0;
}
