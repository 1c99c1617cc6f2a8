/* B5, reply: heads and dates. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

#define DATE "Tue, 15 Nov 1994 08:12:31 GMT"

static lpi_head plain_head(int status) {
    lpi_head head;
    memset(&head, 0, sizeof head);
    head.status = status;
    head.date = DATE;
    return head;
}

/* Into a block of just the size that is promised to do. */
static lp_slice write_head(const lpi_head *head) {
    static char text[4000];
    size_t room = LPI_HEAD_FIXED + head->type.length + head->extra.length, n;
    char *to = (char *)malloc(room);
    n = (size_t)(lpi_head_put(to, head) - to);
    CHECK(n <= room);
    memcpy(text, to, n);
    text[n] = '\0';
    free(to);
    return lpi_slice(text, n);
}

#define NOSNIFF "X-Content-Type-Options: nosniff\r\n"

TEST(reply_head_of_a_poll) {
    lpi_head head = plain_head(200);
    head.type = LPI_S("application/json");
    head.length = 12345;
    CHECK_STR(write_head(&head),
              "HTTP/1.1 200 OK\r\nDate: " DATE "\r\nContent-Type: application/json\r\n"
              "Content-Length: 12345\r\nCache-Control: no-store\r\n" NOSNIFF "\r\n");
    head.close = head.keep_alive = 1; /* close goes first */
    head.extra = LPI_S("A: b\r\n");
    CHECK_STR(write_head(&head),
              "HTTP/1.1 200 OK\r\nDate: " DATE "\r\nContent-Type: application/json\r\n"
              "Content-Length: 12345\r\nCache-Control: no-store\r\n" NOSNIFF
              "Connection: close\r\nA: b\r\n\r\n");
}

TEST(reply_head_of_other_answers) {
    lpi_head head = plain_head(204);
    head.keep_alive = 1;
    CHECK_STR(write_head(&head),
              "HTTP/1.1 204 No Content\r\nDate: " DATE "\r\nCache-Control: no-store\r\n" NOSNIFF
              "Connection: keep-alive\r\n\r\n");
    head = plain_head(304);
    head.may_cache = 1;
    CHECK_STR(write_head(&head),
              "HTTP/1.1 304 Not Modified\r\nDate: " DATE "\r\n" NOSNIFF "\r\n");
    head = plain_head(200); /* an empty body is told; a type may be empty too */
    head.type = LPI_S("");
    CHECK_STR(write_head(&head),
              "HTTP/1.1 200 OK\r\nDate: " DATE "\r\nContent-Type: \r\nContent-Length: 0\r\n"
              "Cache-Control: no-store\r\n" NOSNIFF "\r\n");
}

/* Every status, with all that a head can have: the room is enough. */
TEST(reply_heads_fit_their_room) {
    static const int told[] = {200, 201, 202, 204, 301, 302, 303, 304, 307, 308, 400,
                               401, 403, 404, 405, 408, 409, 410, 411, 413, 414, 415,
                               417, 421, 422, 429, 431, 500, 501, 503, 504, 505};
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    int status;
    size_t i = 0;
    for (status = 200; status <= 599; status++) {
        lpi_head head = plain_head(status);
        int known = i < LPI_COUNT(told) && told[i] == status;
        lp_slice text;
        char begin[32];
        head.length = UINT64_MAX - 1; /* above it, there is none to be told */
        head.keep_alive = 1;
        head.type = lpi_slice(letters, unit_below(26));
        head.extra = lpi_slice("X: abcdefghijkl\r\n", unit_one_in(2) ? 17 : 0);
        text = write_head(&head);
        sprintf(begin, "HTTP/1.1 %d ", status);
        CHECK_BYTES(text.bytes, 13, begin, 13);
        CHECK_BYTES(text.bytes + text.length - 4, 4, "\r\n\r\n", 4);
        CHECK_INT(strstr(text.bytes, "\r\nContent-Length: 18446744073709551614\r\n") != NULL,
                  status != 204 && status != 304);
        CHECK_INT(strcmp(lpi_status_text(status), "Other") != 0, known);
        if (known) i++;
    }
    CHECK_INT(i, LPI_COUNT(told));
    CHECK(LPI_HEAD_ROOM >= LPI_HEAD_FIXED + strlen("application/json"));
}

/* ---- dates ---- */

static void check_date(uint64_t seconds) {
    char got[LPI_DATE_LENGTH + 1], want[64];
    struct tm tm;
    time_t t = (time_t)seconds;
    got[LPI_DATE_LENGTH] = '!';
    lpi_put_date(got, seconds);
    CHECK_INT(got[LPI_DATE_LENGTH], '!');
    CHECK(gmtime_r(&t, &tm) != NULL);
    strftime(want, sizeof want, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    CHECK_BYTES(got, LPI_DATE_LENGTH, want, strlen(want));
}

TEST(reply_date_of_every_day_for_600_years) {
    uint64_t day, step = unit_environment("UNIT_DIVIDE", 1);
    for (day = 0; day < 600 * 366; day += step) {
        check_date(day * 86400);
        check_date(day * 86400 + 86399);
        check_date(day * 86400 + unit_below(86400));
    }
}

TEST(reply_date_of_some_days) {
    static const uint64_t seconds[] = {
        0, 784887151, /* the date of RFC 9110 */
        951782399, 951782400, 951868799, 951868800,     /* 28 and 29 February, 1 March 2000 */
        UINT64_C(4107542399), UINT64_C(4107542400),     /* 2100 has no 29 February */
        2147483647, UINT64_C(2147483648), UINT64_C(4294967295), UINT64_C(4294967296),
        UINT64_C(253402300799)};                        /* the last second of 9999 */
    char date[LPI_DATE_LENGTH];
    size_t i;
    for (i = 0; i < LPI_COUNT(seconds); i++) check_date(seconds[i]);
    lpi_put_date(date, 784887151);
    CHECK_STR(lpi_slice(date, sizeof date), DATE);
}

TEST(reply_date_of_any_second) {
    int round;
    for (round = 0; round < unit_rounds(50000); round++)
        check_date(unit_random() % UINT64_C(253402300800));
}

/* ---- pages and files ---- */

TEST(the_type_is_by_the_extension) {
    static const struct { const char *name, *type; } cases[] = {
        {"index.html", "text/html; charset=utf-8"}, {"a/b.c/style.css", "text/css; charset=utf-8"},
        {"app.js", "text/javascript; charset=utf-8"}, {"app.mjs", "text/javascript; charset=utf-8"},
        {"app.min.js", "text/javascript; charset=utf-8"}, {"a.json", "application/json"},
        {"app.js.map", "application/json"}, {"feed.xml", "application/xml"},
        {"robots.txt", "text/plain; charset=utf-8"}, {"a.svg", "image/svg+xml"},
        {"a.png", "image/png"}, {"a.PNG", "image/png"}, {"a.jpg", "image/jpeg"},
        {"a.jpeg", "image/jpeg"}, {"a.gif", "image/gif"}, {"a.webp", "image/webp"},
        {"a.avif", "image/avif"}, {"favicon.ico", "image/x-icon"}, {"a.woff2", "font/woff2"},
        {"a.wasm", "application/wasm"}, {"a.pdf", "application/pdf"}, {"a.mp4", "video/mp4"},
        {"a.webm", "video/webm"}, {".css", "text/css; charset=utf-8"}};
    static const char *const others[] = {"", "html", "a.html.gz", "a.htm", "a.html ", "a.", "a.b/html",
                                         "a.html/", "a.html/b", "/", ".", "a.woff", "a.jss", "js"};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++)
        CHECK_STR(lp_s(lpi_type_of(lp_s(cases[i].name))), cases[i].type);
    for (i = 0; i < LPI_COUNT(others); i++)
        CHECK_STR(lp_s(lpi_type_of(lp_s(others[i]))), "application/octet-stream");
    CHECK_STR(lp_s(lpi_type_of(lp_s(NULL))), "application/octet-stream");
}

/* RFC 9110 8.8.3 and 13.1.2. */
TEST(tags_in_a_list) {
    static const struct { const char *list; int listed; } cases[] = {
        {"*", 1}, {" * ", 1}, {"\"a\"", 1}, {"W/\"a\"", 1}, {"\"b\",\"a\"", 1}, {"\"b\", \"a\"", 1},
        {"\"b\"\t,\t\"a\"", 1}, {",, ,\"a\",,", 1}, {"\"a\", nonsense", 1}, {"W/\"b\",W/\"a\"", 1},
        {"\"b,\", \"a\"", 1}, {"\"\",\"a\"", 1},
        {"", 0}, {" ", 0}, {",", 0}, {"a", 0}, {"\"a", 0}, {"a\"", 0}, {"\"", 0}, {"W/", 0},
        {"W/\"", 0}, {"W/a", 0}, {"w/\"a\"", 0}, {"W/ \"a\"", 0}, {"W \"a\"", 0}, {"\"b\"\"a\"", 0},
        {"\"A\"", 0}, {"\"b, \"a\"", 0}, {"\"aa\"", 0}, {"\" a\"", 0}, {"\"\"", 0}, {"*, \"a\"", 0},
        {"nonsense, \"a\"", 0}, {"W/W/\"a\"", 0}, {"\"b\";\"a\"", 0}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        size_t length = strlen(cases[i].list); /* not a byte beyond it is read */
        char *bytes = (char *)malloc(length ? length : 1);
        memcpy(bytes, cases[i].list, length);
        if (lpi_etag_listed(lpi_slice(bytes, length), lp_s("\"a\"")) != cases[i].listed)
            unit_fail(__FILE__, __LINE__, "%s", cases[i].list);
        free(bytes);
    }
    CHECK_INT(lpi_etag_listed(lpi_slice(NULL, 0), lp_s("\"a\"")), 0);
}

/* Lists that are well-formed, and then are not: the tag is found just where it was put, and
   whatever stands in a list, nothing beyond it is read. */
TEST(tags_in_random_lists) {
    static const char *const parts[] = {"\"b\"", "W/\"b\"", "\"\"", "\"b,\"", "\"x y\"", "W/\"\""};
    int round;
    for (round = 0; round < unit_rounds(20000); round++) {
        char text[400];
        size_t n = 0, k;
        uint32_t count = unit_below(6), at = unit_below(8), i;
        char *bytes;
        for (i = 0; i < count; i++) {
            n += (size_t)sprintf(text + n, "%s%s%s", i ? "," : "", unit_one_in(2) ? " " : "",
                                 i == at ? (unit_one_in(2) ? "W/\"a\"" : "\"a\"")
                                         : parts[unit_below(LPI_COUNT(parts))]);
            if (unit_one_in(4)) text[n++] = unit_one_in(2) ? ' ' : '\t';
        }
        bytes = (char *)malloc(n ? n : 1);
        memcpy(bytes, text, n);
        CHECK_INT(lpi_etag_listed(lpi_slice(bytes, n), lp_s("\"a\"")), at < count);
        for (k = 0; n && k < 4; k++) bytes[unit_below((uint32_t)n)] = "\"W/,* a"[unit_below(7)];
        (void)lpi_etag_listed(lpi_slice(bytes, n), lp_s("\"a\""));
        free(bytes);
    }
}
