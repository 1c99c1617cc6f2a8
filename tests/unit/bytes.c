/* A3, text: classes, slices, numbers, UTF-8, the keyed hash, the buffer, the arena. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

/* ---- classes and slices ---- */

/* The class of a byte as the RFCs spell it. */
static int class_of(int c) {
    int alpha = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    int digit = c >= '0' && c <= '9';
    int visible = c > ' ' && c < 0x7f, classes = 0;
    if (alpha || digit || (c && strchr("!#$%&'*+-.^_`|~", c))) classes |= LPI_TOKEN;
    if (digit || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f')) classes |= LPI_HEX;
    if (visible || c == ' ' || c == '\t' || c >= 0x80) classes |= LPI_VALUE;
    if (alpha || digit || (c && strchr("-._~!$&'()*+;=", c))) classes |= LPI_HOST;
    return classes;
}

TEST(bytes_classes_are_those_of_the_rfcs) {
    int c;
    for (c = 0; c < 256; c++)
        if (lpi_classes[c] != class_of(c))
            unit_fail(__FILE__, __LINE__, "byte %d has classes %d, not %d", c,
                      lpi_classes[c], class_of(c));
}

TEST(bytes_lower_and_hex_for_every_byte) {
    int c;
    for (c = 0; c < 256; c++) {
        const char *hex = "0123456789abcdef";
        int lower = c >= 'A' && c <= 'Z' ? c + 32 : c;
        const char *at = c ? strchr(hex, lower) : NULL;
        CHECK_INT((uint8_t)lpi_lower((char)c), lower);
        CHECK_INT(lpi_hex_value((char)c), at ? at - hex : -1);
    }
}

TEST(bytes_equality) {
    CHECK(lpi_equal(lpi_slice(NULL, 0), LPI_S("")));
    CHECK(lpi_equal(LPI_S("a\0b"), LPI_S("a\0b")));
    CHECK(!lpi_equal(LPI_S("a\0b"), LPI_S("a\0c")));
    CHECK(!lpi_equal(LPI_S("ab"), LPI_S("abc")));
    CHECK(lpi_alike(LPI_S("hOsT"), LPI_S("HoSt")));
    CHECK(!lpi_alike(LPI_S("host"), LPI_S("hos")));
    CHECK(!lpi_alike(LPI_S("[]"), LPI_S("{}")));   /* they differ by 32, and are no letters */
    CHECK(!lpi_alike(LPI_S("@"), LPI_S("`")));
    CHECK(!lpi_alike(LPI_S("\xC4"), LPI_S("\xE4"))); /* ASCII alone */
}

TEST(bytes_equal_slowly_is_equal) {
    int round;
    CHECK(lpi_equal_constant_time(lpi_slice(NULL, 0), LPI_S("")));
    CHECK(!lpi_equal_constant_time(LPI_S("a"), lpi_slice(NULL, 0)));
    CHECK(!lpi_equal_constant_time(lpi_slice(NULL, 0), LPI_S("a")));
    CHECK(!lpi_equal_constant_time(LPI_S("aa"), LPI_S("a"))); /* the shorter one repeats */
    CHECK(!lpi_equal_constant_time(LPI_S("a"), LPI_S("aa")));
    CHECK(!lpi_equal_constant_time(LPI_S("\1"), lpi_slice("", 0)));
    for (round = 0; round < unit_rounds(20000); round++) {
        char a[6], b[6];
        lp_slice x = lpi_slice(a, unit_below(6)), y = lpi_slice(b, unit_below(6));
        size_t i;
        for (i = 0; i < 6; i++) {
            a[i] = (char)unit_below(2);
            b[i] = (char)unit_below(2);
        }
        CHECK_INT(lpi_equal_constant_time(x, y),
                  x.length == y.length && memcmp(a, b, x.length) == 0);
    }
}

TEST(bytes_trim) {
    CHECK_STR(lpi_trim(LPI_S("")), "");
    CHECK_STR(lpi_trim(LPI_S(" \t \t")), "");
    CHECK_STR(lpi_trim(LPI_S("a")), "a");
    CHECK_STR(lpi_trim(LPI_S("\t a \t b\t ")), "a \t b");
    CHECK_STR(lpi_trim(LPI_S("\va\r")), "\va\r"); /* neither SP nor HTAB */
    CHECK_INT(lpi_trim(lpi_slice(NULL, 0)).length, 0);
}

TEST(bytes_split_is_the_inverse_of_join) {
    int round;
    lp_slice rest = lpi_slice(NULL, 0), part = LPI_S("untouched");
    CHECK(!lpi_split(&rest, ',', &part));
    CHECK_STR(part, "untouched");
    for (round = 0; round < unit_rounds(20000); round++) {
        char text[8];
        size_t length = unit_below(9), begin = 0, i;
        for (i = 0; i < length; i++) text[i] = unit_one_in(2) ? ',' : 'x';
        rest = lpi_slice(text, length);
        for (i = 0; i <= length; i++) {
            if (i < length && text[i] != ',') continue;
            CHECK(lpi_split(&rest, ',', &part));
            CHECK(part.bytes == text + begin);
            CHECK_INT(part.length, i - begin);
            begin = i + 1;
        }
        CHECK(!lpi_split(&rest, ',', &part));
    }
}

/* ---- eight at a time ---- */

/* Of any magnitude, and often next to a power of two or ten. */
static uint64_t some_number(void) {
    uint64_t n = unit_random() >> unit_below(64), ten = 1;
    uint32_t i;
    switch (unit_below(3)) {
    case 0: return n;
    case 1: return (UINT64_C(1) << unit_below(64)) + unit_below(3) - 1;
    default:
        for (i = unit_below(20); i; i--) ten *= 10;
        return ten + unit_below(3) - 1;
    }
}

typedef struct counter {
    size_t (*count)(const char *bytes, size_t length);
    int (*is)(int c);
} counter;

static int is_visible(int c) { return c > ' ' && c < 0x7f; }
static int is_target(int c) { return is_visible(c) && c != '#' && c != '\\'; }
static int is_ascii(int c) { return c >= ' ' && c < 0x7f; }
static int is_plain(int c) { return is_ascii(c) && c != '"' && c != '\\'; }
static int is_value(int c) { return c == '\t' || (c >= ' ' && c != 0x7f); }
static int is_token(int c) { return class_of(c) & LPI_TOKEN; }

static size_t count_token(const char *bytes, size_t length) {
    return lpi_count_of(bytes, length, LPI_TOKEN);
}

static const counter counters[] = {
    {lpi_count_visible, is_visible}, {lpi_count_target, is_target}, {lpi_count_ascii, is_ascii},
    {lpi_count_plain, is_plain}, {lpi_count_value, is_value}, {count_token, is_token},
    {lpi_count_token, is_token}};

static void check_counters(const char *text, size_t length) {
    char *copy = (char *)malloc(length + !length); /* so that a byte too many is seen */
    size_t i, n;
    memcpy(copy, text, length);
    for (i = 0; i < LPI_COUNT(counters); i++) {
        for (n = 0; n < length && counters[i].is((uint8_t)text[n]);) n++;
        if (counters[i].count(copy, length) != n)
            unit_fail(__FILE__, __LINE__, "counter %d gives %d of %d bytes, not %d", (int)i,
                      (int)counters[i].count(copy, length), (int)length, (int)n);
    }
    free(copy);
}

/* Each byte in each place of each length, among bytes that are fine; and with a second
   one behind it, since tests of a word may tell of what stands above. */
TEST(bytes_counted_by_eight_are_counted_right) {
    char text[24];
    size_t length, at;
    int c, round;
    for (length = 0; length <= 20; length++)
        for (at = 0; at < length; at++)
            for (c = 0; c < 256; c++) {
                memset(text, 'a', sizeof text);
                text[at] = (char)c;
                check_counters(text, length);
                text[unit_below((uint32_t)length)] = (char)unit_below(256);
                check_counters(text, length);
            }
    for (round = 0; round < unit_rounds(100000); round++) {
        static const char some[] = "\t !\"#0:AZaz\\~\x7f\x80\xff\x1f\r\n-,.@[`{";
        length = unit_below(sizeof text + 1);
        for (at = 0; at < length; at++)
            text[at] = some[unit_below(unit_one_in(4) ? sizeof some : 9)];
        check_counters(text, length);
    }
}

TEST(bytes_a_word_of_fewer) {
    char text[8];
    uint64_t want, word;
    uint32_t n, i;
    for (n = 0; n < 8; n++) {
        for (want = 0, i = 0; i < n; i++) {
            text[i] = (char)unit_random();
            want |= (uint64_t)(uint8_t)text[i] << 8 * i;
        }
        CHECK(lpi_word_of(text, n) == want);
    }
    for (i = 0; i < 8; i++) text[i] = (char)unit_random();
    word = lpi_word(text);
    CHECK_INT(word & 0xff, (uint8_t)text[0]);
    CHECK_INT(word >> 56, (uint8_t)text[7]);
}

TEST(bytes_epoch_is_read_as_it_is_written) {
    char text[16];
    uint64_t value, back;
    int round, c;
    size_t at;
    for (round = 0; round < unit_rounds(50000); round++) {
        value = some_number();
        CHECK(lpi_put_epoch(text, value) == text + 16);
        back = ~value;
        CHECK_INT(lpi_parse_epoch(text, &back), 0);
        CHECK(back == value);
    }
    for (at = 0; at < 16; at++) /* any other byte, among digits and among letters */
        for (c = 0; c < 512; c++) {
            int good = c % 256 && strchr("0123456789abcdef", c % 256) != NULL;
            memset(text, c < 256 ? '0' : 'f', 16);
            text[at] = (char)c;
            back = 7;
            CHECK_INT(lpi_parse_epoch(text, &back), good ? 0 : -1);
            if (!good) CHECK_INT(back, 7);
        }
}

/* ---- numbers ---- */

TEST(bytes_parse_uint_at_its_limits) {
    static const struct { const char *text; uint64_t value; } good[] = {
        {"0", 0}, {"1", 1}, {"9", 9}, {"10", 10},
        {"9223372036854775807", INT64_MAX},
        {"9223372036854775808", (uint64_t)INT64_MAX + 1},
        {"18446744073709551609", UINT64_MAX - 6},
        {"18446744073709551614", UINT64_MAX - 1},
        {"18446744073709551615", UINT64_MAX}};
    static const char *const bad[] = {
        "", "00", "01", "005", "-0", "-1", "+1", " 1", "1 ", "1,1", "0x5", "5_0", "5.0",
        "1e3", "/", ":", "18446744073709551616", "18446744073709551620",
        "28446744073709551615", "99999999999999999999", "184467440737095516150",
        "29999999999999999999999999999", "\xB2", "1\xB2"};
    uint64_t value;
    size_t i;
    for (i = 0; i < LPI_COUNT(good); i++) {
        value = 7;
        CHECK_INT(lpi_parse_uint(lp_s(good[i].text), &value), 0);
        CHECK(value == good[i].value);
    }
    for (i = 0; i < LPI_COUNT(bad); i++) {
        value = 7;
        if (lpi_parse_uint(lp_s(bad[i]), &value) != -1)
            unit_fail(__FILE__, __LINE__, "\"%s\" was taken for a number", bad[i]);
        CHECK_INT(value, 7);
    }
    CHECK_INT(lpi_parse_uint(LPI_S("1\0"), &value), -1);
}

TEST(bytes_numbers_are_written_as_printf_would) {
    int round;
    for (round = 0; round < unit_rounds(50000); round++) {
        uint64_t n = some_number(), epoch = some_number(), back = ~n;
        char got[64], want[64];
        memset(got, '!', sizeof got);
        sprintf(want, "%llu", (unsigned long long)n);
        CHECK_BYTES(got, (size_t)(lpi_put_uint(got, n) - got), want, strlen(want));
        CHECK_INT(got[strlen(want)], '!');
        CHECK_INT(lpi_parse_uint(lp_s(want), &back), 0);
        CHECK(back == n);
        sprintf(want, "%016llx", (unsigned long long)epoch);
        CHECK_BYTES(got, (size_t)(lpi_put_epoch(got, epoch) - got), want, 16);
        sprintf(want, "%016llx-%llu", (unsigned long long)epoch, (unsigned long long)n);
        CHECK_BYTES(got, (size_t)(lpi_put_id(got, epoch, n) - got), want, strlen(want));
        CHECK(strlen(want) < sizeof ((lp_published *)0)->id);
        sprintf(want, "%llu.%06llu", (unsigned long long)(n / 1000000),
                (unsigned long long)(n % 1000000));
        CHECK_BYTES(got, (size_t)(lpi_put_seconds(got, n) - got), want, strlen(want));
        CHECK(strlen(want) <= 27);
        n = UINT64_C(1000000000000000) + unit_random() % UINT64_C(9000000000000000);
        if (unit_one_in(50)) n = unit_one_in(2) ? UINT64_C(9999999999999999)
                                                : UINT64_C(10000000000000000);
        sprintf(want, "%llu.%06llu", (unsigned long long)(n / 1000000), /* ten digits */
                (unsigned long long)(n % 1000000));
        memset(got, '!', sizeof got);
        CHECK_BYTES(got, (size_t)(lpi_put_seconds(got, n) - got), want, strlen(want));
        CHECK_INT(got[strlen(want)], '!');
    }
}

/* ---- UTF-8: against a decoder that reckons with code points ---- */

static size_t utf8_model(const uint8_t *p, size_t length) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n, i;
    uint32_t code;
    if (!length) return 0;
    if ((p[0] & 0x80) == 0) return 1;
    if ((p[0] & 0xE0) == 0xC0) n = 2, code = p[0] & 0x1F;
    else if ((p[0] & 0xF0) == 0xE0) n = 3, code = p[0] & 0x0F;
    else if ((p[0] & 0xF8) == 0xF0) n = 4, code = p[0] & 0x07;
    else return 0;
    if (length < n) return 0;
    for (i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) return 0;
        code = code << 6 | (p[i] & 0x3F);
    }
    if (code < least[n] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return 0;
    return n;
}

static void check_utf8(const uint8_t *p, size_t length) {
    size_t got = lpi_utf8((const char *)p, length), want = utf8_model(p, length);
    char quoted[64];
    if (got != want)
        unit_fail(__FILE__, __LINE__, "\"%s\" is %lu, not %lu",
                  unit_quote(quoted, sizeof quoted, (const char *)p, length),
                  (unsigned long)got, (unsigned long)want);
}

TEST(bytes_utf8_of_one_and_two_and_three_bytes) {
    uint8_t p[3] = {0, 0, 0};
    uint32_t i, step = unit_environment("UNIT_DIVIDE", 1);
    check_utf8(p, 0);
    for (i = 0; i < 1u << 24; i += step) {
        p[0] = (uint8_t)(i >> 16);
        p[1] = (uint8_t)(i >> 8);
        p[2] = (uint8_t)i;
        if (p[1] == 0) check_utf8(p, 1);
        if (p[2] == 0) check_utf8(p, 2);
        check_utf8(p, 3);
        if (p[0] < 0xC0) i += 0xFFFF / step * step; /* they are told by their first byte */
    }
}

TEST(bytes_utf8_of_four_bytes) {
    static const uint8_t edges[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
    uint8_t p[5] = {0, 0, 0, 0, 0x80};
    size_t a, b, c, n;
    int lead;
    for (lead = 0xE0; lead < 0x100; lead++)
        for (a = 0; a < sizeof edges; a++)
            for (b = 0; b < sizeof edges; b++)
                for (c = 0; c < sizeof edges; c++) {
                    p[0] = (uint8_t)lead;
                    p[1] = edges[a];
                    p[2] = edges[b];
                    p[3] = edges[c];
                    for (n = 1; n <= 5; n++) check_utf8(p, n);
                }
}

/* ---- the hash ---- */

static uint64_t sip_model(int c, int d, const uint8_t key[16], const uint8_t *in, size_t length) {
    uint64_t k0 = 0, k1 = 0, m, v0, v1, v2, v3;
    size_t i, j;
    int r;
#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define ROUNDS(n)                                                              \
    for (r = 0; r < (n); r++) {                                                \
        v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32);              \
        v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2;                                 \
        v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0;                                 \
        v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32);              \
    }
    for (i = 0; i < 8; i++) {
        k0 |= (uint64_t)key[i] << 8 * i;
        k1 |= (uint64_t)key[8 + i] << 8 * i;
    }
    v0 = k0 ^ UINT64_C(0x736f6d6570736575);
    v1 = k1 ^ UINT64_C(0x646f72616e646f6d);
    v2 = k0 ^ UINT64_C(0x6c7967656e657261);
    v3 = k1 ^ UINT64_C(0x7465646279746573);
    for (i = 0; i <= length / 8; i++) {
        m = i == length / 8 ? (uint64_t)(length & 0xff) << 56 : 0;
        for (j = 0; j < 8 && i * 8 + j < length; j++) m |= (uint64_t)in[i * 8 + j] << 8 * j;
        v3 ^= m;
        ROUNDS(c)
        v0 ^= m;
    }
    v2 ^= 0xff;
    ROUNDS(d)
    return v0 ^ v1 ^ v2 ^ v3;
}

/* The model is right, for it gives the vector of the paper's appendix (SipHash-2-4); so
   it is right for other numbers of rounds too. */
TEST(bytes_hash_is_siphash_1_3) {
    uint8_t key[16], in[300];
    uint64_t words[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    uint64_t zero[2] = {0, 0};
    size_t i;
    for (i = 0; i < sizeof key; i++) key[i] = (uint8_t)i;
    for (i = 0; i < sizeof in; i++) in[i] = (uint8_t)i;
    CHECK(sip_model(2, 4, key, in, 15) == UINT64_C(0xa129ca6149be45e5));
    CHECK(sip_model(2, 4, key, in, 0) == UINT64_C(0x726fdb47dd0e0e31));
    for (i = 0; i <= sizeof in; i++)
        CHECK(lpi_hash(words, 0, lpi_slice((char *)in, i)) == sip_model(1, 3, key, in, i));
    CHECK(lpi_hash(words, 0, LPI_S("")) == UINT64_C(0xabac0158050fc4dc)); /* as published */
    CHECK(lpi_hash(zero, 0, LPI_S("")) == UINT64_C(0xd1fba762150c532c));
}

TEST(bytes_hash_depends_on_key_domain_and_every_bit) {
    int round;
    for (round = 0; round < unit_rounds(2000); round++) {
        uint64_t key[2], h;
        char text[40];
        size_t length = 1 + unit_below(40), i, bit;
        key[0] = unit_random();
        key[1] = unit_random();
        for (i = 0; i < length; i++) text[i] = (char)unit_random();
        h = lpi_hash(key, 1, lpi_slice(text, length));
        CHECK(h != lpi_hash(key, 2, lpi_slice(text, length)));
        CHECK(h != lpi_hash(key, 1, lpi_slice(text, length - 1)));
        bit = unit_below((uint32_t)length * 8);
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
        CHECK(h != lpi_hash(key, 1, lpi_slice(text, length)));
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
        bit = unit_below(128);
        key[bit / 64] ^= UINT64_C(1) << bit % 64;
        CHECK(h != lpi_hash(key, 1, lpi_slice(text, length)));
    }
}

/* ---- text that grows, and the arena ---- */

TEST(bytes_text_grows_and_fails_whole) {
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        unit_memory m = {0};
        lp_memory memory = unit_memory_of(&m);
        lp_text b;
        char want[3000];
        size_t length = 0, i;
        lpi_text_init(&b, &memory);
        m.fail_at = k;
        lpi_text_add(&b, lpi_slice(NULL, 0)); /* nothing is allocated for nothing */
        CHECK_INT(m.calls, 0);
        for (i = 0; i < 256; i++) want[i] = (char)i;
        while (length < sizeof want - 300) {
            size_t n = unit_below(300);
            for (i = 0; i < n; i++) want[length + i] = (char)(length + i);
            lpi_text_add(&b, lpi_slice(want + length, n));
            length += n;
            if (m.failed && n) CHECK(b.failed);
            if (b.failed) CHECK(!lpi_text_slice(&b).bytes);
            else CHECK_BYTES(lpi_text_slice(&b).bytes, b.length, want, length);
        }
        lpi_text_clear(&b);
        lpi_text_add(&b, LPI_S("again"));
        CHECK_STR(lpi_text_slice(&b), "again");
        lpi_text_free(&b);
        CHECK_INT(m.blocks, 0);
        failed = m.failed;
    }
    CHECK(k > 4); /* several sizes were passed through */
}

TEST(bytes_arena_gives_apart_what_it_gives) {
    static const size_t sizes[] = {0, 1, 7, 100, 4096 - sizeof(lpi_block) - 1,
                                   4096 - sizeof(lpi_block), 4096 - sizeof(lpi_block) + 1,
                                   4096, 9000};
    unit_memory m = {0};
    lp_memory memory = unit_memory_of(&m);
    lpi_arena arena = {NULL, NULL, 0};
    int round, i;
    arena.memory = &memory;
    for (round = 0; round < unit_rounds(300); round++) {
        char *at[20];
        size_t size[20], j;
        if (unit_one_in(4)) m.fail_at = m.calls + 1 + unit_below(3);
        for (i = 0; i < 20; i++) {
            size_t failed = m.failed;
            size[i] = sizes[unit_below(LPI_COUNT(sizes))];
            at[i] = lpi_arena_take(&arena, size[i]);
            CHECK_INT(at[i] == NULL, m.failed != failed);
            if (at[i]) memset(at[i], i, size[i]);
            CHECK_INT((uintptr_t)at[i] % sizeof(uint64_t), 0);
        }
        for (i = 0; i < 20; i++)
            for (j = 0; at[i] && j < size[i]; j++) CHECK_INT(at[i][j], i);
        lpi_arena_clear(&arena, 1);
        CHECK(m.blocks <= 1);
    }
    lpi_arena_clear(&arena, 0);
    CHECK_INT(m.blocks, 0);
    lpi_arena_clear(&arena, 1); /* empty ones too */
    CHECK(lpi_arena_take(&arena, 5) != NULL);
    lpi_arena_clear(&arena, 0);
}

/* A block that is kept serves again, whole: nothing is allocated in steady state. */
TEST(bytes_arena_keeps_one_block) {
    unit_memory m = {0};
    lp_memory memory = unit_memory_of(&m);
    lpi_arena arena = {NULL, NULL, 0};
    int round;
    arena.memory = &memory;
    for (round = 0; round < 100; round++) {
        CHECK(lpi_arena_take(&arena, 4096 - sizeof(lpi_block)) != NULL);
        lpi_arena_clear(&arena, 1);
    }
    CHECK_INT(m.calls, 1);
    lpi_arena_clear(&arena, 0);
}

/* But a large one would stay for ever, however seldom it is of use. */
TEST(bytes_arena_keeps_no_large_block) {
    unit_memory m = {0};
    lp_memory memory = unit_memory_of(&m);
    lpi_arena arena = {NULL, NULL, 0};
    int larger;
    arena.memory = &memory;
    for (larger = 0; larger < 2; larger++) {
        size_t size = LPI_ARENA_KEPT - sizeof(lpi_block) + (size_t)larger;
        CHECK(lpi_arena_take(&arena, size) != NULL);
        CHECK(lpi_arena_take(&arena, 1) != NULL);
        lpi_arena_clear(&arena, 1);
        CHECK_INT(m.blocks, !larger);
        lpi_arena_clear(&arena, 0);
    }
}
