/* lookup.c: the JSON reader: where a path leads in a text, and what stands there.

   Input: a path, a line feed, and a text; without a line feed, the text alone, whose path is
   empty. The path is walked here too, by a reader of paths of its own and the recursive descent of
   reference.h, which tells members and elements; strings, whole numbers and doubles are read
   again by reference.h, in decimal, and by strtod. Then all that is in the value is iterated. */

#include "fuzz.h"
#include "reference.h"

enum { MOST = 2048 };

static fuzz_pages path_pages, text_pages, buffer_pages;

/* ---- a second reader ---- */

/* The inside of a string, as UTF-8, half surrogate pairs as three bytes. Returns whether there
   are none of those. */
BLIND static int meaning(lp_slice raw, char *to, size_t *length)
{
    *length = ref_decode(to, raw);
    return ref_join(to, length);
}

BLIND static lp_slice trimmed(const char *begin, const char *end)
{
    while (begin < end && strchr(" \t\r\n", *begin)) begin++;
    while (begin < end && strchr(" \t\r\n", end[-1])) end--;
    return lpi_slice_to(begin, end);
}

typedef struct part {
    lp_slice key, value; /* key.bytes NULL: an element */
} part;

static part parts[MOST];

/* Of an object or an array that is good. */
BLIND static uint32_t parts_of(lp_slice value)
{
    static ref_member members[REF_MEMBERS];
    uint32_t n = 0;
    ref r;
    if (value.bytes[0] == '{') {
        MUST(!ref_text(&r, value, members), "a value that is none");
        for (; n < r.count; n++) {
            const char *colon = members[n].key.bytes + members[n].key.length + 1;
            while (*colon != ':') colon++;
            parts[n].key = members[n].key;
            parts[n].value = trimmed(colon + 1, members[n].end);
        }
        return n;
    }
    memset(&r, 0, sizeof r);
    r.at = value.bytes;
    r.end = value.bytes + value.length;
    if (ref_take(&r, '[')) return 0;
    for (ref_space(&r); ref_peek(&r) != ']'; n++) {
        const char *begin = r.at;
        MUST(!ref_value(&r), "an element that is none");
        parts[n].key = lpi_slice(NULL, 0);
        parts[n].value = trimmed(begin, r.at);
        ref_space(&r);
        if (!ref_take(&r, ',')) ref_space(&r);
    }
    return n;
}

typedef struct step {
    char key[MOST];
    size_t length;
    int is_key, never; /* never: a key that no text has */
    unsigned __int128 index;
} step;

/* In brackets. 1, or -1. */
BLIND static int read_brackets(lp_slice path, size_t *at, step *s)
{
    ref r;
    int digits = 0;
    memset(&r, 0, sizeof r);
    r.at = path.bytes + *at + 1;
    r.end = path.bytes + path.length;
    s->is_key = ref_peek(&r) == '"';
    s->never = 0;
    s->index = 0;
    if (s->is_key) {
        const char *quote = r.at;
        if (ref_string(&r)) return -1;
        meaning(lpi_slice(quote + 1, (size_t)(r.at - quote) - 2), s->key, &s->length);
    } else {
        for (; ref_peek(&r) >= '0' && ref_peek(&r) <= '9'; r.at++) {
            if (digits++ && !s->index) return -1;
            s->index = s->index * 10 + (unsigned)(ref_peek(&r) - '0');
            if (s->index >> 64) return -1;
        }
        if (!digits) return -1;
    }
    if (ref_take(&r, ']')) return -1;
    *at = (size_t)(r.at - path.bytes);
    return 1;
}

/* The next step: 1, 0 for the end, or -1. */
BLIND static int read_step(lp_slice path, size_t *at, step *s)
{
    uint32_t code;
    size_t i, n;
    if (*at == path.length) return 0;
    if (path.bytes[*at] == '[') return read_brackets(path, at, s);
    if (*at && path.bytes[(*at)++] != '.') return -1;
    for (n = *at; n < path.length && !strchr(".[]\"", path.bytes[n]);) n++;
    s->is_key = 1;
    s->never = 0;
    s->length = n - *at;
    memcpy(s->key, path.bytes + *at, s->length);
    for (i = 0; i < s->length && !s->never; i += n ? n : 1) {
        n = fuzz_utf8(s->key + i, s->length - i, &code);
        s->never = !n;
    }
    *at += s->length;
    return s->length ? 1 : -1;
}

BLIND static lp_slice follow(lp_slice value, const step *s)
{
    static char key[MOST];
    lp_slice found = lpi_slice(NULL, 0);
    size_t length;
    uint32_t n, i;
    if (value.bytes[0] != (s->is_key ? '{' : '[')) return found;
    n = parts_of(value);
    if (!s->is_key) return s->index < n ? parts[s->index].value : found;
    for (i = n; i--;) {
        meaning(parts[i].key, key, &length);
        if (!s->never && fuzz_same(lpi_slice(key, length), lpi_slice(s->key, s->length)))
            return parts[i].value;
    }
    return found;
}

BLIND static lp_result walk(lp_slice text, lp_slice path, lp_slice *out)
{
    static step s;
    lp_slice value = trimmed(text.bytes, text.bytes + text.length);
    size_t at = 0;
    ref r;
    int more, good = !ref_text(&r, text, NULL);
    while ((more = read_step(path, &at, &s)) > 0)
        if (good && value.bytes) value = follow(value, &s);
    if (more) return LP_ERR_ARG;
    if (!good) return LP_ERR_JSON;
    *out = value;
    return value.bytes ? LP_OK : LP_ERR_NOT_FOUND;
}

/* ---- what stands there ---- */

static const char *path;
static lp_slice text, found;

/* A number as a whole one, by its digits: 0, or -1 if it is none or has more than 20. */
BLIND static int whole(lp_slice s, int *negative, unsigned __int128 *out)
{
    static char digits[MOST];
    size_t n = 0, i = 0, zeros = 0;
    long exponent = 0, sign = 1, shift = 0;
    *negative = s.bytes[0] == '-';
    if (*negative) i++;
    for (; i < s.length && s.bytes[i] != '.' && (s.bytes[i] | 32) != 'e'; i++)
        digits[n++] = s.bytes[i];
    if (i < s.length && s.bytes[i] == '.')
        for (i++; i < s.length && (s.bytes[i] | 32) != 'e'; i++, shift--) digits[n++] = s.bytes[i];
    if (i++ < s.length) {
        if (s.bytes[i] == '-') sign = -1;
        if (s.bytes[i] == '-' || s.bytes[i] == '+') i++;
        for (; i < s.length; i++)
            if (exponent < 100000) exponent = exponent * 10 + (s.bytes[i] - '0');
    }
    shift += sign * exponent;
    *out = 0;
    for (i = 0; i < n; i++)
        if (digits[i] != '0') break;
    if (i == n) return 0;
    while (digits[n - 1 - zeros] == '0') zeros++;
    if (shift + (long)zeros < 0 || (long)(n - i) + shift > 20) return -1;
    for (; (long)i < (long)n + shift; i++)
        *out = *out * 10 + (i < n ? (unsigned)(digits[i] - '0') : 0);
    return 0;
}

static void check_numbers(int is_number)
{
    static char copy[MOST + 1];
    unsigned __int128 magnitude = 0, top = (unsigned __int128)1 << 63;
    int negative = 0, none = !is_number || whole(found, &negative, &magnitude);
    int64_t i = 77;
    uint64_t u = 77;
    double d = 77, want;
    lp_result got = lp_json_get_int(text, path, &i);
    if (none || magnitude > top - !negative)
        MUST(got == LP_ERR_TYPE && i == 77, "%.*s is %" PRId64, (int)found.length, found.bytes, i);
    else
        MUST(got == LP_OK && (negative ? -(__int128)magnitude : (__int128)magnitude) == i,
             "%.*s is %" PRId64, (int)found.length, found.bytes, i);
    got = lp_json_get_uint(text, path, &u);
    if (none || magnitude >> 64 || (negative && magnitude))
        MUST(got == LP_ERR_TYPE && u == 77, "%.*s is %" PRIu64, (int)found.length, found.bytes, u);
    else MUST(got == LP_OK && u == magnitude, "a uint");
    got = lp_json_get_double(text, path, &d);
    memcpy(copy, found.bytes, found.length);
    copy[found.length] = 0;
    want = is_number ? strtod(copy, NULL) : 0;
    if (!is_number || want - want != 0) MUST(got == LP_ERR_TYPE && d == 77, "%s is a double", copy);
    else MUST(got == LP_OK && !memcmp(&d, &want, sizeof d), "%s is %.17g", copy, d);
}

/* Both a buffer that is just large enough and one that is a byte too small. */
static void check_string(lp_slice raw, const lp_json_iter *of)
{
    static char want[MOST];
    size_t length;
    int good = meaning(raw, want, &length), less;
    fuzz_pages_init(&buffer_pages);
    for (less = 0; less < 2; less++) {
        size_t size = length + 1 - (size_t)less;
        char *buffer = buffer_pages.end - size;
        lp_slice out = lpi_slice(NULL, 77);
        lp_result got = of ? lp_json_key_text(of, buffer, size, &out)
                           : lp_json_get_string(text, path, buffer, size, &out);
        if (good && !less)
            MUST(got == LP_OK && out.bytes == buffer && !buffer[length] &&
                     fuzz_same(out, lpi_slice(want, length)), "a string, decoded");
        else if (good) MUST(got == LP_ERR_TOO_LARGE && out.length == 77, "no room: %d", got);
        else MUST((got == LP_ERR_TYPE || got == LP_ERR_TOO_LARGE) && out.length == 77,
                  "half a pair");
        if (!good && !less) /* what stands for no text, with room for all of it */
            MUST((of ? lp_json_key_text(of, buffer_pages.begin, FUZZ_ROOM, &out)
                     : lp_json_get_string(text, path, buffer_pages.begin, FUZZ_ROOM, &out)) ==
                     LP_ERR_TYPE, "half a pair");
    }
}

static void check_value(void)
{
    static const char first[] = "ntf\"[{";
    static const lp_kind kinds[] = {LP_JSON_NULL, LP_JSON_BOOL, LP_JSON_BOOL, LP_JSON_STRING,
                                    LP_JSON_ARRAY, LP_JSON_OBJECT};
    const char *at = strchr(first, found.bytes[0]);
    lp_kind kind = at ? kinds[at - first] : LP_JSON_NUMBER;
    int yes = 77;
    char buffer[4];
    lp_slice out;
    lp_result got;
    MUST(lp_json_kind(found) == kind, "kind %d", lp_json_kind(found));
    check_numbers(kind == LP_JSON_NUMBER);
    got = lp_json_get_bool(text, path, &yes);
    if (kind == LP_JSON_BOOL) MUST(got == LP_OK && yes == (found.length == 4), "a bool");
    else MUST(got == LP_ERR_TYPE && yes == 77, "a bool: %d", got);
    if (kind == LP_JSON_STRING) check_string(lpi_slice(found.bytes + 1, found.length - 2), NULL);
    else MUST(lp_json_get_string(text, path, buffer, 4, &out) == LP_ERR_TYPE, "a string");
}

/* ---- what is in it ---- */

static void check_each(lp_slice value, int good)
{
    static char name[MOST + 1];
    lp_json_iter it;
    uint32_t n = 0, i = 0;
    int has_parts = good && (value.bytes[0] == '{' || value.bytes[0] == '[');
    if (has_parts) n = parts_of(value);
    lp_json_each(&it, value);
    MUST(it.result == (has_parts ? LP_OK : good ? LP_ERR_TYPE : LP_ERR_JSON), "each: %d",
         it.result);
    for (; lp_json_next(&it); i++) {
        size_t length;
        MUST(i < n, "more than there are");
        MUST(it.value.bytes == parts[i].value.bytes && it.value.length == parts[i].value.length,
             "value %u", i);
        MUST(it.key.bytes == parts[i].key.bytes && it.key.length == parts[i].key.length, "key %u",
             i);
        if (!it.key.bytes) continue;
        check_string(it.key, &it);
        memcpy(name, it.key.bytes, it.key.length);
        name[it.key.length] = 0;
        if (strchr(name, '\\')) MUST(!lp_json_key_is(&it, name), "a key as it is written");
        if (!meaning(it.key, name, &length) || memchr(name, 0, length)) continue;
        name[length] = 0;
        MUST(lp_json_key_is(&it, name), "a key is another");
        name[length] = 'x';
        name[length + 1] = 0;
        MUST(!lp_json_key_is(&it, name), "a key has a byte more");
        if (!length) continue;
        name[length - 1] = 0;
        MUST(!lp_json_key_is(&it, name), "a key has a byte less");
    }
    MUST(i == n && !lp_json_next(&it), "%u of %u", i, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char path_text[MOST + 1];
    const uint8_t *feed = size ? (const uint8_t *)memchr(data, '\n', size) : NULL;
    size_t length = feed ? (size_t)(feed - data) : 0, from = feed ? length + 1 : 0;
    lp_slice out = lpi_slice(NULL, 77), path_slice;
    lp_result want, got;
    if (size > MOST) return 0;
    memcpy(path_text, data, length);
    path_text[length] = 0;
    path_slice = fuzz_guarded(&path_pages, path_text, strlen(path_text) + 1);
    path = path_slice.bytes;
    path_slice.length--;
    text = fuzz_guarded(&text_pages, data + from, size - from);
    want = walk(text, path_slice, &found);
    got = lp_json_get(text, path, &out);
    MUST(got == want, "\"%s\" in \"%.*s\": %d, not %d", path, (int)text.length, text.bytes, got,
         want);
    if (got) MUST(out.length == 77, "an error that changes something");
    else MUST(out.bytes == found.bytes && out.length == found.length, "\"%s\" is \"%.*s\"", path,
              (int)out.length, out.bytes);
    if (!got) check_value();
    if (!got) check_each(found, 1);
    if (want == LP_ERR_JSON) check_each(text, 0);
    return 0;
}
