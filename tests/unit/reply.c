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
