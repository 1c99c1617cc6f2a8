/* B1, http: heads and chunked bodies: whole, byte by byte, and cut at every position, at
   the edge of a page that may not be read. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

#include <ctype.h>

/* ---- text that ends where the readable memory does ---- */

enum { PAGES = 64 };

static char *guarded_end(void) {
    static char *end;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = PAGES * page;
    if (!end) {
        void *map = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                         -1, 0);
        CHECK(map != MAP_FAILED);
        end = (char *)map + size;
        CHECK_INT(mprotect(end, page, PROT_NONE), 0);
    }
    return end;
}

static char *guarded(lp_slice text) {
    char *at = guarded_end() - text.length;
    CHECK(text.length < PAGES * 4096);
    if (text.length) memcpy(at, text.bytes, text.length);
    at[-1] = '\r'; /* what stands before it says nothing either */
    return at;
}

static void bad_reading(const char *file, int line, const char *how, lp_slice text, long got,
                        long want) {
    char quoted[500];
    unit_fail(file, line, "%s: %ld, not %ld, for \"%s\"", how, got, want,
              unit_quote(quoted, sizeof quoted, text.bytes, text.length));
}

/* ---- heads ---- */

static uint32_t limit = 16384;

/* As pieces that end at each multiple of `step` and at `cut`. */
static int read_head(lpi_http *h, lp_slice text, size_t step, size_t cut) {
    size_t length;
    int result = 0;
    lpi_http_init(h, limit);
    for (length = 0; length <= text.length && !result; length++)
        if (length == text.length || length % step == 0 || length == cut)
            result = lpi_http_head(h, guarded(lpi_slice(text.bytes, length)), length);
    return result;
}

static int same_span(lpi_span a, lpi_span b) { return a.at == b.at && a.length == b.length; }

static int same_head(const lpi_http *a, const lpi_http *b) {
    int i;
    if (a->method != b->method || a->minor != b->minor || a->absolute != b->absolute ||
        a->close != b->close || a->keep_alive != b->keep_alive || a->chunked != b->chunked ||
        a->expects != b->expects || a->content_length != b->content_length ||
        a->field_count != b->field_count || a->fields != b->fields || a->line != b->line ||
        !same_span(a->method_text, b->method_text) || !same_span(a->path, b->path) ||
        !same_span(a->query, b->query) || !same_span(a->authority, b->authority))
        return 0;
    for (i = 0; i < LPI_F_KNOWN; i++)
        if (!same_span(a->values[i], b->values[i])) return 0;
    return 1;
}

/* A head that was accepted has as many fields as it counts, each with a name and a value that
   are what they must be, and knows the last of each name. */
static void check_fields(const lpi_http *h, lp_slice head) {
    lp_slice last[LPI_F_KNOWN] = {{NULL, 0}}, name, value;
    size_t at = h->fields, count = 0, k;
    CHECK_INT(h->line, head.length);
    while (lpi_http_next(h, head.bytes, &at, &name, &value)) {
        uint8_t field = lpi_http_field_known(name);
        CHECK(at <= head.length && name.bytes[-1] == '\n' && head.bytes[at - 1] == '\n');
        CHECK(name.length > 0 && name.bytes[name.length] == ':');
        CHECK(value.bytes > name.bytes + name.length);
        CHECK(value.bytes + value.length < head.bytes + at);
        for (k = 0; k < name.length; k++) CHECK(lpi_is(name.bytes[k], LPI_TOKEN));
        for (k = 0; k < value.length; k++) CHECK(lpi_is(value.bytes[k], LPI_VALUE));
        CHECK_INT(lpi_trim(value).length, value.length);
        if (field < LPI_F_KNOWN) last[field] = value;
        count++;
    }
    CHECK_INT(at, head.length - 2);
    CHECK_INT(h->field_count, count);
    for (k = 0; k < LPI_F_KNOWN; k++) {
        value = lpi_http_field(h, head.bytes, (lpi_field)k);
        CHECK_INT(lpi_http_has(h, (lpi_field)k), last[k].bytes != NULL);
        CHECK(value.bytes == last[k].bytes && value.length == last[k].length);
    }
}

/* However it comes, it reads the same. */
static int read_every_way(lpi_http *whole, lp_slice text, int every_cut) {
    lpi_http other;
    size_t cut;
    int want = read_head(whole, text, SIZE_MAX, SIZE_MAX), got;
    if (want > 0) check_fields(whole, lpi_slice(text.bytes, (size_t)want));
    got = read_head(&other, text, text.length < 3000 ? 1 : 97, 0);
    if (got != want) bad_reading(__FILE__, __LINE__, "byte by byte", text, got, want);
    if (want > 0 && !same_head(whole, &other))
        bad_reading(__FILE__, __LINE__, "byte by byte it differs", text, got, want);
    for (cut = 0; every_cut && cut < text.length; cut++) {
        got = read_head(&other, text, SIZE_MAX, cut);
        if (got != want) bad_reading(__FILE__, __LINE__, "cut in two", text, got, want);
        if (want > 0 && !same_head(whole, &other))
            bad_reading(__FILE__, __LINE__, "cut in two it differs", text, got, want);
    }
    return want;
}

#define H "Host: h\r\n"
#define END "\r\n\r\n"
#define G1 "GET / HTTP/1.1\r\n"
#define P1 "POST / HTTP/1.1\r\nHost: h\r\n"

/* Whole heads, and how they are refused; 0 is one that is not complete. */
static const struct { int status; const char *text; } refused[] = {
    {0, ""}, {0, "\r\n"}, {0, "G"}, {0, G1}, {0, G1 H}, {0, G1 H "\r"}, {0, "\r"},
    {400, "\r\n\r\n" G1 H "\r\n"}, {400, "\n" G1 H "\r\n"}, {400, " " G1 H "\r\n"},
    {400, "GET / HTTP/1.1\n" H "\r\n"}, {400, G1 "Host: h\n\r\n"}, {400, G1 H "\n"},
    {400, G1 H "\r\rX"}, {400, G1 H "\rX"}, {400, "\rX"},
    {400, "GET / HTTP/1.1\r\r\n" H "\r\n"}, {400, G1 "Host: h\r\r\n\r\n"},
    {400, G1 "A: b\rc\r\n" H "\r\n"}, {400, "GET  / HTTP/1.1\r\n" H "\r\n"},
    {400, "GET /  HTTP/1.1\r\n" H "\r\n"}, {400, "GET\t/ HTTP/1.1\r\n" H "\r\n"},
    {400, "GET /\tHTTP/1.1\r\n" H "\r\n"}, {400, "GET / HTTP/1.1 \r\n" H "\r\n"},
    {400, "GET / HTTP/1.1\t\r\n" H "\r\n"}, {400, "GET /\x01 HTTP/1.1\r\n" H "\r\n"},
    {400, "GET /\x7f HTTP/1.1\r\n" H "\r\n"}, {400, "GET /\x80 HTTP/1.1\r\n" H "\r\n"},
    {400, "GET /# HTTP/1.1\r\n" H "\r\n"}, {400, "GET /\\ HTTP/1.1\r\n" H "\r\n"},
    {400, "GET HTTP/1.1\r\n" H "\r\n"}, {400, "GET  HTTP/1.1\r\n" H "\r\n"},
    {400, "GET /\r\n" H "\r\n"}, {400, "GET\r\n\r\n"}, {400, "G@T / HTTP/1.1\r\n" H "\r\n"},
    {400, "G\xC4T / HTTP/1.1\r\n" H "\r\n"}, {501, "get / HTTP/1.1\r\n" H "\r\n"},
    {501, "BREW / HTTP/1.1\r\n" H "\r\n"}, {501, "GETT / HTTP/1.1\r\n" H "\r\n"},
    {501, "GE / HTTP/1.1\r\n" H "\r\n"}, {501, "TRACE / HTTP/1.1\r\n" H "\r\n"},
    {501, "CONNECT h:443 HTTP/1.1\r\n" H "\r\n"}, {400, "GET * HTTP/1.1\r\n" H "\r\n"},
    {400, "GET foo HTTP/1.1\r\n" H "\r\n"}, {400, "GET a:443 HTTP/1.1\r\n" H "\r\n"},
    {400, "OPTIONS ** HTTP/1.1\r\n" H "\r\n"}, {400, "GET ?a=b HTTP/1.1\r\n" H "\r\n"},
    {400, "GET ftp://h/ HTTP/1.1\r\n" H "\r\n"}, {400, "GET http:// HTTP/1.1\r\n" H "\r\n"},
    {400, "GET http:/// HTTP/1.1\r\n" H "\r\n"}, {400, "GET http://u@h/ HTTP/1.1\r\n" H "\r\n"},
    {400, "GET http://u:p@h/ HTTP/1.1\r\n" H "\r\n"},
    {400, "GET http://h:x/ HTTP/1.1\r\n" H "\r\n"},
    {400, "GET http://a,b/ HTTP/1.1\r\n" H "\r\n"}, {400, "GET / http/1.1\r\n" H "\r\n"},
    {400, "GET / HTTP/1\r\n" H "\r\n"}, {400, "GET / HTTP/01.1\r\n" H "\r\n"},
    {400, "GET / HTTP/1.10\r\n" H "\r\n"}, {400, "GET / HTTP/1,1\r\n" H "\r\n"},
    {400, "GET / HTTP/x.1\r\n" H "\r\n"}, {400, "GET / HTTP/1.x\r\n" H "\r\n"},
    {400, "GET / HTTPS/1.1\r\n" H "\r\n"}, {505, "GET / HTTP/2.0\r\n" H "\r\n"},
    {505, "GET / HTTP/0.9\r\n" H "\r\n"}, {505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
    {400, G1 "\r\n"}, {400, G1 H H "\r\n"}, {400, G1 H "host: h\r\n\r\n"},
    {400, G1 "Host: a b" END}, {400, G1 "Host: u@h" END}, {400, G1 "Host: h:" END},
    {400, G1 "Host: h:x" END}, {400, G1 "Host: h:-1" END}, {400, G1 "Host: h:123456" END},
    {400, G1 "Host: h:65536" END}, {400, G1 "Host: h:99999" END},
    {400, G1 "Host: h:080808" END}, {400, G1 "Host: [::1" END}, {400, G1 "Host: [::1]x" END},
    {400, G1 "Host: ::1" END}, {400, G1 "Host: []" END}, {400, G1 "Host: [g::]" END},
    {400, G1 "Host: a,b" END}, {400, G1 "Host:" END}, {400, G1 "Host: \t" END},
    {400, G1 "Host: :80" END}, {400, G1 "Host: h/" END}, {400, G1 "Host: h?" END},
    {400, "GET / HTTP/1.0\r\nHost: a b" END}, {400, "GET http://h/ HTTP/1.1\r\nHost: a b" END},
    {400, "GET http://h/ HTTP/1.1" END}, {400, G1 H "A : b" END}, {400, G1 H " A: b" END},
    {400, G1 " A: b\r\n" H "\r\n"}, {400, G1 "A: b\r\n c\r\n" H "\r\n"},
    {400, G1 H "A: b\r\n\tc" END}, {400, G1 H "novalue" END}, {400, G1 H ": b" END},
    {400, G1 H "A(: b" END}, {400, G1 H "A\xC4: b" END}, {400, G1 H "A\t: b" END},
    {400, G1 H "A: \x01" END}, {400, G1 H "A: \x7f" END}, {400, G1 H "A: b\vc" END},
    {400, G1 H "A: b\x1f" END}, {400, P1 "Content-Type: a\r\nContent-Type: a" END},
    {400, G1 H "Origin: a\r\noRigin: b" END},
    {400, G1 H "Authorization: a\r\nAuthorization: a" END},
    {400, G1 H "Expect: 100-continue\r\nExpect: 100-continue" END},
    {400, G1 H "X-Client-ID: a\r\nX-Client-ID: a" END},
    {400, G1 H "X-Real-IP: a\r\nX-Real-IP: a" END},
    {400, P1 "Content-Length: 5\r\nContent-Length: 5" END},
    {400, P1 "Content-Length: 5\r\nContent-Length: 6" END},
    {400, P1 "Content-Length: 5, 5" END}, {400, P1 "Content-Length: +5" END},
    {400, P1 "Content-Length: -0" END}, {400, P1 "Content-Length: -5" END},
    {400, P1 "Content-Length: 0x5" END}, {400, P1 "Content-Length: 5_0" END},
    {400, P1 "Content-Length: 5.0" END}, {400, P1 "Content-Length: 005" END},
    {400, P1 "Content-Length:" END}, {400, P1 "Content-Length: 5 5" END},
    {400, P1 "Content-Length: 9223372036854775808" END},
    {400, P1 "Content-Length: 18446744073709551616" END},
    {400, P1 "Content-Length: 18446744073709551615" END},
    {400, P1 "Content-Length: 99999999999999999999999999999" END},
    {400, P1 "Content-Length: 5\r\nTransfer-Encoding: chunked" END},
    {400, P1 "Transfer-Encoding: chunked\r\nContent-Length: 5" END},
    {501, P1 "Transfer-Encoding: gzip" END}, {501, P1 "Transfer-Encoding: xchunked" END},
    {501, P1 "Transfer-Encoding: identity" END}, {501, P1 "Transfer-Encoding: chunke" END},
    {400, P1 "Transfer-Encoding: chunked, gzip" END},
    {400, P1 "Transfer-Encoding: gzip, chunked" END},
    {400, P1 "Transfer-Encoding: \"chunked\"" END}, {400, P1 "Transfer-Encoding: ,chunked" END},
    {400, P1 "Transfer-Encoding: chun\vked" END},
    {400, P1 "Transfer-Encoding: \xA0" "chunked" END}, {400, P1 "Transfer-Encoding:" END},
    {400, P1 "Transfer-Encoding: chunked;a=b" END},
    {400, P1 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked" END},
    {400, "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked" END},
    {417, P1 "Expect: 200-ok" END}, {417, P1 "Expect:" END}};

TEST(http_heads_that_are_refused) {
    size_t i;
    for (i = 0; i < LPI_COUNT(refused); i++) {
        lpi_http h;
        int got = read_every_way(&h, lp_s(refused[i].text), 1);
        if (got != -refused[i].status)
            bad_reading(__FILE__, __LINE__, "refused", lp_s(refused[i].text), got,
                        -refused[i].status);
    }
}

TEST(http_a_nul_is_refused_wherever_it_stands) {
    static const char text[] = G1 H "A: b" END;
    size_t i;
    for (i = 0; i < sizeof text - 1; i++) {
        char with[sizeof text];
        lpi_http h;
        memcpy(with, text, i);
        with[i] = '\0';
        memcpy(with + i + 1, text + i, sizeof text - 1 - i);
        CHECK_INT(read_every_way(&h, lpi_slice(with, sizeof with), 1), -400);
    }
}

/* ---- what is served ---- */

typedef struct good_head {
    const char *text, *path, *query, *authority;
    const char *flags; /* HTTP/1.0, absolute, close, keep-alive, t for chunked, expects */
    int method;
    uint64_t content_length;
} good_head;

static const good_head served[] = {
    {G1 H "\r\n", "/", NULL, "h", "", LPI_GET, 0},
    {"\r\n" G1 H "\r\n", "/", NULL, "h", "", LPI_GET, 0},
    {"HEAD /a/b%2Fc?d=e&f?g HTTP/1.1\r\nhOST:h:80" END, "/a/b%2Fc", "d=e&f?g", "h:80", "",
     LPI_HEAD, 0},
    {"GET /? HTTP/1.2\r\nHost:\t h \t\r\n\r\n", "/", "", "h", "", LPI_GET, 0},
    {"GET /!$&'()*+,-./:;<=>@[]^_`{|}~\" HTTP/1.9\r\n" H "\r\n",
     "/!$&'()*+,-./:;<=>@[]^_`{|}~\"", NULL, "h", "", LPI_GET, 0},
    {"GET http://Other:8080/x?y HTTP/1.1\r\n" H "\r\n", "/x", "y", "Other:8080", "a", LPI_GET, 0},
    {"GET HTTPS://o HTTP/1.1\r\n" H "\r\n", "", NULL, "o", "a", LPI_GET, 0},
    {"GET http://o?q HTTP/1.1\r\n" H "\r\n", "", "q", "o", "a", LPI_GET, 0},
    {"GET http://[::1]:80/ HTTP/1.1\r\n" H "\r\n", "/", NULL, "[::1]:80", "a", LPI_GET, 0},
    {"OPTIONS * HTTP/1.1\r\n" H "\r\n", "*", NULL, "h", "", LPI_OPTIONS, 0},
    {"GET / HTTP/1.0\r\n\r\n", "/", NULL, "", "0", LPI_GET, 0},
    {"GET / HTTP/1.0\r\nConnection: Keep-Alive" END, "/", NULL, "", "0k", LPI_GET, 0},
    {G1 "Host: [::ffff:1.2.3.4]" END, "/", NULL, "[::ffff:1.2.3.4]", "", LPI_GET, 0},
    {G1 "Host: a-b.c_d~%41!$&'()*+;=:0" END, "/", NULL, "a-b.c_d~%41!$&'()*+;=:0", "", LPI_GET,
     0},
    {G1 "Host: h:65535" END, "/", NULL, "h:65535", "", LPI_GET, 0},
    {G1 H "Connection: TE,,x , cLoSe" END, "/", NULL, "h", "c", LPI_GET, 0},
    {G1 H "Connection: a\r\nConnection: close\r\nConnection: b" END, "/", NULL, "h", "c",
     LPI_GET, 0},
    {G1 H "Connection: Host, closed, xclose, close d" END, "/", NULL, "h", "", LPI_GET, 0},
    {G1 H "Connection:" END, "/", NULL, "h", "", LPI_GET, 0},
    {G1 H "A: \tb\xC3\xA4 c\t\r\n" "A:\r\n" "!#$%&'*+-.^_`|~: x" END, "/", NULL, "h", "",
     LPI_GET, 0},
    {G1 H "Content_Length: 5\r\nContent-Length-: 5\r\nContent-Lengt: 5\r\nX_Forwarded_For: a" END,
     "/", NULL, "h", "", LPI_GET, 0},
    {G1 H "Upgrade: websocket\r\nConnection: upgrade" END, "/", NULL, "h", "", LPI_GET, 0},
    {P1 "content-LENGTH: 5 " END, "/", NULL, "h", "", LPI_POST, 5},
    {P1 "Content-Length: 0" END, "/", NULL, "h", "", LPI_POST, 0},
    {P1 "Content-Length: 9223372036854775807" END, "/", NULL, "h", "", LPI_POST, INT64_MAX},
    {P1 "Transfer-Encoding: ChUnKeD" END, "/", NULL, "h", "t", LPI_POST, 0},
    {P1 "Expect: 100-Continue\r\nContent-Length: 1" END, "/", NULL, "h", "e", LPI_POST, 1},
    {"POST / HTTP/1.0\r\nExpect: other\r\nContent-Length: 1" END, "/", NULL, "", "0", LPI_POST,
     1},
    {"PUT / HTTP/1.1\r\n" H "\r\n", "/", NULL, "h", "", LPI_PUT, 0},
    {"PATCH / HTTP/1.1\r\n" H "\r\n", "/", NULL, "h", "", LPI_PATCH, 0},
    {"DELETE / HTTP/1.1\r\n" H "\r\n", "/", NULL, "h", "", LPI_DELETE, 0}};

static void check_served(const good_head *want, const lpi_http *h, const char *bytes) {
    CHECK_INT(h->method, want->method);
    CHECK_STR(lpi_text_of(bytes, h->path), want->path);
    CHECK_STR(lpi_text_of(bytes, h->query), want->query ? want->query : "");
    CHECK_INT(h->query.at != 0, want->query != NULL);
    CHECK_STR(lpi_text_of(bytes, h->authority), want->authority);
    CHECK_INT(h->minor, !strchr(want->flags, '0'));
    CHECK_INT(h->absolute, strchr(want->flags, 'a') != NULL);
    CHECK_INT(h->close, strchr(want->flags, 'c') != NULL);
    CHECK_INT(h->keep_alive, strchr(want->flags, 'k') != NULL);
    CHECK_INT(h->chunked, strchr(want->flags, 't') != NULL);
    CHECK_INT(h->expects, strchr(want->flags, 'e') != NULL);
    CHECK(h->content_length == want->content_length);
}

TEST(http_heads_that_are_served) {
    size_t i;
    for (i = 0; i < LPI_COUNT(served); i++) {
        lp_slice text = lp_s(served[i].text);
        char more[600];
        lpi_http h;
        int got = read_every_way(&h, text, 1);
        if (got != (int)text.length)
            bad_reading(__FILE__, __LINE__, "served", text, got, (long)text.length);
        check_served(&served[i], &h, text.bytes);
        /* what follows is not its own, and nothing is served before its last byte */
        sprintf(more, "%s\r\n\n behind", text.bytes);
        CHECK_INT(read_head(&h, lp_s(more), SIZE_MAX, SIZE_MAX), text.length);
        CHECK_INT(read_head(&h, lpi_slice(text.bytes, text.length - 1), 1, 0), 0);
    }
}

/* Each name that the library reads, in any case, and none that is nearly one. */
TEST(http_every_known_name_is_known) {
    char name[64];
    size_t i, k, n;
    for (i = 0; i < LPI_F_KNOWN; i++) {
        n = lpi_field_names[i].length;
        for (k = 0; k < 3; k++) {
            size_t at;
            memcpy(name, lpi_field_names[i].bytes, n);
            for (at = 0; at < n; at++)
                if (k) name[at] = (char)(k == 1 ? tolower(name[at]) : toupper(name[at]));
            CHECK_INT(lpi_http_field_known(lpi_slice(name, n)), i);
            for (at = 0; at < n; at++) {
                name[at] = (char)(name[at] ^ 1);
                CHECK_INT(lpi_http_field_known(lpi_slice(name, n)), LPI_F_KNOWN);
                name[at] = (char)(name[at] ^ 1);
            }
            CHECK_INT(lpi_http_field_known(lpi_slice(name, n - 1)), LPI_F_KNOWN);
            name[n] = 'x';
            CHECK_INT(lpi_http_field_known(lpi_slice(name, n + 1)), LPI_F_KNOWN);
        }
    }
    for (n = 0; n < sizeof name; n++) {
        memset(name, 'o', sizeof name);
        CHECK_INT(lpi_http_field_known(lpi_slice(name, n)), LPI_F_KNOWN);
    }
}

TEST(http_fields_are_found) {
    lp_slice text = LPI_S(G1 H "X-Forwarded-For: 1.1.1.1\r\nX-Real-IP:2.2.2.2\r\nORIGIN: \r\n"
                          "Access-Control-Request-Method: PUT\r\nX-Forwarded-For:  3.3.3.3 " END);
    lpi_http h;
    lp_slice value;
    CHECK_INT(read_every_way(&h, text, 1), text.length);
    CHECK_INT(h.field_count, 6);
    CHECK_STR(lpi_http_field(&h, text.bytes, LPI_F_FORWARDED), "3.3.3.3"); /* the last */
    CHECK_STR(lpi_http_field(&h, text.bytes, LPI_F_REAL_IP), "2.2.2.2");
    CHECK_STR(lpi_http_field(&h, text.bytes, LPI_F_PREFLIGHT), "PUT");
    CHECK(lpi_http_field(&h, text.bytes, LPI_F_ORIGIN).bytes != NULL); /* empty, yet there */
    CHECK_INT(lpi_http_field(&h, text.bytes, LPI_F_ORIGIN).length, 0);
    CHECK(lpi_http_field(&h, text.bytes, LPI_F_TYPE).bytes == NULL);
    value = lpi_http_field(&h, text.bytes, LPI_F_FORWARDED);
    value = lpi_http_field_before(&h, text.bytes, LPI_F_FORWARDED, value);
    CHECK_STR(value, "1.1.1.1");
    value = lpi_http_field_before(&h, text.bytes, LPI_F_FORWARDED, value);
    CHECK(value.bytes == NULL);
}

/* From the last to the first: each once, in any case, and none of another name. */
TEST(http_fields_before) {
    lp_slice text = LPI_S(G1 "x-forwarded-for:\r\n" H "X-Forwarded-For: a\r\n"
                          "X-Forwarded-Foo: b\r\nX-FORWARDED-FOR: c, d\r\nX-Forwarded: e" END);
    static const char *const want[] = {"c, d", "a", ""};
    lpi_http h;
    lp_slice value;
    size_t i;
    CHECK_INT(read_every_way(&h, text, 0), text.length);
    value = lpi_http_field(&h, text.bytes, LPI_F_FORWARDED);
    for (i = 0; i < LPI_COUNT(want); i++) {
        CHECK(value.bytes != NULL);
        CHECK_STR(value, want[i]);
        value = lpi_http_field_before(&h, text.bytes, LPI_F_FORWARDED, value);
    }
    CHECK(value.bytes == NULL);
}

/* ---- limits ---- */

static char big[PAGES * 4096];

static lp_slice repeat(const char *before, char c, size_t count, const char *after) {
    size_t n = strlen(before);
    memcpy(big, before, n);
    memset(big + n, c, count);
    memcpy(big + n + count, after, strlen(after));
    return lpi_slice(big, n + count + strlen(after));
}

TEST(http_head_of_the_limit_s_size) {
    static const uint32_t limits[] = {64, 1000, 16384, 65535};
    size_t i;
    for (i = 0; i < LPI_COUNT(limits); i++) {
        lp_slice text, name, value = LPI_S("");
        lpi_http h;
        size_t at;
        limit = limits[i];
        text = repeat(G1 H "A: ", 'x', limit - strlen(G1 H "A: ") - 4, END);
        CHECK_INT(text.length, limit);
        CHECK_INT(read_every_way(&h, text, limit <= 1000), limit);
        at = h.fields;
        while (lpi_http_next(&h, text.bytes, &at, &name, &value)) continue;
        CHECK_INT(value.length, limit - strlen(G1 H "A: ") - 4);
        text = repeat(G1 H "A: ", 'x', limit - strlen(G1 H "A: ") - 3, END);
        CHECK_INT(read_every_way(&h, text, limit <= 1000), -431);
        text = repeat("GET /", 'x', limit - strlen("GET / HTTP/1.0") - 4, " HTTP/1.0" END);
        CHECK_INT(read_every_way(&h, text, limit <= 1000), limit);
        CHECK_INT(h.path.length, limit - strlen("GET  HTTP/1.0") - 4);
        text = repeat("GET /", 'x', limit, " HTTP/1.0" END);
        CHECK_INT(read_every_way(&h, text, limit <= 1000), -414);
        text = repeat("", 'x', limit, " / HTTP/1.0" END);
        CHECK_INT(read_every_way(&h, text, limit <= 1000), -400); /* a method without an end */
    }
}

TEST(http_long_lines) {
    lpi_http h;
    const char *after = " HTTP/1.1\r\n" H "\r\n";
    lp_slice text = repeat("GET /", 'x', 8000 - strlen("GET / HTTP/1.1\r\n"), after);
    CHECK_INT(read_every_way(&h, text, 0), text.length);
    CHECK_INT(read_every_way(&h, repeat("GET /", 'x', 100000, after), 0), -414);
    CHECK_INT(read_every_way(&h, repeat("", 'X', 20000, " / HTTP/1.1\r\n" H "\r\n"), 0), -400);
    CHECK_INT(read_every_way(&h, repeat("", 'X', 2000, " / HTTP/1.1\r\n" H "\r\n"), 0), -501);
}

TEST(http_a_hundred_fields) {
    int count, i;
    for (count = LPI_FIELDS_MAX - 1; count <= LPI_FIELDS_MAX + 1; count++) {
        lp_slice text;
        lpi_http h;
        char *to = big + sprintf(big, G1 H);
        for (i = 1; i < count; i++) to += sprintf(to, "F%d: %d\r\n", i, i);
        to += sprintf(to, "\r\n");
        text = lpi_slice(big, (size_t)(to - big));
        CHECK_INT(read_every_way(&h, text, 1), count <= LPI_FIELDS_MAX ? (int)text.length : -431);
        if (count <= LPI_FIELDS_MAX) CHECK_INT(h.field_count, count);
    }
}

/* ---- chance: pieces of heads, mutated; under limits that fall anywhere ---- */

TEST(http_mutated_heads_read_the_same_every_way) {
    static const char bytes[] = "\r\n\r\n\r\n :,/?#[]@*%\t\v\x7f\x80" "aZ09";
    int round;
    for (round = 0; round < unit_rounds(4000); round++) {
        char text[1200];
        size_t length, n = 1 + unit_below(3), at;
        const char *from = unit_one_in(2) ? served[unit_below(LPI_COUNT(served))].text
                                          : refused[unit_below(LPI_COUNT(refused))].text;
        lpi_http h;
        int got;
        length = strlen(from);
        memcpy(text, from, length);
        while (n-- && length) {
            at = unit_below((uint32_t)length);
            if (unit_one_in(3)) {
                memmove(text + at, text + at + 1, --length - at);
            } else if (unit_one_in(2)) {
                text[at] = bytes[unit_below(sizeof bytes)];
            } else {
                memmove(text + at + 1, text + at, length++ - at);
                text[at] = bytes[unit_below(sizeof bytes)];
            }
        }
        limit = unit_one_in(2) ? 16384 : 1 + unit_below((uint32_t)length + 2);
        got = read_every_way(&h, lpi_slice(text, length), 1);
        if (got > 0) {
            CHECK(got <= (int)length && got <= (int)limit);
            CHECK(memcmp(text + got - 2, "\r\n", 2) == 0);
            CHECK(h.method < LPI_TRACE && (h.minor == 0 || lpi_http_has(&h, LPI_F_HOST)));
        }
    }
}

/* ---- chunked bodies ---- */

/* Decodes in place, as the server does: pieces that end at each multiple of `step` and at
   `cut`. Returns what the decoder last did; the body, and how much was taken, in *out. */
typedef struct decoded {
    char body[PAGES * 4096];
    size_t length, taken;
} decoded;

static int decode_body(decoded *out, lp_slice text, size_t step, size_t cut, uint64_t body_limit) {
    lpi_chunked c;
    size_t begin = 0, end, taken;
    int result = 0;
    lpi_chunked_init(&c, body_limit);
    out->length = out->taken = 0;
    for (end = 0; end <= text.length && !result; end++) {
        char *at;
        if (end != text.length && end % step && end != cut) continue;
        at = guarded(lpi_slice(text.bytes + begin, end - begin));
        taken = SIZE_MAX;
        result = lpi_chunked_decode(&c, at, at, end - begin, &taken);
        if (result < 0) break;
        CHECK_INT(c.raw, out->taken + taken);
        if (!result) CHECK_INT(taken, end - begin);
        memcpy(out->body + out->length, at, (size_t)c.decoded - out->length);
        out->length = (size_t)c.decoded;
        out->taken += taken;
        begin = end;
    }
    return result;
}

static int decode_every_way(decoded *whole, lp_slice text, uint64_t body_limit, int every_cut) {
    static decoded other;
    int want = decode_body(whole, text, SIZE_MAX, SIZE_MAX, body_limit), got;
    size_t cut;
    for (cut = 0; cut <= (every_cut ? text.length : 0); cut++) {
        /* byte by byte first, then in two */
        got = decode_body(&other, text, cut ? SIZE_MAX : 1, cut, body_limit);
        if (got != want)
            bad_reading(__FILE__, __LINE__, cut ? "cut in two" : "byte by byte", text, got, want);
        if (want < 0) continue;
        CHECK_INT(other.taken, whole->taken);
        CHECK_BYTES(other.body, other.length, whole->body, whole->length);
    }
    return want;
}

#define LAST "0\r\n\r\n"

static const struct { int result; const char *text, *body; } chunked_bodies[] = {
    {0, "", ""}, {0, "5", ""}, {0, "5\r\nhel", "hel"}, {0, "5\r\nhello\r\n", "hello"},
    {0, "1\r\nx\r\n0\r\n", "x"}, {0, "0\r\nA: b\r\n", ""}, {0, "0\r\n\r", ""}, {1, LAST, ""},
    {1, "5\r\nhello\r\n" LAST, "hello"}, {1, "2\r\n\r\n\r\n1\r\n0\r\n" LAST, "\r\n0"},
    {1, "a\r\n0123456789\r\n" LAST, "0123456789"},
    {1, "A\r\n0123456789\r\n" LAST, "0123456789"},
    {1, "00000001\r\nx\r\n00000000\r\n\r\n", "x"},
    {1, "1;a=b\r\nx\r\n0;c;d=\"e f\"\r\n\r\n", "x"}, 
    {1, "1; \ta \t= \tb \t; c\r\nx\r\n" LAST, "x"}, {1, "1;a;b;c\r\nx\r\n" LAST, "x"},
    {1, "1;a=\"\"\r\nx\r\n" LAST, "x"}, {1, "1;a=\"\\\"\\\\ ;=\t\x80\";b=\"c\" ;d\r\nx\r\n" LAST, "x"},
    {-400, "1;\r", ""}, {-400, "1; \r", ""}, {-400, "1;a \r", ""}, {-400, "1;a=\r", ""},
    {-400, "1;a=b \r", ""}, {-400, "1;a=\"b\" \r", ""}, {-400, "1;a=\"b\r", ""},
    {-400, "1;a=\"b\"c", ""}, {-400, "1;a=b\"", ""}, {-400, "1;a b", ""}, {-400, "1;=", ""},
    {-400, "1;;", ""}, {-400, "1;a==", ""}, {-400, "1;a=b=", ""}, {-400, "1;a=;", ""},
    {-400, "1;bad[", ""}, {-400, "1;\x80", ""}, {-400, "1;a=\x80", ""}, {-400, "1;a=\"\\\x01", ""},
    {-400, "1;a=\"\x7f", ""}, {-400, "1;a=b c", ""},
    {1, "1\r\nx\r\n0\r\nContent-Length: 9\r\nHost: x\r\nA:\r\n\r\n", "x"}, {-400, "\r\n", ""},
    {-400, "x\r\n", ""}, {-400, " 1\r\nx\r\n" LAST, ""}, {-400, ";a\r\n", ""},
    {-400, "1 \r\nx\r\n" LAST, ""}, {-400, "1 ;a\r\nx\r\n" LAST, ""}, {-400, "-1\r\n", ""},
    {-400, "+5\r\nhello\r\n" LAST, ""}, {-400, "0x5\r\nhello\r\n" LAST, ""},
    {-400, "5_0\r\n", ""}, {-400, "5g\r\n", ""}, {-400, "5\nhello\r\n" LAST, ""},
    {-400, "5\r\rhello", ""}, {-400, "5\rhello", ""}, {-400, "1\r\nx\n" LAST, ""},
    {-400, "1\r\nxy\r\n" LAST, ""}, {-400, "1\r\nx0\r\n\r\n", ""}, {-400, "1\r\nx\rX", ""},
    {-400, "000000001\r\nx\r\n" LAST, ""}, {-400, "FFFFFFFFFFFFFFFF\r\n", ""},
    {-400, "10000000000000000\r\n", ""}, {-413, "FFFFFFFF\r\n", ""}, {-413, "80000000\r\n", ""},
    {-400, "1;a\nb\r\nx\r\n", ""}, {-400, "1;a\rb\r\nx\r\n", ""}, {-400, "1;\x01\r\n", ""},
    {-400, "1;\x7f\r\n", ""}, {-400, "0\r\n\rX", ""}, {-400, "0\r\n\n", ""},
    {-400, "0\r\n: b\r\n\r\n", ""}, {-400, "0\r\nA\r\n\r\n", ""},
    {-400, "0\r\nA : b\r\n\r\n", ""}, {-400, "0\r\n A: b\r\n\r\n", ""},
    {-400, "0\r\nA: b\r\n c\r\n\r\n", ""}, {-400, "0\r\nA: \x01\r\n\r\n", ""},
    {-400, "0\r\nA: b\n\r\n", ""}, {-400, "0\r\nA: b\rc\r\n\r\n", ""}};

TEST(http_chunked_bodies) {
    static decoded d;
    size_t i;
    for (i = 0; i < LPI_COUNT(chunked_bodies); i++) {
        char more[200];
        lp_slice text = lp_s(chunked_bodies[i].text);
        int got = decode_every_way(&d, text, 1000, 1);
        if (got != chunked_bodies[i].result)
            bad_reading(__FILE__, __LINE__, "chunked", text, got, chunked_bodies[i].result);
        if (got >= 0) CHECK_BYTES(d.body, d.length, chunked_bodies[i].body, strlen(chunked_bodies[i].body));
        if (got < 1) continue;
        sprintf(more, "%sGET / HTTP", text.bytes); /* the next request is left alone */
        CHECK_INT(decode_every_way(&d, lp_s(more), 1000, 1), 1);
        CHECK_INT(d.taken, text.length);
    }
    CHECK_INT(decode_every_way(&d, LPI_S("1;a\0b\r\nx\r\n" LAST), 1000, 1), -400);
    CHECK_INT(decode_every_way(&d, LPI_S("0\r\nA: \0\r\n\r\n"), 1000, 1), -400);
}

TEST(http_chunked_up_to_the_body_s_limit) {
    static decoded d;
    CHECK_INT(decode_every_way(&d, LPI_S("3\r\nabc\r\n2\r\nde\r\n" LAST), 6, 1), 1);
    CHECK_INT(decode_every_way(&d, LPI_S("3\r\nabc\r\n2\r\nde\r\n" LAST), 5, 1), 1);
    CHECK_INT(decode_every_way(&d, LPI_S("3\r\nabc\r\n2\r\nde\r\n" LAST), 4, 1), -413);
    CHECK_INT(decode_every_way(&d, LPI_S("3\r\nabc\r\n2\r"), 4, 1), -413); /* at once */
    CHECK_INT(decode_every_way(&d, LPI_S("1\r"), 0, 1), -413);
    CHECK_INT(decode_every_way(&d, LPI_S(LAST), 0, 1), 1);
}

TEST(http_chunked_lines_up_to_their_limits) {
    static decoded d;
    char *to;
    int count, i;
    /* the extension and the CR behind it are counted */
    CHECK_INT(decode_every_way(&d, repeat("1;", 'e', 1023, "\r\nx\r\n" LAST), 9, 1), 1);
    CHECK_INT(decode_every_way(&d, repeat("1;", 'e', 1024, "\r\nx\r\n" LAST), 9, 1), -400);
    CHECK_INT(decode_every_way(&d, repeat("1;", 'e', 65536, "\r\nx\r\n" LAST), 9, 0), -400);
    /* trailers: "A:" and "\r\n", and the last "\r" */
    CHECK_INT(decode_every_way(&d, repeat("0\r\nA:", 'v', 16384 - 5, "\r\n\r\n"), 9, 0), 1);
    CHECK_INT(decode_every_way(&d, repeat("0\r\nA:", 'v', 16384 - 4, "\r\n\r\n"), 9, 0), -431);
    for (count = 99; count <= 101; count++) {
        to = big + sprintf(big, "0\r\n");
        for (i = 0; i < count; i++) to += sprintf(to, "A:\r\n");
        to += sprintf(to, "\r\n");
        CHECK_INT(decode_every_way(&d, lpi_slice(big, (size_t)(to - big)), 9, 1),
                  count <= 100 ? 1 : -431);
    }
}

/* As many chunks as fit, then the last one. */
static lp_slice many_chunks(const char *chunk) {
    size_t length = strlen(chunk);
    char *to = big;
    for (; to + length + strlen(LAST) <= big + sizeof big; to += length)
        memcpy(to, chunk, length);
    memcpy(to, LAST, strlen(LAST));
    return lpi_slice(big, (size_t)(to - big) + strlen(LAST));
}

/* Framing is refused past 100 KiB of it, if it is 75% too. */
TEST(http_chunked_overhead) {
    static decoded d;
    lp_slice text = many_chunks("1\r\nx\r\n"); /* five of six bytes */
    size_t fits = 100 * 1024 / 5 * 6;
    CHECK_INT(decode_every_way(&d, text, INT32_MAX, 0), -400);
    CHECK_INT(decode_every_way(&d, lpi_slice(big, fits), INT32_MAX, 0), 0);
    CHECK_INT(decode_every_way(&d, lpi_slice(big, fits + 1), INT32_MAX, 0), -400);
    text = many_chunks("2\r\nxx\r\n"); /* five of seven */
    CHECK_INT(decode_every_way(&d, text, INT32_MAX, 0), 1);
    text = many_chunks("2;abc\r\nxxx\r\n"); /* not framed so */
    CHECK_INT(decode_every_way(&d, text, INT32_MAX, 0), -400);
}

TEST(http_mutated_chunks_read_the_same_every_way) {
    static const char bytes[] = "\r\n\r\n\r\n0123;: \tabgAx\x7f\x80";
    static decoded d;
    int round;
    for (round = 0; round < unit_rounds(4000); round++) {
        char text[200];
        const char *from = chunked_bodies[unit_below(LPI_COUNT(chunked_bodies))].text;
        size_t length = strlen(from), n = 1 + unit_below(3), at;
        memcpy(text, from, length);
        while (n-- && length) {
            at = unit_below((uint32_t)length);
            if (unit_one_in(2)) memmove(text + at, text + at + 1, --length - at);
            else text[at] = bytes[unit_below(sizeof bytes)];
        }
        decode_every_way(&d, lpi_slice(text, length), unit_below(20), 1);
        CHECK(d.length <= 20);
    }
}
