/* resp.c: the reader of what a Redis server sends.

   Input: a byte that says how many bytes come at a time, one that says where to cut in two,
   then what the server sends. It is read whole, in pieces and cut in two, one reply after
   another: all must give the same, and what a reader here gives that goes over it by
   recursive descent. Each whole reply is taken apart: its elements are those of that reader,
   and their lengths add up. Then the same bytes are words of a command: what is written must
   read as one array of them. */

#include "fuzz.h"

enum { MOST = 1 << 14, REPLIES = 64 };

static fuzz_pages pages, pieces, plain;

/* ---- the same by recursive descent. It keeps what it finds as offsets ---- */

typedef struct ref_value {
    int kind; /* the byte that it begins with, or 0 for a null */
    int64_t number;
    size_t at, length;
} ref_value;

typedef struct ref {
    lp_slice text;
    size_t at;
    ref_value values[MOST];
    size_t count;
} ref;

enum { REF_BAD = -1, REF_CUT, REF_GOOD };

/* What stands up to CR LF, which ends within 4096 bytes. */
BLIND static int ref_line(ref *r, lp_slice *out)
{
    size_t i;
    for (i = r->at; i < r->text.length && i < r->at + 4096; i++) {
        if (r->text.bytes[i] != '\n') continue;
        if (i < r->at + 2 || r->text.bytes[i - 1] != '\r') return REF_BAD;
        *out = lpi_slice(r->text.bytes + r->at + 1, i - r->at - 2);
        r->at = i + 1;
        return REF_GOOD;
    }
    return i - r->at == 4096 ? REF_BAD : REF_CUT;
}

/* As text: no value is computed before it is known to fit. */
BLIND static int ref_number(lp_slice s, int64_t *out)
{
    static const char most[] = "9223372036854775807";
    int negative = s.length && s.bytes[0] == '-';
    size_t i;
    if (negative) s = lpi_slice(s.bytes + 1, s.length - 1);
    if (!s.length || s.length > 19 || (s.length > 1 && s.bytes[0] == '0')) return REF_BAD;
    for (i = 0; i < s.length; i++)
        if (s.bytes[i] < '0' || s.bytes[i] > '9') return REF_BAD;
    if (s.length == 19 && memcmp(s.bytes, most, 19) > 0) return REF_BAD;
    *out = 0;
    for (i = 0; i < s.length; i++) *out = *out * 10 + (s.bytes[i] - '0');
    if (negative) *out = -*out;
    return REF_GOOD;
}

BLIND static int ref_text(ref *r, ref_value *v)
{
    size_t left = r->text.length - r->at;
    if (v->number > 16 * 1024 * 1024 + 64 * 1024) return REF_BAD;
    if (left < (size_t)v->number + 2) return REF_CUT;
    v->at = r->at;
    v->length = (size_t)v->number;
    r->at += v->length + 2;
    return r->text.bytes[r->at - 2] == '\r' && r->text.bytes[r->at - 1] == '\n' ? REF_GOOD
                                                                                : REF_BAD;
}

BLIND static int ref_reply(ref *r, int depth)
{
    ref_value *v = &r->values[r->count];
    lp_slice line;
    int64_t i;
    int result;
    if (r->at == r->text.length) return REF_CUT;
    v->kind = r->text.bytes[r->at];
    v->number = 0;
    v->length = 0;
    if (!v->kind || !strchr("+-:$*", v->kind)) return REF_BAD;
    result = ref_line(r, &line);
    if (result != REF_GOOD) return result;
    if (v->kind == '+' || v->kind == '-') {
        v->at = (size_t)(line.bytes - r->text.bytes);
        v->length = line.length;
    } else if (ref_number(line, &v->number) != REF_GOOD) {
        return REF_BAD;
    } else if (v->kind != ':' && v->number == -1) {
        v->kind = 0;
    } else if (v->kind != ':' && v->number < 0) {
        return REF_BAD;
    } else if (v->kind == '$') {
        result = ref_text(r, v);
        if (result != REF_GOOD) return result;
    }
    if (++r->count > 4096) return REF_BAD;
    if (v->kind != '*' || !v->number) return REF_GOOD;
    if (depth == 4 || v->number > 4096) return REF_BAD;
    for (i = 0; i < v->number; i++) {
        result = ref_reply(r, depth + 1);
        if (result != REF_GOOD) return result;
    }
    return REF_GOOD;
}

/* ---- reading in pieces, as lpi_redis_parse() does ---- */

typedef struct reading {
    size_t ends[REPLIES], count; /* where each whole reply ends */
    int bad;
} reading;

/* Bytes come up to each multiple of `step`, and up to `cut`. No byte behind them may be
   looked at. */
static void read_in_pieces(reading *out, lp_slice text, size_t step, size_t cut)
{
    size_t begin = 0, come = 0;
    lpi_resp resp;
    memset(&resp, 0, sizeof resp);
    memset(out, 0, sizeof *out);
    for (;;) {
        lp_slice here = fuzz_guarded(&pieces, text.bytes + begin, come - begin);
        long n = lpi_resp_read(&resp, here.bytes, here.length);
        MUST(resp.at <= here.length, "it reads on behind the end");
        if (n < 0) {
            out->bad = 1;
            return;
        }
        if (n) {
            MUST((size_t)n == resp.at && !resp.depth, "a reply of %ld bytes ends at %zu", n,
                 resp.at);
            begin += (size_t)n;
            out->ends[out->count++] = begin;
            if (out->count == REPLIES) return;
            memset(&resp, 0, sizeof resp);
            continue;
        }
        if (come == text.length) return;
        n = (long)(come + step - come % step);
        if (come < cut && cut < (size_t)n) n = (long)cut;
        come = (size_t)n < text.length ? (size_t)n : text.length;
    }
}

BLIND static void check_same(const reading *a, const reading *b, const char *how)
{
    MUST(a->count == b->count && a->bad == b->bad, "%s: %zu replies, bad %d; whole: %zu, %d", how,
         b->count, b->bad, a->count, a->bad);
    MUST(!memcmp(a->ends, b->ends, a->count * sizeof *a->ends), "%s: a reply ends elsewhere", how);
}

/* ---- taking apart ---- */

BLIND static int kind_of(const ref_value *v)
{
    switch (v->kind) {
    case '+': return LPI_RESP_STATUS;
    case '-': return LPI_RESP_ERROR;
    case ':': return LPI_RESP_NUMBER;
    case '$': return LPI_RESP_TEXT;
    case '*': return LPI_RESP_ARRAY;
    default: return LPI_RESP_NULL;
    }
}

static void check_taken(const ref *r, lp_slice reply)
{
    lp_slice rest = fuzz_guarded(&pages, reply.bytes, reply.length);
    lpi_resp_value v;
    uint64_t number;
    size_t i;
    for (i = 0; i < r->count; i++) {
        const ref_value *want = &r->values[i];
        int kind = kind_of(want);
        MUST(rest.length, "nothing is left for element %zu of %zu", i, r->count);
        v = lpi_resp_take(&rest);
        MUST((int)v.kind == kind, "element %zu is a %d, not a %d", i, (int)v.kind, kind);
        if (kind == LPI_RESP_NUMBER || kind == LPI_RESP_ARRAY)
            MUST(v.number == want->number, "element %zu is %" PRId64, i, v.number);
        else
            MUST(fuzz_same(v.text, lpi_slice(r->text.bytes + want->at, want->length)),
                 "the text of element %zu", i);
    }
    MUST(!rest.length, "%zu bytes are left", rest.length);
    v = lpi_resp_take(&rest);
    MUST(v.kind == LPI_RESP_NULL && !v.text.length && !rest.length, "more behind the end");
    MUST(lpi_resp_take_uint(&rest, &number), "a number behind the end");
}

/* The replies of the reference, each against what was read. */
static void check_against_ref(const reading *whole, lp_slice text)
{
    static ref r;
    size_t i, at = 0;
    for (i = 0;; i++) {
        int result;
        if (i == REPLIES) return;
        r.text = lpi_slice(text.bytes + at, text.length - at);
        r.at = r.count = 0;
        result = ref_reply(&r, 0);
        if (result != REF_GOOD) {
            MUST(i == whole->count && whole->bad == (result == REF_BAD),
                 "%zu replies, bad %d; the reference: %zu, %d", whole->count, whole->bad, i,
                 result);
            return;
        }
        MUST(i < whole->count && whole->ends[i] == at + r.at, "reply %zu is not read", i);
        check_taken(&r, lpi_slice(text.bytes + at, r.at));
        at += r.at;
    }
}

/* ---- writing: words of the input, split at one of its bytes ---- */

static void check_command(lp_slice text, char split)
{
    static lp_text out;
    static int ready;
    lp_slice rest, word;
    lpi_resp resp;
    lpi_resp_value v;
    size_t words = 1, i;
    if (!ready) lpi_text_init(&out, &lpi_libc_memory);
    ready = 1;
    lpi_text_clear(&out);
    for (i = 0; i < text.length; i++) words += text.bytes[i] == split;
    if (words > 1000) return;
    lpi_resp_command(&out, words);
    for (i = 0, word = lpi_slice(text.bytes, 0); i <= text.length; i++) {
        if (i < text.length && text.bytes[i] != split) {
            word.length++;
            continue;
        }
        lpi_resp_word(&out, word);
        if (i < text.length) word = lpi_slice(text.bytes + i + 1, 0);
    }
    MUST(!out.failed, "no memory");
    rest = fuzz_guarded(&pages, out.bytes, out.length);
    memset(&resp, 0, sizeof resp);
    MUST(lpi_resp_read(&resp, rest.bytes, rest.length) == (long)rest.length,
         "a command is no reply");
    v = lpi_resp_take(&rest);
    MUST(v.kind == LPI_RESP_ARRAY && v.number == (int64_t)words, "an array of %" PRId64, v.number);
    for (i = 0; words--; i += v.text.length + 1) {
        v = lpi_resp_take(&rest);
        MUST(v.kind == LPI_RESP_TEXT && i + v.text.length <= text.length &&
                 fuzz_same(v.text, lpi_slice(text.bytes + i, v.text.length)), "a word");
    }
    MUST(i == text.length + 1 && !rest.length, "words are lost");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static reading whole, other;
    lp_slice text;
    size_t cut;
    if (size < 2 || size - 2 > MOST) return 0;
    text = fuzz_guarded(&plain, data + 2, size - 2);
    cut = text.length < 255 ? data[1] % (text.length + 1) : text.length * data[1] / 255;
    read_in_pieces(&whole, text, MOST + 1, 0);
    read_in_pieces(&other, text, MOST + 1, cut);
    check_same(&whole, &other, "cut in two");
    read_in_pieces(&other, text, 1 + data[0] % 17u, cut);
    check_same(&whole, &other, "in pieces");
    check_against_ref(&whole, text);
    check_command(text, (char)data[1]);
    return 0;
}
