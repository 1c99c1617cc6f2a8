/* B7, resp: what is read and written of Redis's protocol, against a recursive reader. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

/* ---- the model: by recursive descent, over the whole text at once ---- */

/* The length of the reply that `s` begins with, 0: it is cut, -1: it is none. *elements and
   `depth` are how many there were before, and how many arrays it is in. */
static long m_resp(const char *s, size_t length, int depth, long *elements) {
    const char *lf = NULL, *digit;
    long at, number = 0, i;
    int negative;
    size_t most = length < 4096 ? length : 4096;
    if (!length) return 0;
    if (s[0] != '+' && s[0] != '-' && s[0] != ':' && s[0] != '$' && s[0] != '*') return -1;
    for (i = 0; !lf && i < (long)most; i++)
        if (s[i] == '\n') lf = s + i;
    if (!lf) return most == 4096 ? -1 : 0;
    if (lf == s || lf - s < 2 || lf[-1] != '\r') return -1;
    at = lf + 1 - s;
    if (s[0] == '+' || s[0] == '-') return ++*elements > 4096 ? -1 : at;
    digit = s + 1;
    negative = *digit == '-';
    digit += negative;
    if (digit == lf - 1 || (*digit == '0' && digit + 1 != lf - 1)) return -1;
    if (lf - 1 - digit > 19) return -1;
    if (lf - 1 - digit == 19 && strncmp(digit, "9223372036854775807", 19) > 0) return -1;
    for (; digit < lf - 1; digit++) {
        if (*digit < '0' || *digit > '9') return -1;
        number = number * 10 + (*digit - '0');
    }
    if (negative) number = -number;
    if (s[0] == '$' && number != -1) {
        if (number < 0 || number > 16842752) return -1;
        if ((long)length - at < number + 2) return 0;
        if (s[at + number] != '\r' || s[at + number + 1] != '\n') return -1;
        at += number + 2;
    }
    if (s[0] == '*' && number < -1) return -1;
    if (++*elements > 4096) return -1;
    if (s[0] == '*' && number > 0 && (depth == 4 || number > 4096)) return -1;
    for (i = 0; s[0] == '*' && i < number; i++) {
        long n = m_resp(s + at, length - (size_t)at, depth + 1, elements);
        if (n <= 0) return n;
        at += n;
    }
    return at;
}

/* ---- reading in a block of just that size, so that asan and valgrind see its end ---- */

static long read_exactly(lpi_resp *resp, const char *bytes, size_t length) {
    char *block = (char *)malloc(length ? length : 1);
    long n;
    if (length) memcpy(block, bytes, length);
    n = lpi_resp_read(resp, block, length);
    free(block);
    return n;
}

static long read_whole(const char *bytes, size_t length) {
    lpi_resp resp;
    memset(&resp, 0, sizeof resp);
    return read_exactly(&resp, bytes, length);
}

/* The same text whole, and as it grows by `step` bytes: the outcome is the model's, comes
   with the first piece that decides it, and no later. */
static long read_both(const char *bytes, size_t length, size_t step) {
    long elements = 0, want = m_resp(bytes, length, 0, &elements), got = 0;
    size_t at = 0;
    lpi_resp resp;
    CHECK_INT(read_whole(bytes, length), want);
    memset(&resp, 0, sizeof resp);
    for (;;) {
        got = read_exactly(&resp, bytes, at);
        if (got || at == length) break;
        at = length - at < step ? length : at + step;
    }
    CHECK_INT(got, want);
    if (got > 0) CHECK(at >= (size_t)got && at - (size_t)got < step);
    if (got < 0 && at >= step) {
        elements = 0;
        CHECK_INT(m_resp(bytes, at - step, 0, &elements), 0);
    }
    return got;
}

static long reads(const char *text) {
    return read_both(text, strlen(text), 1);
}

static void refuses(const char *text) {
    CHECK_INT(reads(text), -1);
}

/* It is whole at its end, and not before. */
static void whole(const char *text) {
    size_t length = strlen(text), i;
    CHECK_INT(reads(text), length);
    for (i = 0; i < length; i++) CHECK_INT(read_whole(text, i), 0);
}

/* Takes all of it, whose first element is to be so. */
static lpi_resp_value first(const char *text) {
    lp_slice rest = lp_s(text);
    whole(text);
    return lpi_resp_take(&rest);
}

/* ---- every kind ---- */

TEST(resp_reads_a_status) {
    lpi_resp_value v = first("+OK\r\n");
    CHECK_INT(v.kind, LPI_RESP_STATUS);
    CHECK_STR(v.text, "OK");
    CHECK_STR(first("+\r\n").text, "");
    CHECK_STR(first("+a\rb -:$*\r\n").text, "a\rb -:$*");
}

TEST(resp_reads_an_error) {
    lpi_resp_value v = first("-ERR no such thing\r\n");
    CHECK_INT(v.kind, LPI_RESP_ERROR);
    CHECK_STR(v.text, "ERR no such thing");
    CHECK_STR(first("-\r\n").text, "");
}

TEST(resp_reads_a_number) {
    lpi_resp_value v = first(":12\r\n");
    CHECK_INT(v.kind, LPI_RESP_NUMBER);
    CHECK_INT(v.number, 12);
    CHECK_INT(first(":0\r\n").number, 0);
    CHECK_INT(first(":-1\r\n").number, -1);
    CHECK_INT(first(":-1\r\n").kind, LPI_RESP_NUMBER);
    CHECK_INT(first(":-0\r\n").number, 0);
    CHECK_INT(first(":9223372036854775807\r\n").number, INT64_MAX);
    CHECK_INT(first(":-9223372036854775807\r\n").number, -INT64_MAX);
}

TEST(resp_reads_a_text) {
    lpi_resp_value v = first("$5\r\nhello\r\n");
    CHECK_INT(v.kind, LPI_RESP_TEXT);
    CHECK_STR(v.text, "hello");
    CHECK_STR(first("$0\r\n\r\n").text, "");
    CHECK_INT(first("$0\r\n\r\n").kind, LPI_RESP_TEXT);
    CHECK_STR(first("$4\r\n\r\n\r\n\r\n").text, "\r\n\r\n");
    CHECK_STR(first("$6\r\n$1\r\na\n\r\n").text, "$1\r\na\n");
}

TEST(resp_text_may_be_any_bytes) {
    char text[300], *at = text;
    lp_slice rest;
    int c;
    at += sprintf(at, "$256\r\n");
    for (c = 0; c < 256; c++) *at++ = (char)c;
    at += sprintf(at, "\r\n");
    CHECK_INT(read_both(text, (size_t)(at - text), 1), at - text);
    rest = lpi_slice_to(text, at);
    CHECK_INT(lpi_resp_take(&rest).text.length, 256);
    CHECK_INT(rest.length, 0);
}

TEST(resp_reads_nulls) {
    lpi_resp_value v = first("$-1\r\n");
    CHECK_INT(v.kind, LPI_RESP_NULL);
    CHECK_INT(v.text.length, 0);
    v = first("*-1\r\n");
    CHECK_INT(v.kind, LPI_RESP_NULL);
    CHECK_INT(v.text.length, 0);
    whole("*2\r\n$-1\r\n*-1\r\n");
}

TEST(resp_reads_arrays_in_each_other) {
    const char *text = "*3\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n+b\r\n";
    lp_slice rest = lp_s(text);
    lpi_resp_value v;
    whole(text);
    v = lpi_resp_take(&rest);
    CHECK_INT(v.kind, LPI_RESP_ARRAY);
    CHECK_INT(v.number, 3);
    CHECK_INT(lpi_resp_take(&rest).number, 1);
    CHECK_INT(lpi_resp_take(&rest).number, 2);
    CHECK_STR(lpi_resp_take(&rest).text, "a");
    v = lpi_resp_take(&rest);
    CHECK_INT(v.kind, LPI_RESP_ARRAY);
    CHECK_INT(v.number, 0);
    CHECK_STR(lpi_resp_take(&rest).text, "b");
    CHECK_INT(rest.length, 0);
    v = lpi_resp_take(&rest);
    CHECK_INT(v.kind, LPI_RESP_NULL);
    CHECK_INT(v.text.length, 0);
    v = lpi_resp_take(&rest); /* and so on */
    CHECK_INT(v.kind, LPI_RESP_NULL);
}

TEST(resp_leaves_what_comes_behind) {
    CHECK_INT(reads("+OK\r\n+again\r\n"), 5);
    CHECK_INT(reads("*1\r\n:1\r\n:2\r\n"), 8);
    CHECK_INT(reads("$1\r\na\r\nrubbish"), 7);
    CHECK_INT(reads("*0\r\nrubbish"), 4);
}

TEST(resp_takes_whole_numbers) {
    lp_slice rest = lp_s("*7\r\n$2\r\n17\r\n$20\r\n18446744073709551615\r\n$1\r\nx\r\n$0\r\n\r\n"
                         "$-1\r\n$2\r\n-1\r\n$20\r\n18446744073709551616\r\n");
    uint64_t value = 5;
    int i;
    CHECK_INT(read_whole(rest.bytes, rest.length), rest.length);
    lpi_resp_take(&rest);
    CHECK(!lpi_resp_take_uint(&rest, &value) && value == 17);
    CHECK(!lpi_resp_take_uint(&rest, &value) && value == UINT64_MAX);
    for (i = 0; i < 5; i++) CHECK(lpi_resp_take_uint(&rest, &value));
    CHECK_INT(rest.length, 0);
    CHECK(lpi_resp_take_uint(&rest, &value)); /* and behind the end */
}

/* ---- what is refused ---- */

TEST(resp_refuses_what_begins_with_another_byte) {
    int c;
    for (c = 0; c < 256; c++) {
        char text[2];
        text[0] = (char)c;
        text[1] = '1';
        CHECK_INT(read_both(text, 2, 1), c && strchr("+-:$*", c) ? 0 : -1);
    }
    refuses("\r\n");
    refuses("PING\r\n");
    refuses("_\r\n"); /* version 3 */
    refuses("*2\r\n:1\r\n#t\r\n");
    refuses("*1\r\n\r\n");
}

TEST(resp_refuses_bad_line_ends) {
    refuses("+OK\n");
    refuses("+\n");
    refuses(":1\n");
    refuses("$1\na\r\n");
    refuses("*1\n:1\r\n");
    refuses("$\n");
    CHECK_INT(reads("+\r"), 0); /* it may go on */
    CHECK_INT(reads("+OK\r\r"), 0);
}

TEST(resp_refuses_bad_numbers) {
    static const char *const bad[] = {
        "", "-", "--1", "+1", " 1", "1 ", "01", "00", "-01", "0x1", "1.0", "1e3", "a", "1a", "\r",
        "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
        "18446744073709551615", "18446744073709551616", "99999999999999999999",
        "100000000000000000000", "-99999999999999999999999"};
    static const char kinds[] = ":$*";
    size_t i, k;
    for (k = 0; kinds[k]; k++)
        for (i = 0; i < LPI_COUNT(bad); i++) {
            char text[64];
            sprintf(text, "%c%s\r\n", kinds[k], bad[i]);
            refuses(text);
        }
}

TEST(resp_refuses_bad_lengths) {
    refuses("$-2\r\n");
    refuses("$-9223372036854775807\r\n");
    refuses("$9223372036854775807\r\n");
    refuses("$4294967296\r\n");
    refuses("*-2\r\n");
    refuses("*-9223372036854775807\r\n");
    refuses("*9223372036854775807\r\n");
    refuses("*4294967296\r\n"); /* which is 0 in 32 bits */
    refuses("*4294967297\r\n");
}

TEST(resp_refuses_a_text_of_another_length) {
    refuses("$3\r\nab\r\n\r\n");
    refuses("$1\r\nab\r\n");
    refuses("$1\r\na\n\n");
    refuses("$1\r\na\rb");
    refuses("$0\r\n\n\r");
    CHECK_INT(reads("$3\r\nab\r\n"), 0); /* of this one more bytes could follow */
}

TEST(resp_stays_refused) {
    lpi_resp resp;
    memset(&resp, 0, sizeof resp);
    CHECK_INT(read_exactly(&resp, "*2\r\n:1\r\n?", 9), -1);
    CHECK_INT(read_exactly(&resp, "*2\r\n:1\r\n?", 9), -1);
    CHECK_INT(read_exactly(&resp, "*2\r\n:1\r\n?x", 10), -1);
}

/* ---- every limit at its edge ---- */

static void put_line(char *to, size_t n, const char *begin, const char *end) {
    size_t a = strlen(begin), b = strlen(end);
    memset(to, 'x', n);
    memcpy(to, begin, a);
    memcpy(to + n - b, end, b);
}

TEST(resp_limit_of_a_line) {
    char *text = (char *)malloc(5000);
    put_line(text, 4096, "+", "\r\n");
    CHECK_INT(read_both(text, 4096, 1), 4096);
    put_line(text, 4097, "+", "\r\n");
    CHECK_INT(read_both(text, 4097, 1), -1);
    CHECK_INT(read_whole(text, 4095), 0);
    CHECK_INT(read_whole(text, 4096), -1);
    put_line(text, 4108, "*1\r\n-", "\r\n"); /* it is that of an element */
    CHECK_INT(read_both(text, 4108, 1), -1);
    put_line(text, 4100, "*1\r\n-", "\r\n");
    CHECK_INT(read_both(text, 4100, 1), 4100);
    free(text);
}

TEST(resp_limit_of_elements) {
    char *text = (char *)malloc(40000), *at;
    int count, nested, i;
    for (nested = 0; nested < 2; nested++)
        for (count = 4094; count <= 4098; count++) {
            /* one for the array itself, one for that around it */
            at = text + sprintf(text, "%s*%d\r\n", nested ? "*1\r\n" : "", count);
            for (i = 0; i < count; i++) at += sprintf(at, "+\r\n");
            CHECK_INT(read_both(text, (size_t)(at - text), 7),
                      count + 1 + nested <= 4096 ? at - text : -1);
        }
    at = text; /* they count over all arrays, empty ones too */
    at += sprintf(at, "*3\r\n*2046\r\n");
    for (i = 0; i < 2046; i++) at += sprintf(at, "*0\r\n");
    at += sprintf(at, "*2046\r\n");
    for (i = 0; i < 2046; i++) at += sprintf(at, "*0\r\n");
    CHECK_INT(read_both(text, (size_t)(at - text), 7), 0);
    strcpy(at, "+\r\n");
    CHECK_INT(read_both(text, (size_t)(at - text) + 3, 7), at + 3 - text);
    strcpy(at, "*1\r\n+\r\n");
    CHECK_INT(read_both(text, (size_t)(at - text) + 7, 7), -1);
    free(text);
    CHECK_INT(read_whole("*4096\r\n", 7), 0); /* one too many, as its last will tell */
    CHECK_INT(read_whole("*4097\r\n", 7), -1);
}

TEST(resp_limit_of_depth) {
    whole("*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n");
    refuses("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n");
    whole("*1\r\n*1\r\n*1\r\n*1\r\n*0\r\n"); /* which has nothing in it */
    whole("*2\r\n*1\r\n*1\r\n*1\r\n:1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"); /* side by side */
}

TEST(resp_limit_of_a_string) {
    size_t most = 16 * 1024 * 1024 + 64 * 1024, head;
    char *text = (char *)malloc(most + 32);
    lp_slice rest;
    lpi_resp resp;
    head = (size_t)sprintf(text, "$%lu\r\n", (unsigned long)most);
    memset(text + head, 'x', most);
    memcpy(text + head + most, "\r\n", 2);
    memset(&resp, 0, sizeof resp);
    CHECK_INT(lpi_resp_read(&resp, text, head), 0);
    CHECK_INT(lpi_resp_read(&resp, text, head + most), 0);
    CHECK_INT(lpi_resp_read(&resp, text, head + most + 1), 0);
    CHECK_INT(lpi_resp_read(&resp, text, head + most + 2), head + most + 2);
    rest = lpi_slice(text, head + most + 2);
    CHECK_INT(lpi_resp_take(&rest).text.length, most);
    CHECK_INT(rest.length, 0);
    head = (size_t)sprintf(text, "$%lu\r\n", (unsigned long)most + 1);
    CHECK_INT(read_both(text, head, 1), -1);
    free(text);
}

/* ---- random replies, written, cut and read back ---- */

enum { GEN_ROOM = 1 << 20 };

typedef struct gen_value {
    lpi_resp_kind kind;
    int64_t number;
    size_t at, length;
} gen_value;

typedef struct gen {
    char *text;
    size_t length;
    gen_value values[5000];
    int count;
} gen;

static void gen_bytes(gen *g, int line) {
    size_t n = unit_one_in(30) ? unit_below(3000) : unit_below(20), i;
    gen_value *v = &g->values[g->count];
    if (!line) g->length += (size_t)sprintf(g->text + g->length, "%lu\r\n", (unsigned long)n);
    v->at = g->length;
    v->length = n;
    for (i = 0; i < n; i++) {
        char c = unit_one_in(8) ? "\r\n$*:+-0"[unit_below(8)] : (char)unit_below(256);
        if (line && c == '\n') c = '\r';
        g->text[g->length++] = c;
    }
    g->text[g->length++] = '\r';
    g->text[g->length++] = '\n';
}

static int64_t gen_number(void) {
    int64_t n = (int64_t)(unit_random() >> (1 + unit_below(63)));
    return unit_one_in(3) ? -n : n;
}

static void gen_reply(gen *g, int depth) {
    static const char kinds[] = "$$$+-::*$**";
    char kind = kinds[unit_below(depth < 4 ? 11 : 7)];
    gen_value *v = &g->values[g->count];
    memset(v, 0, sizeof *v);
    if (unit_one_in(12)) {
        v->kind = LPI_RESP_NULL;
        g->length += (size_t)sprintf(g->text + g->length, "%c-1\r\n", unit_one_in(2) ? '$' : '*');
    } else if (kind == ':') {
        v->kind = LPI_RESP_NUMBER;
        v->number = gen_number();
        g->length += (size_t)sprintf(g->text + g->length, ":%lld\r\n", (long long)v->number);
    } else if (kind == '*') {
        v->kind = LPI_RESP_ARRAY;
        v->number = unit_below(unit_one_in(20) ? 40 : 5);
        g->length += (size_t)sprintf(g->text + g->length, "*%d\r\n", (int)v->number);
    } else {
        v->kind = kind == '$' ? LPI_RESP_TEXT : kind == '+' ? LPI_RESP_STATUS : LPI_RESP_ERROR;
        g->text[g->length++] = kind;
        gen_bytes(g, kind != '$');
        v->number = kind == '$' ? (int64_t)v->length : 0;
    }
    g->count++;
    if (v->kind == LPI_RESP_ARRAY) {
        int64_t n = v->number;
        while (n-- && g->count < 3000 && g->length < GEN_ROOM / 2) gen_reply(g, depth + 1);
        if (n >= 0) v->number = -1; /* it grew too long: the caller makes another */
    }
}

static int gen_new(gen *g) {
    int i;
    g->length = 0;
    g->count = 0;
    gen_reply(g, 0);
    for (i = 0; i < g->count; i++)
        if (g->values[i].kind == LPI_RESP_ARRAY && g->values[i].number < 0) return 0;
    return 1;
}

/* A block that holds the reply's first bytes and nothing more, which grows at random. */
static void gen_read_in_pieces(const gen *g) {
    size_t at = 0;
    lpi_resp resp;
    long n = 0;
    memset(&resp, 0, sizeof resp);
    while (at < g->length) {
        size_t step = 1 + unit_below(unit_one_in(4) ? 3000 : 9);
        CHECK_INT(n, 0);
        at = g->length - at < step ? g->length : at + step;
        n = read_exactly(&resp, g->text, at);
    }
    CHECK_INT(n, g->length);
}

static void gen_take_all(const gen *g) {
    char *block = (char *)malloc(g->length);
    lp_slice rest = lpi_slice(block, g->length);
    int i;
    memcpy(block, g->text, g->length);
    for (i = 0; i < g->count; i++) {
        const gen_value *want = &g->values[i];
        lpi_resp_value got;
        CHECK(rest.length > 0);
        got = lpi_resp_take(&rest);
        CHECK_INT(got.kind, want->kind);
        if (want->kind == LPI_RESP_ARRAY || want->kind == LPI_RESP_NUMBER)
            CHECK_INT(got.number, want->number);
        else
            CHECK_BYTES(got.text.bytes, got.text.length, g->text + want->at, want->length);
    }
    CHECK_INT(rest.length, 0);
    CHECK_INT(lpi_resp_take(&rest).kind, LPI_RESP_NULL);
    free(block);
}

TEST(resp_random_replies_read_back) {
    gen *g = (gen *)malloc(sizeof *g);
    int rounds = unit_rounds(4000);
    g->text = (char *)malloc(GEN_ROOM);
    while (rounds--) {
        if (!gen_new(g)) continue;
        CHECK_INT(read_whole(g->text, g->length), g->length);
        gen_read_in_pieces(g);
        gen_take_all(g);
    }
    free(g->text);
    free(g);
}

/* One byte of them is changed, or lost, or comes twice: the model says what that is. */
TEST(resp_random_mistakes_as_the_model_says) {
    gen *g = (gen *)malloc(sizeof *g);
    int rounds = unit_rounds(20000), good = 0, bad = 0, cut = 0;
    g->text = (char *)malloc(GEN_ROOM);
    while (rounds--) {
        size_t at;
        long n;
        if (!gen_new(g) || g->length > 2000) continue;
        at = unit_below((uint32_t)g->length);
        switch (unit_below(3)) {
        case 0: g->text[at] = "\r\n$*:+-0123456789"[unit_below(17)]; break;
        case 1: memmove(g->text + at, g->text + at + 1, --g->length - at); break;
        default: memmove(g->text + at + 1, g->text + at, g->length++ - at);
        }
        if (!g->length) continue;
        n = read_both(g->text, g->length, 1 + unit_below(5));
        if (n > 0) good++;
        else if (n < 0) bad++;
        else cut++;
    }
    if (unit_rounds(20000) == 20000) CHECK(good > 500 && bad > 500 && cut > 500);
    free(g->text);
    free(g);
}

/* Every text of up to seven of these bytes. */
TEST(resp_short_texts_as_the_model_says) {
    static const char set[] = "*$:+1-0\r\n";
    size_t most = unit_rounds(20000) == 20000 ? 7 : 4, length, i;
    for (length = 0; length <= most; length++) {
        size_t index[8] = {0};
        for (;;) {
            char text[8];
            lpi_resp resp;
            long elements = 0, got = 0, want;
            for (i = 0; i < length; i++) text[i] = set[index[i]];
            want = m_resp(text, length, 0, &elements);
            memset(&resp, 0, sizeof resp);
            for (i = 0; !got && i <= length; i++) got = lpi_resp_read(&resp, text, i);
            if (got != want)
                unit_fail(__FILE__, __LINE__, "%.*s: %ld, not %ld", (int)length, text, got, want);
            for (i = 0; i < length && ++index[i] == sizeof set - 1; i++) index[i] = 0;
            if (i == length) break;
        }
    }
}

/* ---- writing ---- */

TEST(resp_writes_a_command) {
    unit_memory m = {0};
    lp_memory memory = unit_memory_of(&m);
    lp_text text;
    lpi_text_init(&text, &memory);
    lpi_resp_command(&text, 4);
    lpi_resp_word(&text, LPI_S("SET"));
    lpi_resp_word(&text, LPI_S(""));
    lpi_resp_word(&text, LPI_S("a\r\nb"));
    lpi_resp_word_uint(&text, UINT64_MAX);
    CHECK_STR(lpi_text_slice(&text), "*4\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\r\nb\r\n"
                                     "$20\r\n18446744073709551615\r\n");
    lpi_text_clear(&text);
    lpi_resp_word_uint(&text, 0);
    CHECK_STR(lpi_text_slice(&text), "$1\r\n0\r\n");
    lpi_text_free(&text);
    CHECK_INT(m.blocks, 0);
}

/* What is written reads as one array of the same texts, and a second command behind it. */
TEST(resp_commands_read_back) {
    static char words[20][300];
    unit_memory m = {0};
    lp_memory memory = unit_memory_of(&m);
    lp_text text;
    int rounds = unit_rounds(3000);
    lpi_text_init(&text, &memory);
    while (rounds--) {
        size_t count = 1 + unit_below(20), lengths[20], i, k, end;
        lp_slice rest;
        lpi_resp_value v;
        lpi_text_clear(&text);
        lpi_resp_command(&text, count);
        for (i = 0; i < count; i++) {
            lengths[i] = unit_below(unit_one_in(5) ? 300 : 12);
            for (k = 0; k < lengths[i]; k++) words[i][k] = (char)unit_below(256);
            lpi_resp_word(&text, lpi_slice(words[i], lengths[i]));
        }
        end = text.length;
        lpi_resp_command(&text, 1);
        lpi_resp_word(&text, LPI_S("PING"));
        CHECK_INT(read_both(text.bytes, text.length, 1 + unit_below(40)), end);
        rest = lpi_slice(text.bytes, end);
        v = lpi_resp_take(&rest);
        CHECK(v.kind == LPI_RESP_ARRAY && v.number == (int64_t)count);
        for (i = 0; i < count; i++) {
            v = lpi_resp_take(&rest);
            CHECK_INT(v.kind, LPI_RESP_TEXT);
            CHECK_BYTES(v.text.bytes, v.text.length, words[i], lengths[i]);
        }
        CHECK_INT(rest.length, 0);
    }
    lpi_text_free(&text);
    CHECK_INT(m.blocks, 0);
}

/* Without memory the text says so, and nothing half written stays unseen. */
TEST(resp_writes_without_memory) {
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        unit_memory m = {0};
        lp_memory memory = unit_memory_of(&m);
        lp_text text;
        int i;
        m.fail_at = k;
        lpi_text_init(&text, &memory);
        lpi_resp_command(&text, 200);
        for (i = 0; i < 200; i++) lpi_resp_word(&text, LPI_S("twenty bytes or so"));
        failed = m.failed;
        CHECK(!failed == !text.failed);
        lpi_text_free(&text);
        CHECK_INT(m.blocks, 0);
    }
    CHECK(k > 4);
}
