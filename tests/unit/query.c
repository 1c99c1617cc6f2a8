/* B2, query: percent-decoding, channel names, seconds and cursors. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

static void wrong(int line, const char *what, lp_slice text) {
    char quoted[400];
    unit_fail(__FILE__, line, "%s: \"%s\"", what,
              unit_quote(quoted, sizeof quoted, text.bytes, text.length));
}

/* ---- percent-decoding ---- */

/* In a block of just its size, so that a sanitizer sees what is read or written beyond. */
static long decode(lp_slice raw, int plus, char *out) {
    char *from = (char *)malloc(raw.length + !raw.length);
    char *to = (char *)malloc(raw.length + !raw.length);
    long n;
    memcpy(from, raw.bytes, raw.length);
    n = lpi_percent_decode(to, lpi_slice(from, raw.length), plus);
    if (n > 0) memcpy(out, to, (size_t)n);
    free(from);
    free(to);
    return n;
}

#define TEXT(literal) {literal, sizeof(literal) - 1}

TEST(query_percent_decoding) {
    static const char *const bad[] = {"%", "%1", "%zz", "%0g", "%g0", "a%", "a%2", "%%", "%%41",
                                      "%4%31", "% 1", "%+1", "%-1"};
    static const struct { lp_slice raw; int plus; lp_slice plain; } good[] = {
        {TEXT(""), 0, TEXT("")}, {TEXT("a%2Fb%2c%00%C3%a9+%2B"), 0, TEXT("a/b,\0\xC3\xA9++")},
        {TEXT("a+b%2B++"), 1, TEXT("a b+  ")}, {TEXT("%2541"), 0, TEXT("%41")}, /* once */
        {TEXT("\xFF\0%00x"), 0, TEXT("\xFF\0\0x")}, {TEXT("%fF"), 1, TEXT("\xFF")}};
    char out[100];
    size_t i;
    for (i = 0; i < LPI_COUNT(bad); i++)
        if (decode(lp_s(bad[i]), 0, out) != -1) wrong(__LINE__, "decoded", lp_s(bad[i]));
    for (i = 0; i < LPI_COUNT(good); i++) {
        long n = decode(good[i].raw, good[i].plus, out);
        if (n < 0) wrong(__LINE__, "refused", good[i].raw);
        CHECK_BYTES(out, (size_t)n, good[i].plain.bytes, good[i].plain.length);
    }
}

/* Encoded by chance, decoded the same; cut inside an escape it is refused. */
TEST(query_decodes_what_was_encoded) {
    int round;
    for (round = 0; round < unit_rounds(10000); round++) {
        char plain[30], raw[100], out[100], *to = raw;
        size_t n = unit_below(30), length, i;
        int cut = 0;
        for (i = 0; i < n; i++) {
            plain[i] = (char)unit_random();
            if (plain[i] == '%' || plain[i] == '+' || unit_one_in(2))
                to += sprintf(to, unit_one_in(2) ? "%%%02x" : "%%%02X", (uint8_t)plain[i]);
            else *to++ = plain[i];
        }
        length = (size_t)(to - raw);
        CHECK_BYTES(out, (size_t)decode(lpi_slice(raw, length), (int)unit_below(2), out), plain,
                    n);
        if (to - raw >= 3 && to[-3] == '%') cut = 1 + (int)unit_below(2);
        if (cut) CHECK_INT(decode(lpi_slice(raw, length - (size_t)cut), 0, out), -1);
    }
}

/* A name of up to 64 bytes, however it is written. */
TEST(query_names_of_parameters) {
    char raw[300], name[70];
    size_t n;
    CHECK(lpi_query_name_is(LPI_S("last_id"), LPI_S("last_id")));
    CHECK(lpi_query_name_is(LPI_S("%6cast%5Fi%64"), LPI_S("last_id")));
    CHECK(lpi_query_name_is(LPI_S("a+b"), LPI_S("a b")));
    CHECK(lpi_query_name_is(LPI_S(""), LPI_S("")));
    CHECK(!lpi_query_name_is(LPI_S("last_i"), LPI_S("last_id")));
    CHECK(!lpi_query_name_is(LPI_S("last_id%"), LPI_S("last_id")));
    CHECK(!lpi_query_name_is(LPI_S("last_id%00"), LPI_S("last_id")));
    CHECK(!lpi_query_name_is(LPI_S("Last_id"), LPI_S("last_id")));
    memset(name, 'x', sizeof name);
    for (n = 0; n < sizeof name; n++) {
        memcpy(raw + 3 * n, "%78", 3);
        CHECK_INT(lpi_query_name_is(lpi_slice(raw, 3 * n + 3), lpi_slice(name, n + 1)), n < 64);
    }
    CHECK(!lpi_query_name_is(lpi_slice(memset(raw, 'x', 193), 193), lpi_slice(name, 64)));
}

/* ---- names ---- */

static size_t encode(char *to, uint32_t code) {
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4, i;
    for (i = n - 1; i > 0; i--, code >>= 6) to[i] = (char)(0x80 | (code & 63));
    to[0] = (char)(n == 1 ? code : (0xF00 >> n & 0xFF) | code);
    return n;
}

/* Every code point, first and last in a name. */
TEST(query_names_of_every_character) {
    uint32_t code, step = unit_environment("UNIT_DIVIDE", 1);
    for (code = 0; code < 0x110100; code += code < 0x900 ? 1 : step) {
        char text[10];
        size_t n = encode(text, code);
        int control = code < 0x20 || (code >= 0x7f && code < 0xA0);
        int good = !control && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
        text[n] = 'x';
        if (lpi_channel_name_good(lpi_slice(text, n)) != good ||
            lpi_channel_name_good(lpi_slice(text, n + 1)) != good)
            wrong(__LINE__, good ? "refused" : "taken", lpi_slice(text, n));
        memmove(text + 1, text, n);
        text[0] = 'x';
        CHECK_INT(lpi_channel_name_good(lpi_slice(text, n + 1)), good);
        if (n > 1) CHECK(!lpi_channel_name_good(lpi_slice(text, n))); /* cut short */
    }
}

TEST(query_names_of_every_length) {
    static const char *const ends[] = {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    char text[300];
    size_t length, e, n;
    memset(text, 'x', sizeof text);
    CHECK(!lpi_channel_name_good(LPI_S("")));
    CHECK(!lpi_channel_name_good(lpi_slice(NULL, 0)));
    for (length = 1; length < 300; length++)
        CHECK_INT(lpi_channel_name_good(lpi_slice(text, length)), length <= 255);
    for (e = 0; e < LPI_COUNT(ends); e++)
        for (length = 250; length <= 260; length++) {
            n = strlen(ends[e]);
            memcpy(text + length - n, ends[e], n);
            CHECK_INT(lpi_channel_name_good(lpi_slice(text, length)), length <= 255);
            if (n > 1) CHECK(!lpi_channel_name_good(lpi_slice(text, length - 1)));
            memset(text, 'x', sizeof text);
        }
}

TEST(query_names_that_come_encoded) {
    static const struct { const char *raw, *name; } names[] = {
        {"news", "news"}, {"a%2Fb%2Cc", "a/b,c"}, {"%2e%2e", ".."}, {"a+b", "a+b"},
        {"%C3%A9", "\xC3\xA9"}, {"\xC3%A9", "\xC3\xA9"}, {"%25", "%"}, {" ", " "}, {"%", NULL},
        {"%1", NULL}, {"%zz", NULL}, {"%00", NULL}, {"a%00", NULL}, {"%0d%0a", NULL},
        {"%7F", NULL}, {"%C2%80", NULL}, {"%C2%9F", NULL}, {"%C2%A0", "\xC2\xA0"},
        {"%C0%AF", NULL}, {"%ED%A0%80", NULL}, {"%F4%90%80%80", NULL}, {"%C3", NULL},
        {"%80", NULL}, {"", NULL}};
    char to[3 * LPI_CHANNEL_BYTES], raw[800];
    lp_slice out;
    size_t i, n;
    for (i = 0; i < LPI_COUNT(names); i++) {
        out = LPI_S("untouched");
        if (lpi_channel_decode(to, lp_s(names[i].raw), &out) != (names[i].name ? 0 : -1))
            wrong(__LINE__, "name", lp_s(names[i].raw));
        CHECK_STR(out, names[i].name ? names[i].name : "untouched");
    }
    for (i = 254; i <= 256; i++) { /* wholly encoded: 765 bytes are the most */
        for (n = 0; n < i; n++) memcpy(raw + 3 * n, "%78", 3);
        CHECK_INT(lpi_channel_decode(to, lpi_slice(raw, 3 * i), &out), i <= 255 ? 0 : -1);
    }
    CHECK_INT(lpi_channel_decode(to, lpi_slice(memset(raw, 'x', 800), 766), &out), -1);
    CHECK_INT(lpi_channel_decode(to, lpi_slice(raw, 255), &out), 0);
    CHECK_INT(lpi_channel_decode(to, lpi_slice(raw, 256), &out), -1);
}

/* ---- seconds ---- */

TEST(query_seconds) {
    static const struct { const char *text; int exact, result; uint64_t us; } seconds[] = {
        {"0", 1, 0, 0}, {"0.0", 1, 0, 0}, {"1", 1, 0, 1000000}, {"00001", 1, 0, 1000000},
        {"0.000001", 1, 0, 1}, {"0.1", 1, 0, 100000}, {"1.5", 0, 0, 1500000},
        {"1732412345.123456", 1, 0, UINT64_C(1732412345123456)}, {"0.0000001", 1, -1, 0},
        {"0.0000000", 1, -1, 0}, {"0.0000000", 0, 0, 0}, {"0.0000001", 0, 0, 1},
        {"0.0000010", 0, 0, 1}, {"0.00000100001", 0, 0, 2}, {"0.99999999999", 0, 0, 1000000},
        {"0.123456000000000000000000000001", 0, 0, 123457},
        {"922337203685.999999", 1, 0, UINT64_C(922337203685999999)}, {"", 0, -1, 0},
        {".", 0, -1, 0}, {".5", 0, -1, 0}, {"5.", 0, -1, 0}, {"1..5", 0, -1, 0},
        {"1.5.5", 0, -1, 0}, {"-1", 0, -1, 0}, {"+1", 0, -1, 0}, {" 1", 0, -1, 0},
        {"1 ", 0, -1, 0}, {"1e3", 0, -1, 0}, {"1e999", 0, -1, 0}, {"NaN", 0, -1, 0},
        {"inf", 0, -1, 0}, {"0x5", 0, -1, 0}, {"1,5", 0, -1, 0}, {"1_0", 0, -1, 0},
        {"1.-5", 0, -1, 0}, {"1.5x", 0, -1, 0}, {"1s", 0, -1, 0}};
    size_t i;
    for (i = 0; i < LPI_COUNT(seconds); i++) {
        uint64_t us = 77;
        if (lpi_query_seconds(lp_s(seconds[i].text), seconds[i].exact, &us) != seconds[i].result)
            wrong(__LINE__, "seconds", lp_s(seconds[i].text));
        CHECK_INT(us, seconds[i].result ? 77 : seconds[i].us);
    }
}

/* What the server writes as a timestamp comes back to the microsecond. */
TEST(query_seconds_come_back) {
    int round;
    for (round = 0; round < unit_rounds(20000); round++) {
        uint64_t want = unit_random() >> (5 + unit_below(59)), got = 0;
        char text[27];
        CHECK_INT(lpi_query_seconds(lpi_slice_to(text, lpi_put_seconds(text, want)), 1, &got), 0);
        CHECK(got == want);
    }
}

/* Longer texts never mean less: what is too much stays so, and nothing wraps around. */
TEST(query_seconds_saturate) {
    char text[60];
    uint64_t us, last = 0;
    size_t n;
    for (n = 1; n < sizeof text; n++) {
        text[n - 1] = '9';
        CHECK_INT(lpi_query_seconds(lpi_slice(text, n), 0, &us), 0);
        if (us < last) wrong(__LINE__, "less than with a digit less", lpi_slice(text, n));
        last = us;
    }
    CHECK_INT(lpi_query_seconds(LPI_S("9223372036850"), 0, &last), 0);
    CHECK_INT(lpi_query_seconds(LPI_S("9223372036860"), 0, &us), 0);
    CHECK(us >= last);
    CHECK_INT(lpi_query_seconds(LPI_S("18446744073709551616"), 0, &us), 0);
    CHECK(us >= last);
    CHECK_INT(lpi_query_seconds(LPI_S("18446744073709.551616"), 0, &us), 0);
    CHECK(us >= last);
}

/* ---- cursors ---- */

#define E "00a1b2c3d4e5f607"

TEST(query_cursor) {
    static const char *const bad[] = {
        "00", "1", "-1", "NOW", "now ", " now", "nowx", "0-0", E, E "-", E "1", E ":1", E "--1",
        E "-+1", E "-01", E "- 1", E "-1 ", E "-1-1", E "-0x1", E "-a",
        E "-18446744073709551616", "-1", "0a1b2c3d4e5f607-1", "000a1b2c3d4e5f607-1",
        "00A1b2c3d4e5f607-1", "00a1b2c3d4e5f60g-1", "1:2:3", E "-99999999999999999999999999",
        "                -1"};
    lpi_requested requested;
    char text[40];
    size_t i;
    CHECK_INT(lpi_query_cursor(LPI_S(""), &requested), 0);
    CHECK_INT(requested.kind, LPI_FROM_START);
    CHECK_INT(lpi_query_cursor(LPI_S("0"), &requested), 0);
    CHECK_INT(requested.kind, LPI_FROM_START);
    CHECK_INT(lpi_query_cursor(LPI_S("now"), &requested), 0);
    CHECK_INT(requested.kind, LPI_FROM_NOW);
    CHECK_INT(lpi_query_cursor(LPI_S(E "-0"), &requested), 0);
    CHECK(requested.kind == LPI_FROM_CURSOR && requested.seq == 0);
    CHECK(requested.epoch == UINT64_C(0x00a1b2c3d4e5f607));
    CHECK_INT(lpi_query_cursor(LPI_S("ffffffffffffffff-18446744073709551615"), &requested), 0);
    CHECK(requested.seq == UINT64_MAX && requested.epoch == UINT64_MAX);
    for (i = 0; i < LPI_COUNT(bad); i++) {
        requested.kind = LPI_FROM_TIME;
        if (lpi_query_cursor(lp_s(bad[i]), &requested) != -1) wrong(__LINE__, "taken", lp_s(bad[i]));
        CHECK_INT(requested.kind, LPI_FROM_TIME);
    }
    for (i = 0; i < 1000; i++) { /* what is given comes back */
        uint64_t epoch = unit_random(), seq = unit_random() >> unit_below(64);
        CHECK_INT(lpi_query_cursor(lpi_slice_to(text, lpi_put_id(text, epoch, seq)), &requested), 0);
        CHECK(requested.kind == LPI_FROM_CURSOR && requested.epoch == epoch && requested.seq == seq);
    }
}

/* As letters: s for start, n for now, c for a cursor, - for a refusal. */
static void check_cursors(lp_slice text, uint32_t count, const char *want) {
    lpi_requested requested[LPI_POLL_CHANNELS + 1];
    char got[LPI_POLL_CHANNELS + 2] = "-";
    uint32_t i;
    memset(requested, 0, sizeof requested);
    requested[count].kind = LPI_FROM_TIME;
    if (!lpi_query_cursors(text, requested, count))
        for (i = 0; i < count; i++) got[i] = "snct"[requested[i].kind];
    CHECK_STR(lp_s(got), want);
    CHECK_INT(requested[count].kind, LPI_FROM_TIME); /* nothing was written behind them */
}

TEST(query_lists_of_cursors) {
    char big[10240];
    check_cursors(lpi_slice(NULL, 0), 1, "s"); /* absent */
    check_cursors(lpi_slice(NULL, 0), 3, "sss");
    check_cursors(LPI_S(""), 3, "sss");
    check_cursors(LPI_S("0"), 3, "sss");
    check_cursors(LPI_S("now"), 3, "nnn");
    check_cursors(LPI_S("now"), 16, "nnnnnnnnnnnnnnnn");
    check_cursors(LPI_S(E "-5"), 1, "c");
    check_cursors(LPI_S(E "-5"), 2, "-"); /* a cursor stands for its own channel alone */
    check_cursors(LPI_S("0,now," E "-5"), 3, "snc");
    check_cursors(LPI_S(",,"), 3, "sss");
    check_cursors(LPI_S("," E "-5,"), 3, "scs");
    check_cursors(LPI_S("0,0"), 3, "-");
    check_cursors(LPI_S("0,0"), 1, "-");
    check_cursors(LPI_S("0,"), 1, "-");
    check_cursors(LPI_S("0,0,0,0"), 3, "-");
    check_cursors(LPI_S("0,x,0"), 3, "-");
    check_cursors(LPI_S("0, now"), 2, "-");
    check_cursors(LPI_S(",,,,,,,,,,,,,,,"), 16, "ssssssssssssssss");
    check_cursors(LPI_S(",,,,,,,,,,,,,,,,"), 16, "-");
    check_cursors(lpi_slice(memset(big, '1', sizeof big), sizeof big), 1, "-");
    check_cursors(lpi_slice(memset(big, ',', sizeof big), sizeof big), 16, "-");
}
