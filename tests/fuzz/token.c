/* token.c: signed tokens: which text is one, what it says, and what its patterns match.

   Input: a first byte, and behind it
     a text, as it is                            '!': it must be no token, unless it is signed
     the payload of a token                      anything else
   A payload is signed here. The token must be taken if, and only if, a second reading of the
   payload finds it good, and it must say the same; with a character changed, which the first byte
   chooses, it must be refused. Its first pattern is matched against its other ones in two ways. */

#include "fuzz.h"
#include "reference.h"
#include "token.h"

enum { MOST = 3000 };

static fuzz_pages text_pages, payload_pages;
static lpi_token token;

static int take(lp_slice text)
{
    lpi_hmac key;
    lpi_hmac_init(&key, lp_s(token_secret));
    memset(&token, 0x55, sizeof token);
    return !lpi_token_read(&token, fuzz_guarded(&text_pages, text.bytes, text.length), &key);
}

/* ---- the second reading ---- */

typedef struct said {
    lp_slice patterns[LPI_TOKEN_PATTERNS];
    uint32_t pattern_count, actions;
    uint64_t ends_us, begins_us;
} said;

static char decoded[4 * MOST];
static size_t decoded_length;

BLIND static int read_string(ref *r, lp_slice *out)
{
    const char *begin = r->at + 1;
    size_t length;
    if (ref_peek(r) != '"' || ref_string(r)) return -1;
    length = ref_decode(decoded + decoded_length, lpi_slice(begin, (size_t)(r->at - 1 - begin)));
    if (!ref_join(decoded + decoded_length, &length)) return -1;
    *out = lpi_slice(decoded + decoded_length, length);
    decoded_length += length;
    return 0;
}

/* A list of strings, at most `max`. Returns how many, or -1. */
BLIND static int read_strings(ref *r, lp_slice *out, int max)
{
    int n = 0;
    if (ref_take(r, '[')) return -1;
    for (;;) {
        ref_space(r);
        if (n == max || read_string(r, &out[n])) return -1;
        n++;
        ref_space(r);
        if (!ref_take(r, ']')) return n;
        if (ref_take(r, ',')) return -1;
    }
}

/* A number of seconds without an exponent, as microseconds, rounded up; of very large ones the
   limit. */
BLIND static int read_seconds(ref *r, uint64_t *out)
{
    unsigned __int128 us = 0, limit = (unsigned __int128)1000000000000u * 1000000;
    int digits = 0, more = 0, c;
    for (c = ref_peek(r); c >= '0' && c <= '9'; digits++, r->at++, c = ref_peek(r))
        if (us < limit * 10) us = us * 10 + (unsigned)(c - '0');
    if (!digits) return -1;
    us = us > limit / 1000000 ? limit : us * 1000000;
    if (!ref_take(r, '.')) {
        uint32_t unit = 100000;
        for (c = ref_peek(r); c >= '0' && c <= '9'; unit /= 10, r->at++, c = ref_peek(r)) {
            us += (unsigned)(c - '0') * unit;
            if (!unit && c != '0') more = 1;
        }
    }
    c = ref_peek(r);
    *out = (uint64_t)us + (uint64_t)more;
    return c == 'e' || c == 'E' ? -1 : 0;
}

BLIND static int read_actions(ref *r, said *s)
{
    static lp_slice actions[MOST];
    int n = read_strings(r, actions, MOST), i;
    for (i = 0; i < n; i++) {
        if (fuzz_same(actions[i], lp_s("poll"))) s->actions |= 1;
        else if (fuzz_same(actions[i], lp_s("publish"))) s->actions |= 2;
        else if (fuzz_same(actions[i], lp_s("admin"))) s->actions |= 4;
        else return -1;
    }
    return n > 0 ? 0 : -1;
}

BLIND static int read_member(const ref_member *m, said *s, uint32_t *seen)
{
    static const char *const names[] = {"exp", "nbf", "channels", "actions"};
    static char key[4 * MOST];
    lp_slice name = lpi_slice(key, ref_decode(key, m->key));
    int i, n;
    ref r;
    for (i = 0; i < 4 && !fuzz_same(name, lp_s(names[i]));) i++;
    if (i == 4) return 0;
    if (*seen >> i & 1) return -1;
    *seen |= 1u << i;
    memset(&r, 0, sizeof r);
    r.at = m->key.bytes + m->key.length + 1;
    r.end = m->end;
    ref_space(&r);
    ref_take(&r, ':');
    ref_space(&r);
    if (i == 0) return read_seconds(&r, &s->ends_us);
    if (i == 1) return read_seconds(&r, &s->begins_us);
    if (i == 3) return read_actions(&r, s);
    n = read_strings(&r, s->patterns, LPI_TOKEN_PATTERNS);
    if (n > 0) s->pattern_count = (uint32_t)n;
    return n > 0 ? 0 : -1;
}

/* Whether the payload is good, and what it says. */
BLIND static int read_payload(lp_slice text, said *s)
{
    static ref_member members[REF_MEMBERS];
    uint32_t seen = 0, i;
    ref r;
    memset(s, 0, sizeof *s);
    decoded_length = 0;
    if (ref_text(&r, text, members) || !r.is_object) return 0;
    for (i = 0; i < r.count; i++)
        if (read_member(&members[i], s, &seen)) return 0;
    return (seen | 2) == 15;
}

/* ---- patterns ---- */

/* By a table: may the first i bytes of the pattern stand for the first k of the name? */
BLIND static int matches(lp_slice pattern, lp_slice name)
{
    static uint8_t may[MOST + 1];
    size_t i, k;
    memset(may, 0, name.length + 1);
    may[0] = 1;
    for (i = 0; i < pattern.length; i++) {
        if (pattern.bytes[i] == '*') {
            for (k = 1; k <= name.length; k++) may[k] |= may[k - 1];
            continue;
        }
        for (k = name.length; k; k--) may[k] = may[k - 1] && name.bytes[k - 1] == pattern.bytes[i];
        may[0] = 0;
    }
    return may[name.length];
}

static void check_patterns(const said *s)
{
    uint32_t i, action;
    for (i = 0; i < s->pattern_count; i++) {
        lp_slice name = s->patterns[i];
        int any = 0, got = lpi_token_matches(s->patterns[0], name);
        uint32_t k;
        MUST(got == matches(s->patterns[0], name), "\"%.*s\" and \"%.*s\": %d",
             (int)s->patterns[0].length, s->patterns[0].bytes, (int)name.length, name.bytes, got);
        for (k = 0; k < s->pattern_count; k++)
            any |= name.length ? matches(s->patterns[k], name)
                               : fuzz_same(s->patterns[k], lp_s("*"));
        for (action = 0; action < 3; action++)
            MUST(lpi_token_covers(&token, (lp_action)action, name) ==
                     (any && s->actions >> action & 1), "what it covers");
    }
}

/* ---- payloads ---- */

static void check_payload(lp_slice text, uint8_t choice)
{
    static char signed_text[2 * TOKEN_ROOM], payload[MOST + 1];
    static const char *const headers[] = {"{\"alg\":\"HS256\",\"typ\":\"JWT\"}",
                                          "{\"typ\":\"JWT\",\"alg\":\"HS256\"}",
                                          "{\"alg\":\"HS256\"}", "{\"alg\":\"none\"}"};
    said s;
    int good;
    size_t length, at;
    uint32_t i;
    if (memchr(text.bytes, 0, text.length)) return; /* token_sign() takes a string */
    memcpy(payload, text.bytes, text.length);
    payload[text.length] = 0;
    token_sign(signed_text, token_secret, headers[choice & 3], payload);
    length = strlen(signed_text);
    good = read_payload(fuzz_guarded(&payload_pages, text.bytes, text.length), &s);
    good = good && (choice & 3) != 3 && length <= LPI_TOKEN_BYTES;
    MUST(take(lpi_slice(signed_text, length)) == good, "a second reading: %d", good);
    if (good) {
        MUST(token.ends_us == s.ends_us && token.begins_us == s.begins_us,
             "its time: %" PRIu64 " and %" PRIu64 ", not %" PRIu64 " and %" PRIu64, token.ends_us,
             token.begins_us, s.ends_us, s.begins_us);
        MUST(token.actions == s.actions && token.pattern_count == s.pattern_count, "its lists");
        for (i = 0; i < s.pattern_count; i++)
            MUST(fuzz_same(token.patterns[i], s.patterns[i]), "pattern %u", i);
        check_patterns(&s);
    }
    at = (size_t)choice * 7919 % length;
    signed_text[at] = signed_text[at] == 'A' ? 'B' : 'A';
    MUST(!take(lpi_slice(signed_text, length)), "with character %zu changed", at);
}

/* ---- any text ---- */

/* What is taken is what its parts are signed to. */
static void check_text(lp_slice text)
{
    static char again[2 * TOKEN_ROOM], header[TOKEN_ROOM], payload[TOKEN_ROOM];
    const char *dot, *second;
    long n;
    if (!take(text)) return;
    dot = (const char *)memchr(text.bytes, '.', text.length);
    second = (const char *)memchr(dot + 1, '.', text.length - (size_t)(dot + 1 - text.bytes));
    n = lpi_base64url_decode(header, lpi_slice_to(text.bytes, dot));
    header[n < 0 ? 0 : n] = 0;
    n = lpi_base64url_decode(payload, lpi_slice_to(dot + 1, second));
    payload[n < 0 ? 0 : n] = 0;
    token_sign(again, token_secret, header, payload);
    MUST(fuzz_same(text, lp_s(again)), "a token in another form");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lp_slice text;
    if (!size || size > MOST) return 0;
    text = lpi_slice((const char *)data + 1, size - 1);
    if (*data == '!') check_text(text);
    else check_payload(text, *data);
    return 0;
}
