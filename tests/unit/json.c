/* B4, json: the validator against a recursive one and against every short text, the cut of
   reserved members, the emitter, and the reader. */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* printf as under another locale: whatever stands for the decimal point there. Only numbers
   have one: other tests' texts come through here as well, when all are one program. */
static const char *decimal_point = ".";

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static int local_snprintf(char *to, size_t size, const char *format, ...) {
    char text[128], *out = text + 64;
    va_list args;
    size_t i, n = 0;
    int length;
    va_start(args, format);
    length = vsnprintf(to, size, format, args);
    va_end(args);
    if (strcmp(format, "%.17g") != 0) return length;
    strcpy(text, to);
    for (i = 0; text[i]; i++) {
        if (text[i] != '.') out[n++] = text[i];
        else n += (size_t)sprintf(out + n, "%s", decimal_point);
    }
    if (n >= size) return (int)n;
    memcpy(to, out, n);
    to[n] = '\0';
    return (int)n;
}

/* And strtod: there a number ends before a point. */
static double local_strtod(const char *from, char **end) {
    static char cut[2000];
    size_t n = strcspn(from, strcmp(decimal_point, ".") ? "." : "");
    if (n >= sizeof cut) abort();
    memcpy(cut, from, n);
    cut[n] = '\0';
    if (end) abort();
    return strtod(cut, NULL);
}

#define snprintf local_snprintf
#define strtod local_strtod
#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#undef snprintf
#undef strtod
#include "unit.h"

/* ---- the model: recursive, and it decodes the keys */

typedef struct json_model {
    const char *at, *end;
    char string[2000]; /* what the last one said, as far as that is ASCII; '?' for all else */
    char rest[2000];   /* the members of the outermost object that stay */
    size_t string_length, members_length;
} json_model;

static int m_value(json_model *m, int depth);

static int m_skip(json_model *m, const char *set) {
    const char *from = m->at;
    while (m->at < m->end && *m->at && strchr(set, *m->at)) m->at++;
    return m->at > from;
}

static int m_take(json_model *m, char c) {
    if (m->at == m->end || *m->at != c) return 0;
    m->at++;
    return 1;
}

static int m_word(json_model *m, const char *word) {
    while (*word)
        if (!m_take(m, *word++)) return 0;
    return 1;
}

static int m_number(json_model *m) {
    m_take(m, '-');
    if (!m_take(m, '0') && !m_skip(m, "0123456789")) return 0;
    if (m_take(m, '.') && !m_skip(m, "0123456789")) return 0;
    if (!m_take(m, 'e') && !m_take(m, 'E')) return 1;
    if (!m_take(m, '+')) m_take(m, '-');
    return m_skip(m, "0123456789");
}

/* One UTF-8 sequence of more than one byte; at its begin if it is bad. */
static int m_utf8(json_model *m) {
    const uint8_t *p = (const uint8_t *)m->at;
    long left = m->end - m->at, n, i;
    uint32_t code;
    if (p[0] >= 0xC0 && p[0] < 0xE0) n = 2, code = p[0] & 31u;
    else if (p[0] >= 0xE0 && p[0] < 0xF0) n = 3, code = p[0] & 15u;
    else if (p[0] >= 0xF0 && p[0] < 0xF8) n = 4, code = p[0] & 7u;
    else return 0;
    if (left < n) return 0;
    for (i = 1; i < n; i++) {
        if (p[i] >> 6 != 2) return 0;
        code = code << 6 | (p[i] & 63u);
    }
    if (code < (n == 2 ? 0x80u : n == 3 ? 0x800u : 0x10000u)) return 0;
    if (code > 0x10FFFF || code >> 11 == 0xD800 >> 11) return 0;
    m->at += n;
    return 1;
}

static int m_escape(json_model *m) {
    const char *hex = m->at + 1;
    int i, code = 0;
    if (m->at == m->end || !*m->at || !strchr("\"\\/bfnrtu", *m->at)) return 0;
    m->string[m->string_length++] = '?';
    if (!m_take(m, 'u')) return (int)(m->at++, 1);
    for (i = 0; i < 4; i++, m->at++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF", *digit;
        if (m->at == m->end || !*m->at || !(digit = strchr(digits, *m->at))) return 0;
        code = code * 16 + (int)(digit - digits) % 16;
    }
    CHECK(m->at == hex + 4);
    if (code < 128) m->string[m->string_length - 1] = (char)code;
    return 1;
}

static int m_string(json_model *m) {
    m->string_length = 0;
    if (!m_take(m, '"')) return 0;
    while (!m_take(m, '"')) {
        if (m->at == m->end || (uint8_t)*m->at < 0x20) return 0;
        if (m_take(m, '\\')) {
            if (!m_escape(m)) return 0;
        } else {
            m->string[m->string_length++] = (uint8_t)*m->at < 0x80 ? *m->at : '?';
            if ((uint8_t)*m->at < 0x80) m->at++;
            else if (!m_utf8(m)) return 0;
        }
    }
    return 1;
}

static int m_reserved(const json_model *m) {
    lp_slice key = lpi_slice(m->string, m->string_length);
    return lpi_equal(key, lp_s("id")) || lpi_equal(key, lp_s("channel")) ||
           lpi_equal(key, lp_s("timestamp"));
}

static int m_members(json_model *m, int depth) {
    do {
        const char *from = m->at;
        int gives_way;
        m_skip(m, " \t\r\n");
        if (!m_string(m)) return 0;
        gives_way = m_reserved(m);
        m_skip(m, " \t\r\n");
        if (!m_take(m, ':') || !m_value(m, depth)) return 0;
        if (depth > 1 || gives_way) continue;
        if (m->members_length) m->rest[m->members_length++] = ',';
        memcpy(m->rest + m->members_length, from, (size_t)(m->at - from));
        m->members_length += (size_t)(m->at - from);
    } while (m_take(m, ','));
    return m_take(m, '}');
}

static int m_value(json_model *m, int depth) {
    int good;
    m_skip(m, " \t\r\n");
    if (m->at == m->end) return 0;
    if (*m->at == '{' || *m->at == '[') {
        int object = *m->at == '{';
        const char *inside = m->at + 1;
        if (depth == LPI_JSON_DEPTH) return 0;
        m->at++;
        m_skip(m, " \t\r\n");
        if (m_take(m, object ? '}' : ']')) good = 1;
        else if (object) m->at = inside, good = m_members(m, depth + 1);
        else {
            do good = m_value(m, depth + 1);
            while (good && m_take(m, ','));
            good = good && m_take(m, ']');
        }
    } else if (*m->at == '"') good = m_string(m);
    else if (*m->at == 't') good = m_word(m, "true");
    else if (*m->at == 'f') good = m_word(m, "false");
    else if (*m->at == 'n') good = m_word(m, "null");
    else good = m_number(m);
    if (good) m_skip(m, " \t\r\n");
    return good;
}

/* -1 for a good text, else the offset of the bad byte. */
static long model_check(json_model *m, lp_slice text) {
    m->at = text.bytes;
    m->end = text.bytes + text.length;
    m->members_length = 0;
    return m_value(m, 0) && m->at == m->end ? -1 : m->at - text.bytes;
}

/* ---- the validator */

static char *before_guard(lp_slice text) { /* where the readable memory ends */
    static char *end;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = 16 * page;
    if (!end) {
        end = (char *)mmap(NULL, size + page, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + size;
        CHECK_INT(mprotect(end, page, PROT_NONE), 0);
    }
    CHECK(text.length <= 16 * 4096);
    return (char *)memcpy(end - text.length, text.bytes, text.length);
}

static long check(lp_slice text) {
    size_t offset = 12345;
    lp_slice copy = lpi_slice(before_guard(text), text.length);
    lp_result result = lp_json_check(copy, &offset);
    CHECK_INT(lp_json_check(copy, NULL), result);
    if (result == LP_OK) CHECK_INT(offset, 12345);
    else CHECK_INT(result, LP_ERR_JSON);
    return result == LP_OK ? -1 : (long)offset;
}

static void like_the_model(lp_slice text) {
    static json_model m;
    long got = check(text), want = model_check(&m, text);
    char quoted[300];
    if (got != want)
        unit_fail(__FILE__, __LINE__, "%ld, not %ld, for \"%s\"", got, want,
                  unit_quote(quoted, sizeof quoted, text.bytes, text.length));
}

#define BAD(offset, text) {text, sizeof(text) - 1, offset}
#define GOOD(text) {text, sizeof(text) - 1, -1}

static const struct { const char *text; size_t length; long offset; } bad_and_good[] = {
    GOOD("{}"), GOOD("[]"), GOOD("0"), GOOD("\"\""), GOOD("true"), GOOD("false"), GOOD("null"),
    GOOD(" \t\r\n{ \t\r\n\"a\" \t\r\n: \t\r\n[ \t\r\n1 \t\r\n, \t\r\n2 \t\r\n] \t\r\n} \t\r\n"),
    GOOD("-0"), GOOD("-0.0e-0"), GOOD("1E+5"), GOOD("123456789012345678901234567890e999"),
    GOOD("[[],[[]],{}]"), GOOD("{\"a\":{\"a\":{}},\"a\":1}"),
    GOOD("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\uD800\\uAbCd\""),
    GOOD("\"\x7f\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\xF0\x90\x80\x80"
         "\xF4\x8F\xBF\xBF\""),
    BAD(0, ""), BAD(1, " "), BAD(0, "\xEF\xBB\xBF{}"), BAD(0, "\0"), BAD(2, "{}\0"),
    BAD(3, "{} {}"), BAD(2, "1 2"), BAD(1, "00"), BAD(1, "01"), BAD(2, "-01"), BAD(1, "-"),
    BAD(0, "+1"), BAD(0, ".5"), BAD(2, "5."), BAD(2, "5.e1"), BAD(2, "1e"), BAD(3, "1e+"),
    BAD(2, "1ee"), BAD(3, "1.5."), BAD(1, "0x5"), BAD(0, "NaN"), BAD(0, "Infinity"),
    BAD(1, "-Infinity"), BAD(0, "True"), BAD(2, "trUe"), BAD(4, "nulll"), BAD(3, "tru"),
    BAD(1, "["), BAD(1, "[,"), BAD(3, "[1,]"), BAD(3, "[1 2]"), BAD(2, "[1}"), BAD(3, "[1,,2]"),
    BAD(2, "[1"), BAD(2, "[]]"), BAD(1, "{"), BAD(1, "{,}"), BAD(1, "{1:2}"), BAD(1, "{a:1}"),
    BAD(1, "{'a':1}"), BAD(4, "{\"a\"}"), BAD(5, "{\"a\":}"), BAD(7, "{\"a\":1,}"),
    BAD(6, "{\"a\":1]"), BAD(5, "{\"a\" 1}"), BAD(5, "{\"a\"::1}"), BAD(7, "{\"a\":1 \"b\":2}"),
    BAD(7, "{\"a\":1,1}"), BAD(2, "[1/**/]"), BAD(1, "\""), BAD(2, "\"a"), BAD(2, "\"\\"),
    BAD(2, "\"\\x\""), BAD(2, "\"\\'\""), BAD(2, "\"\\\0\""), BAD(3, "\"\\u"),
    BAD(6, "\"\\u123\""), BAD(3, "\"\\uG000\""), BAD(2, "\"\\U0000\""), BAD(1, "\"\n\""),
    BAD(1, "\"\t\""), BAD(1, "\"\0\""), BAD(1, "\"\x1f\""), BAD(1, "\"\x80\""),
    BAD(1, "\"\xC0\x80\""), BAD(1, "\"\xC1\xBF\""), BAD(2, "\"a\xC2\""),
    BAD(1, "\"\xE0\x9F\xBF\""), BAD(1, "\"\xED\xA0\x80\""), BAD(1, "\"\xEF\xBF\""),
    BAD(1, "\"\xF0\x8F\xBF\xBF\""), BAD(1, "\"\xF4\x90\x80\x80\""),
    BAD(1, "\"\xF5\x80\x80\x80\""), BAD(1, "\"\xFF\""), BAD(1, "\"\xE2\x82"),
    BAD(0, "\xC3\xA9"), BAD(1, "[\xA0]"), BAD(1, "[\v1]")};

TEST(json_texts) {
    size_t i;
    for (i = 0; i < LPI_COUNT(bad_and_good); i++) {
        lp_slice text = lpi_slice(bad_and_good[i].text, bad_and_good[i].length);
        long got = check(text);
        if (got != bad_and_good[i].offset)
            unit_fail(__FILE__, __LINE__, "%ld, not %ld, for %s", got, bad_and_good[i].offset,
                      text.bytes);
        like_the_model(text);
    }
    CHECK_INT(lp_json_check(lpi_slice(NULL, 0), &i), LP_ERR_JSON);
    CHECK_INT(i, 0);
}

/* Every text of up to three of these bytes, by itself and where it may mean something else. */
TEST(json_every_short_text) {
    static const char bytes[] = "\"\\/{}[],:' \t\n\r-+.019eEtrufalsnbxDd"
                                "\x01\x1f\x7f\x80\xbf\xc2\xe0\xed\xf0\xf4\xff"; /* and a NUL */
    static const char *const around[][2] = {
        {"", ""}, {"\"", "\""}, {"[", "]"}, {"{\"a\":", "}"}, {"{", ":1}"}, {"[1", ""},
        {"tr", ""}, {"\"\\u00", "\""}, {"-", ".5"}, {"1e", ",2"}, {"\"\xE0", "\x80\""}};
    uint32_t n = sizeof bytes, i, k, step = unit_environment("UNIT_DIVIDE", 1);
    for (i = unit_below(step); i < n * n * n; i += step)
        for (k = 0; k < LPI_COUNT(around); k++) {
            char text[20];
            size_t before = strlen(around[k][0]), after = strlen(around[k][1]), length;
            memcpy(text, around[k][0], before);
            text[before] = bytes[i % n];
            text[before + 1] = bytes[i / n % n];
            text[before + 2] = bytes[i / n / n];
            /* what ends in NULs stands for the shorter ones too */
            for (length = 3;; length--) {
                memcpy(text + before + length, around[k][1], after);
                like_the_model(lpi_slice(text, before + length + after));
                if (!length || bytes[i / (length == 3 ? n * n : length == 2 ? n : 1) % n]) break;
            }
        }
}

TEST(json_depth_of_64) {
    char text[400];
    int depth, kind;
    for (kind = 0; kind < 2; kind++)
        for (depth = 63; depth <= 66; depth++) {
            const char *open = kind ? "{\"a\":" : "[", *close = kind ? "}" : "]";
            size_t n = 0;
            int i;
            for (i = 0; i < depth; i++) n += (size_t)sprintf(text + n, "%s", open);
            text[n++] = '1';
            for (i = 0; i < depth; i++) text[n++] = *close;
            CHECK_INT(check(lpi_slice(text, n)), depth <= 64 ? -1 : (long)(64 * strlen(open)));
            like_the_model(lpi_slice(text, n));
        }
}

/* ---- bad_and_good by chance */

static char made[4000];
static size_t made_length;

static void put(const char *text) {
    made_length += (size_t)sprintf(made + made_length, "%s", text);
}

static void put_space(void) {
    while (unit_one_in(6)) put(&" \0\t\0\r\0\n"[2 * unit_below(4)]);
}

static void put_key(void) {
    static const char *const keys[] = {
        "id", "\\u0069d", "i\\u0064", "\\u0069\\u0064", "ID", "\\u0049d", "id ", "", "i", "idd",
        "d", "channel", "chann\\u0065l", "\\u0063hannel", "channels", "timestamp",
        "\\u0074\\u0069\\u006D\\u0065stam\\u0070", "id\\u0000", "\\u0000id", "i\\/d",
        "\\u0169d", "\\u6900d", "text", "\xC3\xA9", "id\xC3\xA9"};
    put("\"");
    put(keys[unit_below(LPI_COUNT(keys))]);
    put("\"");
}

static void put_value(int depth) {
    static const char *const leaves[] = {
        "0", "-1.50e+07", "true", "false", "null", "\"\"", "\"a,}]\\\"{\"", "\"\\u0069d\"",
        "{}", "[ ]", "1000000000000000000000000"};
    uint32_t n = unit_below(4), kind = unit_below(depth > 5 ? 1 : 3);
    if (depth == 0) kind = 1, n = unit_below(7);
    put_space();
    if (kind == 0) {
        put(leaves[unit_below(LPI_COUNT(leaves))]);
    } else {
        put(kind == 1 ? "{" : "[");
        while (n--) {
            put_space();
            if (kind == 1) put_key(), put_space(), put(":");
            put_value(depth + 1);
            if (n) put(",");
        }
        put_space();
        put(kind == 1 ? "}" : "]");
    }
    put_space();
}

TEST(json_reserved_members_are_cut_and_the_rest_is_kept) {
    static json_model m;
    static char rest[4000];
    int round;
    for (round = 0; round < unit_rounds(20000); round++) {
        lpi_json_scan scan;
        made_length = 0;
        do put_value(0);
        while (made_length > 1900 && (made_length = 0, 1));
        CHECK_INT(model_check(&m, lpi_slice(made, made_length)), -1);
        memset(rest, '!', sizeof rest);
        CHECK_INT(lpi_json_scan_text(&scan, lpi_slice(made, made_length), rest), 0);
        CHECK_BYTES(rest, scan.members_length, m.rest, m.members_length);
        CHECK_INT(rest[scan.members_length], '!'); /* and nothing is written behind it */
    }
}

static void check_members(const char *text, const char *want) {
    char rest[200];
    lpi_json_scan scan;
    CHECK_INT(lpi_json_scan_text(&scan, lp_s(text), rest), 0);
    CHECK_STR(lpi_slice(rest, scan.members_length), want);
}

TEST(json_rest_of_some_objects) {
    check_members("{}", "");
    check_members("{ \n }", "");
    check_members("{\"id\":1}", "");
    check_members("{\"id\":1,\"id\":2,\"a\":3,\"id\":4}", "\"a\":3");
    check_members("{ \"a\" : 1.0 ,\n\"b\":[1, 2] }", " \"a\" : 1.0 ,\n\"b\":[1, 2] ");
    check_members("{\"a\":{\"id\":1,\"channel\":[{\"timestamp\":0}]}}",
               "\"a\":{\"id\":1,\"channel\":[{\"timestamp\":0}]}");
    check_members("{\"\\u0069\\u0064\":{\"a\":\"}\"},\"\\u0063hannel\":[],\"b\":0}", "\"b\":0");
    check_members("{\"a\":1,\"timestamp\":2}", "\"a\":1");
    check_members("{\"Id\":1,\"CHANNEL\":2}", "\"Id\":1,\"CHANNEL\":2");
    check_members("[{\"id\":1}]", "");
}

TEST(json_mutated_texts_like_the_model) {
    static const char bytes[] = "\"\\{}[],: 0-1.eu\x80\xC3\n";
    int round;
    for (round = 0; round < unit_rounds(20000); round++) {
        uint32_t n = 1 + unit_below(3);
        made_length = 0;
        do put_value(0);
        while (made_length > 1900 && (made_length = 0, 1));
        while (n--) made[unit_below((uint32_t)made_length)] = bytes[unit_below(sizeof bytes)];
        made_length = unit_one_in(3) ? unit_below((uint32_t)made_length) : made_length;
        like_the_model(lpi_slice(made, made_length));
    }
}

/* ---- the emitter */

#define EMITS(calls, want)                                                     \
    do {                                                                       \
        lp_json j_, *j = &j_;                                                  \
        lp_json_init(j, NULL);                                                 \
        calls;                                                                 \
        CHECK(!lpi_json_failed(j));                                              \
        CHECK_STR(lp_json_text(j), want);                                      \
        lp_json_free(j);                                                       \
    } while (0)

#define FFFD "\xEF\xBF\xBD"

TEST(json_emitter_writes) {
    EMITS((void)0, "");
    EMITS(lp_json_null(j), "null");
    EMITS((lp_json_object(j), lp_json_end(j)), "{}");
    EMITS((lp_json_array(j), lp_json_array(j), lp_json_end(j), lp_json_object(j), lp_json_end(j),
           lp_json_bool(j, 2), lp_json_bool(j, 0), lp_json_end(j)), "[[],{},true,false]");
    EMITS((lp_json_object(j), lp_json_key(j, lp_s("a")), lp_json_uint(j, UINT64_MAX),
           lp_json_key(j, lp_s("")), lp_json_int(j, INT64_MIN), lp_json_key(j, lp_s("\"")),
           lp_json_array(j), lp_json_int(j, -1), lp_json_int(j, 0), lp_json_int(j, INT64_MAX),
           lp_json_end(j), lp_json_end(j)),
          "{\"a\":18446744073709551615,\"\":-9223372036854775808,"
          "\"\\\"\":[-1,0,9223372036854775807]}");
    EMITS(lp_json_raw(j, lp_s("{\"a\": 1}")), "{\"a\": 1}");
    EMITS(lp_json_string(j, LPI_S("a\0\x01\b\t\n\v\f\r\x1f \"\\/\x7f")),
          "\"a\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f \\\"\\\\/\x7f\"");
    EMITS(lp_json_string(j, lp_s("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80")),
          "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
    EMITS(lp_json_string(j, lp_s("\xC3(\xED\xA0\x80\xF0\x9F")),
          "\"" FFFD "(" FFFD FFFD FFFD FFFD FFFD "\"");
    EMITS(lp_json_string(j, lpi_slice(NULL, 0)), "\"\"");
}

TEST(json_doubles_come_back) {
    static const char *const points[] = {".", ",", "\xD9\xAB"}; /* the last is Arabic's */
    double zero = 0, values[] = {0, -0.0, 1, -1.5, 0.1, 1e300, 4.9e-324, 1.7976931348623157e308,
                                 1e15, 123456.789};
    size_t p, i;
    for (p = 0; p < LPI_COUNT(points); p++)
        for (i = 0; i < (size_t)unit_rounds(3000); i++) {
            double value, back;
            uint64_t bits = unit_random();
            lp_json j;
            char text[64] = {0};
            memcpy(&value, &bits, sizeof value);
            if (i < LPI_COUNT(values)) value = values[i];
            if (value - value != 0) continue;
            decimal_point = points[p];
            lp_json_init(&j, NULL);
            lp_json_double(&j, value);
            memcpy(text, lp_json_text(&j).bytes, lp_json_text(&j).length);
            if (check(lp_s(text)) != -1)
                unit_fail(__FILE__, __LINE__, "%s is no number (point \"%s\")", text, points[p]);
            back = strtod(text, NULL);
            CHECK(memcmp(&back, &value, sizeof value) == 0);
            back = 7;
            CHECK_INT(lp_json_get_double(lp_json_text(&j), "", &back), LP_OK);
            CHECK(memcmp(&back, &value, sizeof value) == 0);
            lp_json_free(&j);
        }
    EMITS((lp_json_array(j), lp_json_double(j, zero / zero), lp_json_double(j, 1 / zero),
           lp_json_double(j, -1 / zero), lp_json_end(j)), "[null,null,null]");
}

#define MISUSE(calls)                                                          \
    do {                                                                       \
        lp_json j_, *j = &j_;                                                  \
        size_t length;                                                         \
        lp_json_init(j, NULL);                                                 \
        calls;                                                                 \
        CHECK(j->misused);                                                    \
        CHECK(!lp_json_text(j).bytes && !lp_json_text(j).length);              \
        length = j->text.length;                                                    \
        lp_json_null(j);                                                       \
        lp_json_object(j);                                                     \
        lp_json_key(j, lp_s("a"));                                             \
        lp_json_end(j);                                                        \
        CHECK_INT(j->text.length, length);                                          \
        CHECK(j->misused);                                                    \
        lp_json_free(j);                                                       \
        lp_json_uint(j, 7);                                                    \
        CHECK_STR(lp_json_text(j), "7");                                       \
        lp_json_free(j);                                                       \
    } while (0)

TEST(json_emitter_misuse) {
    int i;
    MISUSE(lp_json_end(j));
    MISUSE(lp_json_key(j, lp_s("a")));
    MISUSE((lp_json_null(j), lp_json_null(j)));
    MISUSE((lp_json_null(j), lp_json_array(j)));
    MISUSE((lp_json_object(j), lp_json_end(j), lp_json_object(j)));
    MISUSE((lp_json_object(j), lp_json_end(j), lp_json_end(j)));
    MISUSE((lp_json_object(j), lp_json_null(j)));
    MISUSE((lp_json_object(j), lp_json_object(j)));
    MISUSE((lp_json_object(j), lp_json_key(j, lp_s("a")), lp_json_end(j)));
    MISUSE((lp_json_object(j), lp_json_key(j, lp_s("a")), lp_json_key(j, lp_s("b"))));
    MISUSE((lp_json_array(j), lp_json_key(j, lp_s("a"))));
    MISUSE((lp_json_array(j), lp_json_object(j), lp_json_end(j), lp_json_key(j, lp_s("a"))));
    MISUSE(for (i = 0; i < 65; i++) lp_json_array(j));
}

TEST(json_emitter_to_the_depth_of_64) {
    lp_json j;
    int i;
    lp_json_init(&j, NULL);
    for (i = 0; i < 64; i++) {
        if (i % 2) lp_json_key(&j, lp_s("k"));
        if (i % 2) lp_json_array(&j);
        else lp_json_object(&j);
        CHECK_INT(lp_json_text(&j).length, 0); /* not whole yet */
    }
    lp_json_null(&j);
    for (i = 0; i < 64; i++) lp_json_end(&j);
    CHECK(!lpi_json_failed(&j));
    CHECK_INT(check(lp_json_text(&j)), -1);
    lp_json_free(&j);
}

static void emit_value(lp_json *j, int depth) {
    char bytes[40];
    uint32_t n = unit_below(40), i;
    for (i = 0; i < n; i++) bytes[i] = (char)unit_random();
    switch (unit_below(depth ? 8 : 6)) {
    case 0: lp_json_string(j, lpi_slice(bytes, n)); break;
    case 1: lp_json_uint(j, unit_random()); break;
    case 2: lp_json_int(j, (int64_t)unit_random()); break;
    case 3: lp_json_double(j, (double)(int64_t)unit_random() / 1e9); break;
    case 4: lp_json_bool(j, (int)(n & 1)); break;
    case 5: lp_json_null(j); break;
    default:
        if (n & 1) lp_json_object(j);
        else lp_json_array(j);
        for (i = 0; i < n / 4; i++) {
            if (n & 1) lp_json_key(j, lpi_slice(bytes, i));
            emit_value(j, depth - 1);
        }
        lp_json_end(j);
    }
}

TEST(json_what_is_emitted_validates) {
    static json_model m;
    int round;
    for (round = 0; round < unit_rounds(5000); round++) {
        lp_json j;
        lp_slice text;
        size_t at;
        lp_json_init(&j, NULL);
        emit_value(&j, 4);
        text = lp_json_text(&j);
        CHECK(text.length > 0);
        CHECK_INT(lp_json_check(text, &at), LP_OK);
        if (text.length < 1900) CHECK_INT(model_check(&m, text), -1);
        lp_json_free(&j);
    }
}

/* Out of memory at each allocation in turn: the first error stays, and nothing leaks. */
TEST(json_emitter_without_memory) {
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        unit_memory m = {0};
        lp_memory memory = unit_memory_of(&m);
        lp_json j;
        int i;
        m.fail_at = k;
        lp_json_init(&j, &memory);
        lp_json_object(&j);
        for (i = 0; i < 200; i++) {
            lp_json_key(&j, lp_s("key"));
            lp_json_uint(&j, (uint64_t)i);
        }
        lp_json_end(&j);
        CHECK_INT(lpi_json_failed(&j), m.failed != 0);
        CHECK_INT(lp_json_text(&j).bytes == NULL, m.failed != 0);
        lp_json_free(&j);
        CHECK_INT(m.blocks, 0);
        failed = m.failed;
    }
    CHECK(k > 4);
}

/* ---- elements of an array ---- */

/* The elements, each in angle brackets. */
static const char *elements_of(const char *text) {
    static char found[600];
    char *to = found;
    lpi_json_scan scan;
    lp_slice element;
    *to = 0;
    lpi_json_scan_init(&scan, lp_s(text));
    lpi_json_scan_space(&scan);
    while (lpi_json_take(&scan, NULL, &element))
        to += sprintf(to, "<%.*s>", (int)element.length, element.bytes);
    CHECK_INT(*scan.at, ']');
    return found;
}

TEST(json_elements_of_an_array) {
    CHECK_STR(lp_s(elements_of("[]")), "");
    CHECK_STR(lp_s(elements_of(" [ \n]")), "");
    CHECK_STR(lp_s(elements_of("[1]")), "<1>");
    CHECK_STR(lp_s(elements_of("[ {} , {\"a\":[1,{}]}\t,null]")), "<{}><{\"a\":[1,{}]}><null>");
    CHECK_STR(lp_s(elements_of("[[],[[]],\"[\",\"]\"]  ")), "<[]><[[]]><\"[\"><\"]\">");
}

/* They are those of an array that was emitted. */
TEST(json_elements_of_random_arrays) {
    int round;
    for (round = 0; round < unit_rounds(20000); round++) {
        lp_json j;
        lp_slice element;
        lpi_json_scan scan;
        int count = (int)unit_below(4), i;
        lp_json_init(&j, NULL);
        lp_json_array(&j);
        for (i = 0; i < count; i++) emit_value(&j, 2);
        lp_json_end(&j);
        lpi_json_scan_init(&scan, lp_json_text(&j));
        for (i = 0; lpi_json_take(&scan, NULL, &element); i++)
            CHECK_INT(lp_json_check(element, NULL), LP_OK);
        CHECK_INT(i, count);
        lp_json_free(&j);
    }
}

TEST(json_that_may_be_an_array) {
    CHECK(lpi_json_is_array(lp_s("[")) && lpi_json_is_array(lp_s(" \t\r\n[1]")));
    CHECK(!lpi_json_is_array(lp_s("")) && !lpi_json_is_array(lp_s("  ")));
    CHECK(!lpi_json_is_array(lp_s("{[")) && !lpi_json_is_array(lp_s("]")));
}

/* ---- the reader: values by their path ---- */

static lp_slice guarded_copy(const char *text) {
    return lpi_slice(before_guard(lp_s(text)), strlen(text));
}

/* What is there, or the name of the error; and an error changes nothing. */
static lp_slice look_up(const char *text, const char *path) {
    lp_slice out = lp_s("untouched");
    lp_result result = lp_json_get(guarded_copy(text), path, &out);
    if (result == LP_OK) return out;
    CHECK_STR(out, "untouched");
    return lp_s(result == LP_ERR_NOT_FOUND ? "none" : result == LP_ERR_ARG ? "no path"
                : result == LP_ERR_JSON ? "no json" : "?");
}

TEST(json_get_by_path) {
    static const char text[] =
        " { \"user\" : { \"name\":\"A\\u0064a\", \"tags\":[ \"x\" , 2.50 ,[true, null ]], "
        "\"\":0 } ,\n"
        "\"a.b\":{\"[\":1,\"]\":2,\"\\\"\":3,\"\\\\\":4,\"\\/\":5},\"\xC3\xA9\":6,\"\\u00e8\":7,"
        "\"\\ud83d\\ude00\":8,\"0\":9,\"two\\u0000\":10,\"d\":1,\"\\u0064\":{\"x\":2},\"-\":11 } ";
    static const struct { const char *path, *want; } cases[] = {
        {"user.name", "\"A\\u0064a\""}, {"user.tags[0]", "\"x\""}, {"user.tags[1]", "2.50"},
        {"user.tags[2]", "[true, null ]"}, {"user.tags[2][1]", "null"}, {"user[\"\"]", "0"},
        {"[\"user\"].name", "\"A\\u0064a\""}, {"[\"user\"][\"tags\"][2][0]", "true"},
        {"\\u0075ser", "none"}, {"[\"\\u0075ser\"][\"n\\u0061me\"]", "\"A\\u0064a\""},
        {"[\"a.b\"][\"[\"]", "1"}, {"[\"a.b\"][\"]\"]", "2"}, {"[\"a.b\"][\"\\\"\"]", "3"},
        {"[\"a.b\"][\"\\\\\"]", "4"}, {"[\"a.b\"].\\", "4"}, {"[\"a.b\"]./", "5"},
        {"[\"a.b\"][\"\\u002F\"]", "5"}, {"\xC3\xA9", "6"}, {"[\"\\u00E9\"]", "6"},
        {"\xC3\xA8", "7"}, {"[\"\\u00E8\"]", "7"}, {"\xF0\x9F\x98\x80", "8"},
        {"[\"\\uD83D\\uDE00\"]", "8"}, {"0", "9"}, {"[\"0\"]", "9"}, {"two", "none"},
        {"[\"two\\u0000\"]", "10"}, {"d", "{\"x\":2}"}, {"d.x", "2"}, {"-", "11"},
        {"\xC3", "none"}, {"\xC3\xA9\xA9", "none"}, {"USER", "none"}, {"use", "none"},
        {"users", "none"}, {"user.tags[3]", "none"}, {"user.tags[18446744073709551615]", "none"},
        {"[0]", "none"}, {"user.tags.x", "none"}, {"user.name.x", "none"}, {"user.name[0]", "none"},
        {"none.none[7].none", "none"}, {"user.tags[2][1].x", "none"}, {" user", "none"}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        lp_slice got = look_up(text, cases[i].path);
        if (!lpi_equal(got, lp_s(cases[i].want)))
            unit_fail(__FILE__, __LINE__, "%s gave %.*s", cases[i].path, (int)got.length,
                      got.bytes);
    }
    CHECK_STR(look_up(" [ 1 ] ", ""), "[ 1 ]");
    CHECK_STR(look_up("7", ""), "7");
    CHECK_STR(look_up("\t\"a\"\n", ""), "\"a\"");
    CHECK_STR(look_up("[[],[5,{\"a\":6}]]", "[1][1].a"), "6");
    CHECK_STR(look_up("{\"a\":1,\"b\":2,\"a\":3,\"\\u0061\":[4]}", "a"), "[4]");
    CHECK_STR(look_up("{\"a\":{\"x\":1},\"a\":{\"y\":2}}", "a.x"), "none"); /* of the last alone */
    CHECK_STR(look_up("{\"\\ud800\":1}", "[\"\\uD800\"]"), "1"); /* no text, but a key */
    CHECK_STR(look_up("{\"\\ud800\\u0061\":1}", "[\"\\ud800a\"]"), "1");
    CHECK_STR(lp_sn("abc", 2), "ab");
}

TEST(json_get_by_bad_paths) {
    static const char *const bad[] = {
        ".", "..", ".a", "a.", "a..b", "a.[0]", "[", "[]", "[ 0]", "[0 ]", "[00]", "[01]", "[-1]",
        "[+1]", "[1.0]", "[a]", "[0", "[0]]", "[0]a", "[0]..a", "]", "a]", "\"a\"", "a\"b", "[\"a]",
        "[\"a\"", "[\"a\"x]", "[\"\\x\"]", "[\"\\u12\"]", "[\"\n\"]", "[\"\xC3\"]", "['a']",
        "[18446744073709551616]", "a[", "a[0].", "none.none."};
    size_t i;
    for (i = 0; i < LPI_COUNT(bad); i++) {
        if (!lpi_equal(look_up("{\"a\":[1]}", bad[i]), lp_s("no path")))
            unit_fail(__FILE__, __LINE__, "a path: %s", bad[i]);
        CHECK_STR(look_up("{", bad[i]), "no path");
    }
    CHECK_STR(look_up("{}", NULL), "no path");
    CHECK_INT(lp_json_get(lp_sn(NULL, 0), "", NULL), LP_ERR_JSON); /* and no text */
}

/* A text that is bad anywhere has nothing in it. */
TEST(json_get_from_what_is_no_json) {
    static const char whole[] = "{\"a\":[1,\"\\u0041\xC3\xA9\",{\"b\":null}],\"c\":-1.5e3}";
    size_t i;
    for (i = 0; i < LPI_COUNT(bad_and_good); i++) {
        lp_slice text = lpi_slice(bad_and_good[i].text, bad_and_good[i].length), out;
        lp_json_iter it;
        text.bytes = before_guard(text);
        CHECK_INT(lp_json_get(text, "", &out), bad_and_good[i].offset < 0 ? LP_OK : LP_ERR_JSON);
        lp_json_each(&it, text);
        while (lp_json_next(&it)) CHECK(bad_and_good[i].offset < 0);
        if (bad_and_good[i].offset >= 0) CHECK_INT(it.result, LP_ERR_JSON);
        else CHECK_INT(it.result, lp_json_kind(out) >= LP_JSON_ARRAY ? LP_OK : LP_ERR_TYPE);
    }
    for (i = 0; i < sizeof whole - 1; i++) { /* cut off anywhere */
        lp_slice text = lpi_slice(before_guard(lpi_slice(whole, i)), i), out;
        CHECK_INT(lp_json_get(text, "a", &out), LP_ERR_JSON);
    }
    CHECK_STR(look_up(whole, "a[2].b"), "null");
    CHECK_STR(look_up("{\"a\":1}x", "a"), "no json");
    CHECK_STR(look_up("{\"a\":1,\"b\":[2}", "a"), "no json");
}

TEST(json_get_to_the_depth_of_64) {
    char text[200], path[400];
    int depth, i;
    for (depth = 64; depth <= 65; depth++) {
        lp_json_iter it;
        for (i = 0; i < depth; i++) text[i] = '[', text[2 * depth - i] = ']';
        text[depth] = '7';
        text[2 * depth + 1] = 0;
        *path = 0;
        for (i = 0; i < depth; i++) strcat(path, "[0]");
        CHECK_STR(look_up(text, path), depth == 64 ? "7" : "no json");
        lp_json_each(&it, lp_s(text));
        CHECK_INT(it.result, depth == 64 ? LP_OK : LP_ERR_JSON);
    }
}

/* ---- the reader: what values say ---- */

#define WITH_LENGTH(literal) literal, sizeof(literal) - 1

TEST(json_get_strings) {
    static const struct { const char *text, *want; size_t length; } cases[] = {
        {"\"\"", WITH_LENGTH("")}, {"\"abc\"", WITH_LENGTH("abc")},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", WITH_LENGTH("\"\\/\b\f\n\r\t")},
        {"\"\\u0000\\u007f\\u0080\\u07FF\\u0800\\uD7FF\\uE000\\uffff\"",
         WITH_LENGTH("\0\x7f\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF")},
        {"\"\\ud800\\udc00\\uDBFF\\uDFFF\"", WITH_LENGTH("\xF0\x90\x80\x80\xF4\x8F\xBF\xBF")},
        {"\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"",
         WITH_LENGTH("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80")},
        {"\"\\u005cu0041\"", WITH_LENGTH("\\u0041")}, /* decoded once */
        {"\"\\ud800\"", NULL, 0}, {"\"\\udc00\"", NULL, 0}, {"\"a\\ud800b\"", NULL, 0},
        {"\"\\ud800\\ud800\"", NULL, 0}, {"\"\\udc00\\ud800\"", NULL, 0},
        {"\"\\ud800\\u0041\"", NULL, 0}, {"\"\\ud800\\udbff\"", NULL, 0},
        {"\"\\ud800udc00\"", NULL, 0}, {"\"\\ud800\\ndc00\"", NULL, 0}};
    size_t i, size;
    for (i = 0; i < LPI_COUNT(cases); i++)
        for (size = 0; size < cases[i].length + 3; size++) {
            char *buffer = (char *)malloc(size + !size); /* not a byte more */
            lp_slice out = lp_s("untouched");
            lp_result result =
                lp_json_get_string(guarded_copy(cases[i].text), "", buffer, size, &out);
            if (cases[i].want && size > cases[i].length) {
                CHECK_INT(result, LP_OK);
                CHECK(out.bytes == buffer);
                CHECK_BYTES(out.bytes, out.length, cases[i].want, cases[i].length);
                CHECK_INT(buffer[out.length], 0);
            } else {
                CHECK_STR(out, "untouched");
                if (cases[i].want || !size) CHECK_INT(result, LP_ERR_TOO_LARGE);
            }
            free(buffer);
        }
    for (i = 0; i < LPI_COUNT(cases); i++) {
        char buffer[40];
        lp_slice out;
        if (!cases[i].want)
            CHECK_INT(lp_json_get_string(lp_s(cases[i].text), "", buffer, 40, &out), LP_ERR_TYPE);
    }
}

/* "int uint", each a number or a T: not of that type. */
static const char *whole_of(const char *text) {
    static char said[80];
    int64_t i = 12345;
    uint64_t u = 12345;
    lp_result signed_result = lp_json_get_int(guarded_copy(text), "", &i);
    lp_result result = lp_json_get_uint(guarded_copy(text), "", &u);
    char *to = said;
    if (signed_result) CHECK(signed_result == LP_ERR_TYPE && i == 12345);
    if (result) CHECK(result == LP_ERR_TYPE && u == 12345);
    if (signed_result) to += sprintf(to, "T ");
    else to += sprintf(to, "%lld ", (long long)i);
    if (result) sprintf(to, "T");
    else sprintf(to, "%llu", (unsigned long long)u);
    return said;
}

TEST(json_get_whole_numbers) {
    static const struct { const char *text, *want; } cases[] = {
        {"0", "0 0"}, {"-0", "0 0"}, {"0.000", "0 0"}, {"-0e5", "0 0"},
        {"0e999999999999999999999", "0 0"}, {"0.0e-99999999999999999999", "0 0"}, {"1", "1 1"},
        {"-1", "-1 T"}, {"1.0", "1 1"}, {"1e2", "100 100"}, {"1E+2", "100 100"},
        {"1.50e1", "15 15"}, {"1500e-2", "15 15"}, {"-1500.00e-2", "-15 T"}, {"0.0012e4", "12 12"},
        {"1.5", "T T"}, {"1e-1", "T T"}, {"15e-1", "T T"}, {"0.1", "T T"}, {"0.5e0", "T T"},
        {"1e-99999999999999999999", "T T"}, {"1e99999999999999999999", "T T"},
        {"9007199254740993", "9007199254740993 9007199254740993"},
        {"9223372036854775807", "9223372036854775807 9223372036854775807"},
        {"9223372036854775808", "T 9223372036854775808"},
        {"-9223372036854775808", "-9223372036854775808 T"}, {"-9223372036854775809", "T T"},
        {"18446744073709551615", "T 18446744073709551615"}, {"18446744073709551616", "T T"},
        {"18446744073709551615.0", "T 18446744073709551615"}, {"18446744073709551615.1", "T T"},
        {"1844674407370955161500e-2", "T 18446744073709551615"},
        {"0.18446744073709551615e20", "T 18446744073709551615"}, {"1e19", "T 10000000000000000000"},
        {"1e18", "1000000000000000000 1000000000000000000"}, {"1e20", "T T"}, {"99e18", "T T"},
        {"12345678901234567890e1", "T T"}, {"1.0000000000000000000000000000000001", "T T"},
        {"10000000000000000000000000000000000000000e-40", "1 1"}};
    static const char *const others[] = {"null", "true", "\"1\"", "[1]", "{}"};
    static char text[6000];
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        lp_slice got = lp_s(whole_of(cases[i].text));
        if (!lpi_equal(got, lp_s(cases[i].want)))
            unit_fail(__FILE__, __LINE__, "%s is %s", cases[i].text, got.bytes);
    }
    for (i = 0; i < LPI_COUNT(others); i++) CHECK_STR(lp_s(whole_of(others[i])), "T T");
    /* more digits than are kept: zeros may be left out, others may not */
    sprintf(text, "7%02000de-1999", 0);
    CHECK_STR(lp_s(whole_of(text)), "70 70");
    sprintf(text, "7%01999d1e-2000", 0);
    CHECK_STR(lp_s(whole_of(text)), "T T");
    sprintf(text, "0.%05000d3e5001", 0);
    CHECK_STR(lp_s(whole_of(text)), "3 3");
    sprintf(text, "7%0800d.%0800d1", 0, 0);
    CHECK_STR(lp_s(whole_of(text)), "T T");
}

/* Numbers of either sign, around powers of two and by chance, in several ways to write them. */
TEST(json_get_whole_numbers_in_any_form) {
    int round;
    for (round = 0; round < unit_rounds(30000); round++) {
        uint64_t magnitude = unit_random() >> unit_below(64);
        int negative = unit_one_in(2), zeros = 1 + (int)unit_below(30);
        const char *minus = negative ? "-" : "";
        char text[200], want[80], digits[24];
        if (unit_one_in(4)) magnitude = (UINT64_C(1) << 63) + unit_below(3) - 1;
        sprintf(digits, "%llu", (unsigned long long)magnitude);
        switch (unit_below(4)) {
        case 0: sprintf(text, "%s%s", minus, digits); break;
        case 1: sprintf(text, "%s%s.%0*d", minus, digits, zeros, 0); break;
        case 2:
            sprintf(text, "%s%s%0*de-%d", minus, magnitude ? digits : "", zeros, 0, zeros);
            break;
        default: sprintf(text, "%s0.%0*d%se+%d", minus, zeros, 0, digits,
                         zeros + (int)strlen(digits));
        }
        if (!magnitude && strspn(text, "-0") > 1) strcpy(text, "-0"); /* no zeros before it */
        if (!magnitude) strcpy(want, "0 0");
        else if (!negative && magnitude > INT64_MAX) sprintf(want, "T %s", digits);
        else if (!negative) sprintf(want, "%s %s", digits, digits);
        else if (magnitude > UINT64_C(1) << 63) strcpy(want, "T T");
        else sprintf(want, "-%s T", digits);
        if (strcmp(whole_of(text), want))
            unit_fail(__FILE__, __LINE__, "%s is %s, not %s", text, whole_of(text), want);
    }
}

/* Like the C library, which reads the whole text, where the decimal point is a point. */
static void reads_like_strtod(const char *text) {
    static const char *const points[] = {".", ","};
    size_t p;
    for (p = 0; p < LPI_COUNT(points); p++) {
        double before = 5, got = before, want = strtod(text, NULL);
        lp_result result;
        decimal_point = points[p];
        result = lp_json_get_double(guarded_copy(text), "", &got);
        decimal_point = ".";
        if (want - want != 0) {
            if (result != LP_ERR_TYPE || memcmp(&got, &before, sizeof got))
                unit_fail(__FILE__, __LINE__, "%.60s... gave %d and %.17g", text, result, got);
        } else if (result || memcmp(&got, &want, sizeof got)) {
            unit_fail(__FILE__, __LINE__, "%.60s... gave %d and %.17g, not %.17g", text, result,
                      got, want);
        }
    }
}

TEST(json_get_doubles) {
    static const char *const texts[] = {
        "0", "-0", "0.0e5", "-0e-999999999999999999", "1", "-1.5", "0.1", "1e22", "1e23", "1e-5",
        "123456789012345678e-30", "9007199254740993", "9007199254740992.5",
        "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308", "2e308",
        "-1e309", "1e999999999999999999999", "4.9e-324", "2.4e-324", "2.5e-324", "1e-400",
        "-1e-99999999999999999999", "2.2250738585072011e-308", "2.2250738585072014e-308",
        "5708990770823839207320493820740630171355185152001e-3"};
    static char text[3000];
    size_t i;
    int round;
    double before = 5, out = before;
    for (i = 0; i < LPI_COUNT(texts); i++) reads_like_strtod(texts[i]);
    for (round = 0; round < unit_rounds(20000); round++) {
        char *to = text;
        uint32_t whole = unit_below(30), part = unit_below(30);
        to += sprintf(to, "%s%u", unit_one_in(2) ? "-" : "", 1 + unit_below(9));
        while (whole--) *to++ = (char)('0' + unit_below(10));
        if (part) *to++ = '.';
        while (part--) *to++ = (char)('0' + unit_below(10));
        if (unit_one_in(2)) to += sprintf(to, "e%d", (int)unit_below(700) - 350);
        *to = 0;
        reads_like_strtod(text);
    }
    sprintf(text, "0.%02000d12345e2001", 0);
    reads_like_strtod(text);
    sprintf(text, "12345%02000de-2004", 0);
    reads_like_strtod(text);
    CHECK_INT(lp_json_get_double(lp_s("\"1\""), "", &out), LP_ERR_TYPE);
    CHECK_INT(lp_json_get_double(lp_s("null"), "", &out), LP_ERR_TYPE);
    CHECK(memcmp(&out, &before, sizeof out) == 0);
}

/* The longest numbers in the middle between two doubles: (2m + 1) * 2^-1075, of which 5^1075 gives
   the digits. What is behind the 768th digit decides where it ends. */
TEST(json_get_doubles_in_the_middle) {
    static const uint64_t odd[] = {(UINT64_C(1) << 54) - 1, (UINT64_C(1) << 54) - 3,
                                   (UINT64_C(1) << 54) - 5, 1, 3, 5};
    size_t k;
    for (k = 0; k < LPI_COUNT(odd); k++) {
        static char digits[800], text[3000];
        size_t n = (size_t)sprintf(digits, "%llu", (unsigned long long)odd[k]), i;
        int power;
        for (power = 0; power < 1075; power++) {
            int carry = 0, value;
            for (i = n; i--;) {
                value = (digits[i] - '0') * 5 + carry;
                digits[i] = (char)('0' + value % 10);
                carry = value / 10;
            }
            if (!carry) continue;
            memmove(digits + 1, digits, n++);
            digits[0] = (char)('0' + carry);
        }
        digits[n] = 0;
        CHECK(n <= 768 && (k || n == 768));
        sprintf(text, "%se-1075", digits);
        reads_like_strtod(text);
        sprintf(text, "%s%0900de-1975", digits, 0);
        reads_like_strtod(text);
        sprintf(text, "%s%0900d1e-1976", digits, 0);
        reads_like_strtod(text);
        sprintf(text, "%s.%0900d1e-1075", digits, 0);
        reads_like_strtod(text);
        digits[n - 1]--; /* it was a 5 */
        sprintf(text, "%s%s9e-%lu", digits, digits, (unsigned long)(1076 + n));
        reads_like_strtod(text);
    }
}

TEST(json_get_bools_and_kinds) {
    static const struct { const char *text; lp_kind kind; } kinds[] = {
        {"null", LP_JSON_NULL}, {"true", LP_JSON_BOOL}, {"false", LP_JSON_BOOL},
        {"0", LP_JSON_NUMBER}, {"9", LP_JSON_NUMBER}, {"-1", LP_JSON_NUMBER},
        {"\"\"", LP_JSON_STRING}, {"[]", LP_JSON_ARRAY}, {"{}", LP_JSON_OBJECT},
        {"", LP_JSON_NONE}, {" 1", LP_JSON_NONE}, {"+", LP_JSON_NONE},
        {"/", LP_JSON_NONE}, {":", LP_JSON_NONE}, {"x", LP_JSON_NONE}};
    size_t i;
    int yes = 7;
    for (i = 0; i < LPI_COUNT(kinds); i++)
        CHECK_INT(lp_json_kind(guarded_copy(kinds[i].text)), kinds[i].kind);
    CHECK_INT(lp_json_kind(lpi_slice(NULL, 0)), LP_JSON_NONE);
    CHECK_INT(lp_json_get_bool(lp_s("[true,false,null,0,\"true\"]"), "[2]", &yes), LP_ERR_TYPE);
    CHECK_INT(lp_json_get_bool(lp_s("[true,false,null,0,\"true\"]"), "[3]", &yes), LP_ERR_TYPE);
    CHECK_INT(lp_json_get_bool(lp_s("[true,false,null,0,\"true\"]"), "[4]", &yes), LP_ERR_TYPE);
    CHECK_INT(lp_json_get_bool(lp_s("[true]"), "[1]", &yes), LP_ERR_NOT_FOUND);
    CHECK_INT(lp_json_get_bool(lp_s("[true"), "[0]", &yes), LP_ERR_JSON);
    CHECK_INT(lp_json_get_bool(lp_s("[true]"), "x.", &yes), LP_ERR_ARG);
    CHECK_INT(yes, 7);
    CHECK_INT(lp_json_get_bool(lp_s("[true,false]"), "[0]", &yes), LP_OK);
    CHECK_INT(yes, 1);
    CHECK_INT(lp_json_get_bool(lp_s("[true,false]"), "[1]", &yes), LP_OK);
    CHECK_INT(yes, 0);
}

/* ---- the reader: all that is in a value ---- */

/* <key=value> of each, without the key in an array, and the result. */
static const char *each_of(const char *text) {
    static char said[600];
    char *to = said;
    lp_json_iter it;
    lp_json_each(&it, guarded_copy(text));
    while (lp_json_next(&it)) {
        CHECK_INT(it.result, LP_OK);
        if (it.key.bytes) to += sprintf(to, "<%.*s=", (int)it.key.length, it.key.bytes);
        else to += sprintf(to, "<");
        to += sprintf(to, "%.*s>", (int)it.value.length, it.value.bytes);
    }
    CHECK(!lp_json_next(&it) && !it.value.bytes);
    CHECK(!it.key.bytes);
    sprintf(to, "%d", it.result);
    return said;
}

TEST(json_each_value) {
    CHECK_STR(lp_s(each_of("{}")), "0");
    CHECK_STR(lp_s(each_of(" [ ] ")), "0");
    CHECK_STR(lp_s(each_of(" [ 1 , \"]\" ,[2,3],{ \"a\" : 4 }, null ]\n")),
              "<1><\"]\"><[2,3]><{ \"a\" : 4 }><null>0");
    CHECK_STR(lp_s(each_of("\n{ \"\" : [ ] , \"a\\u0062\":{\"b\":1},\"\":2 , \"}\":\"}\"} ")),
              "<=[ ]><a\\u0062={\"b\":1}><=2><}=\"}\">0");
    CHECK_STR(lp_s(each_of("[1,2")), "-4");
    CHECK_STR(lp_s(each_of("[1,2]]")), "-4");
    CHECK_STR(lp_s(each_of("")), "-4");
    CHECK_STR(lp_s(each_of("\"[1]\"")), "-14");
    CHECK_STR(lp_s(each_of(" null ")), "-14");
}

TEST(json_each_key) {
    static const char text[] = "{\"a\\u0062c\":1,\"\":2,\"\\\\\":3,\"\\ud800\":4,"
                               "\"\\u0000\":5,\"\xC3\xA9\":6}";
    char buffer[8];
    lp_slice out = lp_s("untouched");
    lp_json_iter it;
    lp_json_each(&it, guarded_copy(text));
    CHECK(lp_json_next(&it) && lp_json_key_is(&it, "abc"));
    CHECK(!lp_json_key_is(&it, "ab") && !lp_json_key_is(&it, "abcd") && !lp_json_key_is(&it, ""));
    CHECK(!lp_json_key_is(&it, "a\\u0062c")); /* a name is what it is */
    CHECK_INT(lp_json_key_text(&it, buffer, 3, &out), LP_ERR_TOO_LARGE);
    CHECK_STR(out, "untouched");
    CHECK_INT(lp_json_key_text(&it, buffer, 4, &out), LP_OK);
    CHECK_STR(out, "abc");
    CHECK_INT(buffer[3], 0);
    CHECK(lp_json_next(&it) && lp_json_key_is(&it, "") && lp_json_key_is(&it, NULL));
    CHECK(!lp_json_key_is(&it, "a"));
    CHECK_INT(lp_json_key_text(&it, buffer, 1, &out), LP_OK);
    CHECK_STR(out, "");
    CHECK(lp_json_next(&it) && lp_json_key_is(&it, "\\") && !lp_json_key_is(&it, "\\\\"));
    CHECK(lp_json_next(&it) && !lp_json_key_is(&it, "\xED\xA0\x80"));
    CHECK_INT(lp_json_key_text(&it, buffer, 8, &out), LP_ERR_TYPE);
    CHECK(lp_json_next(&it) && !lp_json_key_is(&it, ""));
    CHECK_INT(lp_json_key_text(&it, buffer, 8, &out), LP_OK);
    CHECK_BYTES(out.bytes, out.length, "", 1);
    CHECK(lp_json_next(&it) && lp_json_key_is(&it, "\xC3\xA9") && !lp_json_key_is(&it, "\xC3"));
    CHECK(!lp_json_next(&it) && !lp_json_key_is(&it, ""));
    lp_json_each(&it, lp_s("[1]"));
    CHECK(lp_json_next(&it) && !lp_json_key_is(&it, "") && !lp_json_key_is(&it, NULL));
    CHECK_INT(lp_json_key_text(&it, buffer, 8, &out), LP_ERR_NOT_FOUND);
}

/* Every value of a text is where its path says; if its key comes again, the last of that key is.
   `hidden` is in what nothing leads to. Returns how many values there are. */
static uint32_t walk_values(lp_slice value, char *path, int hidden) {
    lp_json_iter it, later;
    char *end = path + strlen(path);
    uint32_t n = 1, i = 0;
    lp_json_each(&it, value);
    while (lp_json_next(&it)) {
        lp_slice got, last = it.value, key, other;
        char text[100], other_text[100];
        if (it.key.bytes) sprintf(end, "[\"%.*s\"]", (int)it.key.length, it.key.bytes);
        else sprintf(end, "[%u]", i++);
        if (it.key.bytes) CHECK_INT(lp_json_key_text(&it, text, sizeof text, &key), LP_OK);
        for (later = it; it.key.bytes && lp_json_next(&later);) {
            CHECK_INT(lp_json_key_text(&later, other_text, sizeof other_text, &other), LP_OK);
            if (lpi_equal(key, other)) last = later.value;
        }
        CHECK_INT(lp_json_get(value, end, &got), LP_OK);
        CHECK(got.bytes == last.bytes && got.length == last.length);
        if (!hidden) CHECK_INT(lp_json_get(lpi_slice(made, made_length), path, &got), LP_OK);
        CHECK(got.bytes == last.bytes && got.length == last.length);
        n += walk_values(it.value, path, hidden || last.bytes != it.value.bytes);
        *end = 0;
    }
    return n;
}

TEST(json_each_value_is_where_its_path_says) {
    int round, large = 0;
    for (round = 0; round < unit_rounds(2000); round++) {
        char path[400] = "";
        made_length = 0;
        do put_value(0);
        while (made_length > 1900 && (made_length = 0, 1));
        large += walk_values(lpi_slice(made, made_length), path, 0) > 20;
    }
    CHECK(large);
}
