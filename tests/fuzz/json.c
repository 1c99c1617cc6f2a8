/* json.c: the validator, the message that is made of what it lets pass, and the emitter.

   Input: a text. It is validated, by the library and by reference.h, which must agree on
   whether it is good and on the byte that is not. If it is an object it becomes a message,
   compared byte for byte with one put together here; if it is an array, it becomes as many
   messages as it has objects, or is bad at the same byte. Then the same bytes are taken as a
   string to be emitted, and as a program for the emitter: what comes out must validate, and
   mean what went in. */

#include "fuzz.h"
#include "reference.h"

enum { MOST = 1 << 14 };

/* ---- memory: blocks end at a page that may not be touched, two at a time ---- */

static fuzz_pages rooms[2];
static char *room_used[2];

enum { SLACK = 0x5a };

static void *room_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    size_t slack = (16 - new_size % 16) % 16, i;
    char *to = NULL;
    int room = ptr && ptr == room_used[0];
    (void)ctx;
    if (new_size) {
        MUST(!room_used[room], "more than two blocks");
        fuzz_pages_init(&rooms[room]);
        MUST(new_size + slack <= FUZZ_ROOM, "a block of %zu bytes", new_size);
        to = rooms[room].end - slack - new_size;
        memset(rooms[room].end - slack, SLACK, slack);
        if (ptr) memcpy(to, ptr, old_size < new_size ? old_size : new_size);
        room_used[room] = to;
    }
    if (ptr) {
        room = ptr == room_used[1];
        MUST(ptr == room_used[room], "what is freed was not allocated");
        slack = (16 - old_size % 16) % 16;
        MUST((char *)ptr + old_size + slack == rooms[room].end, "another size than it has");
        for (i = 0; i < slack; i++) MUST(rooms[room].end[-1 - (long)i] == SLACK, "written too far");
        room_used[room] = NULL;
    }
    return to;
}

static const lp_memory memory = {room_resize, NULL};

/* ---- the validator ---- */

static fuzz_pages text_pages;
static ref_member members[REF_MEMBERS], made[REF_MEMBERS];

/* Whether it is one value; the reference says where not. */
static int check_validator(lp_slice text, ref *r, ref_member *to)
{
    size_t offset = SIZE_MAX;
    int want = ref_text(r, text, to);
    lp_result got = lp_json_check(text, &offset);
    MUST((got == LP_OK) == !want && (!want || got == LP_ERR_JSON), "result %d, reference %d", got,
         want);
    if (!want) MUST(offset == SIZE_MAX, "an offset is told of good text");
    else MUST(offset == (size_t)(r->at - text.bytes), "bad byte %zu, reference %zu", offset,
              (size_t)(r->at - text.bytes));
    return !want;
}

/* ---- messages ---- */

static char expected[2 * MOST + 4096];
static size_t expected_length;

BLIND static void put(const char *bytes, size_t length)
{
    memcpy(expected + expected_length, bytes, length);
    expected_length += length;
}

BLIND static void put_text(const char *text) { put(text, strlen(text)); }

BLIND static int given_way(lp_slice key)
{
    static char decoded[MOST];
    size_t n = ref_decode(decoded, key);
    return (n == 2 && !memcmp(decoded, "id", 2)) || (n == 7 && !memcmp(decoded, "channel", 7)) ||
           (n == 9 && !memcmp(decoded, "timestamp", 9));
}

typedef struct stamp {
    uint64_t epoch, seq, us;
    const char *channel;
} stamp;

/* What the message must be, to the byte. */
BLIND static void put_expected(const ref *r, const stamp *s)
{
    char line[128];
    uint32_t i;
    const char *c;
    expected_length = 0;
    sprintf(line, "{\"id\":\"%016" PRIx64 "-%" PRIu64 "\",\"channel\":\"", s->epoch, s->seq);
    put_text(line);
    for (c = s->channel; *c; c++) {
        if (*c == '"' || *c == '\\') put("\\", 1);
        put(c, 1);
    }
    sprintf(line, "\",\"timestamp\":%" PRIu64 ".%06u", s->us / 1000000,
            (unsigned)(s->us % 1000000));
    put_text(line);
    for (i = 0; i < r->count; i++) {
        if (given_way(members[i].key)) continue;
        put(",", 1);
        put(members[i].begin, (size_t)(members[i].end - members[i].begin));
    }
    put("}", 1);
}

BLIND static void check_keys(const ref *r)
{
    static const char *const keys[] = {"id", "channel", "timestamp"};
    uint32_t i, ours = 0;
    for (i = 0; i < r->count; i++) {
        ours += (uint32_t)given_way(made[i].key);
        if (i < 3) MUST(fuzz_same(made[i].key, lp_s(keys[i])), "member %u", i);
    }
    MUST(ours == 3, "%u members that are the server's", ours);
}

BLIND static void choose_stamp(stamp *s, lp_slice text)
{
    static char quotes[LPI_CHANNEL_BYTES + 1];
    static const char *const channels[] = {"news", "a\"b\\c/", "\xc3\xa4\xe2\x82\xac", quotes};
    static const uint64_t numbers[] = {1, 0, 999999, 1732412345123456, UINT64_MAX};
    size_t n = text.length;
    if (!*quotes) memset(quotes, '"', LPI_CHANNEL_BYTES);
    s->channel = channels[n % 4];
    s->epoch = numbers[n / 4 % 5];
    s->seq = numbers[n / 8 % 5];
    s->us = numbers[n / 16 % 5];
}

static void check_message(lp_slice text, const ref *r, int good)
{
    lp_result result = LP_OK;
    size_t offset = 0, want = r->at ? (size_t)(r->at - text.bytes) : 0;
    stamp s;
    lpi_message *m;
    lp_slice got;
    ref again;
    choose_stamp(&s, text);
    m = lpi_message_new(&memory, lp_s(s.channel), text, &result, &offset);
    if (!good || !r->is_object) {
        MUST(!m && result == LP_ERR_JSON, "a message of what is no object: %d", result);
        if (good) { /* the value that is none */
            ref before;
            memset(&before, 0, sizeof before);
            before.at = text.bytes;
            before.end = text.bytes + text.length;
            ref_space(&before);
            want = (size_t)(before.at - text.bytes);
        }
        MUST(offset == want, "bad byte %zu, not %zu", offset, want);
        MUST(!room_used[0] && !room_used[1], "a leak");
        return;
    }
    MUST(m && result == LP_OK, "no message of an object: %d", result);
    lpi_message_seal(m, lp_s(s.channel), s.epoch, s.seq, s.us);
    got = lpi_message_text(m);
    put_expected(r, &s);
    MUST(fuzz_same(got, lpi_slice(expected, expected_length)), "the message is\n%.*s\nnot\n%.*s",
         (int)got.length, got.bytes, (int)expected_length, expected);
    MUST(check_validator(got, &again, made) && again.is_object, "the message is no object");
    check_keys(&again);
    lpi_message_unref(&memory, m);
    MUST(!room_used[0] && !room_used[1], "a leak");
}

/* ---- an array of messages ---- */

/* How many objects there are; -1 with the bad byte at r->at, and -2 if they are too many. */
BLIND static int ref_objects(ref *r, lp_slice text)
{
    int count = 0;
    memset(r, 0, sizeof *r);
    r->at = text.bytes;
    r->end = text.bytes + text.length;
    ref_space(r);
    ref_take(r, '[');
    ref_space(r);
    if (ref_peek(r) == ']') return -1; /* of none */
    for (;;) {
        const char *begin = r->at;
        if (ref_value(r)) return -1;
        if (++count > LPI_MESSAGES_MAX) return -2;
        if (*begin != '{') {
            r->at = begin;
            return -1;
        }
        ref_space(r);
        if (!ref_take(r, ']')) break;
        if (ref_take(r, ',')) return -1;
        ref_space(r);
    }
    ref_space(r);
    return r->at == r->end ? count : -1;
}

/* What is no JSON at all is told first, wherever its elements are no objects. */
static void check_array(lp_slice text)
{
    lp_result result = LP_OK;
    size_t offset = 0;
    ref r, whole;
    int want = ref_objects(&r, text);
    if (ref_text(&whole, text, NULL)) {
        r = whole;
        want = -1;
    }
    lpi_message *first = lpi_message_new_array(&lpi_libc_memory, lp_s("news"), text, &result,
                                               &offset);
    if (want > 0) {
        MUST(first && result == LP_OK, "no messages of an array: %d", result);
        MUST(lpi_message_count(first) == (uint32_t)want, "%u messages, not %d",
             lpi_message_count(first), want);
    } else {
        MUST(!first && result == (want == -1 ? LP_ERR_JSON : LP_ERR_TOO_LARGE), "result %d",
             result);
        if (want == -1)
            MUST(offset == (size_t)(r.at - text.bytes), "bad byte %zu, not %zu", offset,
                 (size_t)(r.at - text.bytes));
    }
    lpi_message_unref_all(&lpi_libc_memory, first);
}

/* ---- the emitter ---- */

static void check_string(lp_slice text)
{
    static char decoded[12 * MOST], want[4 * MOST];
    size_t i = 0, n = 0;
    lp_json j;
    lp_slice got;
    ref r;
    while (i < text.length) {
        uint32_t code;
        size_t length = fuzz_utf8(text.bytes + i, text.length - i, &code);
        memcpy(want + n, length ? text.bytes + i : "\xef\xbf\xbd", length ? length : 3);
        n += length ? length : 3;
        i += length ? length : 1;
    }
    lp_json_init(&j, &memory);
    lp_json_string(&j, text);
    got = lp_json_text(&j);
    MUST(got.length >= 2 && !ref_text(&r, got, NULL), "a string is emitted that is none");
    i = ref_decode(decoded, lpi_slice(got.bytes + 1, got.length - 2));
    MUST(i == n && !memcmp(decoded, want, n), "a string means something else than it did");
    lp_json_free(&j);
}

/* What the emitter should know of itself. */
typedef struct shadow {
    uint64_t arrays; /* a bit per level */
    uint32_t depth;
    int after_key, done, misused;
} shadow;

BLIND static int may_value(const shadow *s)
{
    if (!s->depth) return !s->done;
    return (s->arrays & 1) || s->after_key;
}

BLIND static int may(const shadow *s, int op)
{
    if (op <= 2) return may_value(s) && s->depth < LPI_JSON_DEPTH;
    if (op <= 4) return s->depth && !s->after_key;
    if (op <= 6) return s->depth && !(s->arrays & 1) && !s->after_key;
    return may_value(s);
}

BLIND static void note(shadow *s, int op)
{
    if (!may(s, op)) s->misused = 1;
    if (s->misused) return;
    if (op >= 5 && op <= 6) {
        s->after_key = 1;
        return;
    }
    if (op == 3 || op == 4) {
        s->arrays >>= 1;
        s->depth--;
    } else {
        s->after_key = 0;
        if (op <= 2) {
            s->arrays = s->arrays << 1 | (uint64_t)(op == 2);
            s->depth++;
        }
    }
    if (!s->depth) s->done = 1;
}

BLIND static lp_slice take(lp_slice *text, size_t most)
{
    size_t n = most < text->length ? most : text->length;
    lp_slice s = lpi_slice(text->bytes, n);
    *text = lpi_slice(text->bytes + n, text->length - n);
    return s;
}

BLIND static uint64_t take_number(lp_slice *text)
{
    lp_slice s = take(text, 8);
    uint64_t value = 0;
    memcpy(&value, s.bytes, s.length);
    return value;
}

static void check_double(double value)
{
    char number[64];
    lp_json j;
    lp_slice got;
    lp_json_init(&j, &memory);
    lp_json_double(&j, value);
    got = lp_json_text(&j);
    MUST(got.length && got.length < sizeof number, "a double of %zu bytes", got.length);
    memcpy(number, got.bytes, got.length);
    number[got.length] = 0;
    if (value - value == 0) MUST(strtod(number, NULL) == value, "%s is not %.17g", number, value);
    else MUST(!strcmp(number, "null"), "%s is not null", number);
    lp_json_free(&j);
}

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void emit(lp_json *j, int op, lp_slice *text)
{
    size_t n = op >= 5 && op <= 8 && text->length ? (size_t)(*text->bytes & 15) : 0;
    switch (op) {
    case 0: case 1: lp_json_object(j); break;
    case 2: lp_json_array(j); break;
    case 3: case 4: lp_json_end(j); break;
    case 5: case 6: lp_json_key(j, take(text, n)); break;
    case 7: case 8: lp_json_string(j, take(text, n)); break;
    case 9: lp_json_uint(j, take_number(text)); break;
    case 10: lp_json_int(j, (int64_t)take_number(text)); break;
    case 11: lp_json_double(j, double_of(take_number(text))); break;
    case 12: lp_json_bool(j, text->length & 1); break;
    case 13: lp_json_null(j); break;
    case 14: lp_json_raw(j, LPI_S("1.5e3")); break;
    default: lp_json_raw(j, LPI_S("1732412345.000001")); break;
    }
}

/* Each byte is a step. If the first is odd, steps that would be misuse are left out. */
static void check_program(lp_slice text)
{
    int careful = text.length && (*text.bytes & 1);
    shadow s;
    lp_json j;
    lp_slice got;
    ref r;
    memset(&s, 0, sizeof s);
    lp_json_init(&j, &memory);
    while (text.length) {
        int op = *text.bytes & 15;
        take(&text, 1);
        if (careful && !may(&s, op)) continue;
        note(&s, op);
        emit(&j, op, &text);
        MUST(j.misused == s.misused, "misuse: %d", j.misused);
        if (s.misused) break;
    }
    while (s.depth && !s.misused) {
        int op = s.after_key ? 13 : 3;
        note(&s, op);
        emit(&j, op, &text);
    }
    got = lp_json_text(&j);
    if (s.misused || !s.done) MUST(!got.bytes || !got.length, "a text of an unfinished program");
    else MUST(check_validator(got, &r, NULL), "emitted, and not valid: %.*s", (int)got.length,
              got.bytes);
    lp_json_free(&j);
    MUST(!room_used[0] && !room_used[1], "a leak");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lp_slice text;
    ref r;
    int good;
    if (size > MOST) return 0;
    text = fuzz_guarded(&text_pages, data, size);
    good = check_validator(text, &r, members);
    check_message(text, &r, good);
    if (lpi_json_is_array(text)) check_array(text);
    check_string(text);
    check_program(text);
    if (size == 8) {
        lp_slice rest = text;
        check_double(double_of(take_number(&rest)));
    }
    return 0;
}
