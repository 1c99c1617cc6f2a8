/* Polls whose head is that of the poll before, but for its X-Client-ID, or but for that,
   the channel's name and the cursor: they are not read again, and must be served as if
   they were. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

/* ---- what is read, and what is not ---- */

enum { UNREAD = 0xabcdef };

/* A head that is read leaves its mark in the loop's parser. */
static void mark(void) { w.s->hub.loops[0].http.scanned = UNREAD; }
static int was_read(void) { return w.s->hub.loops[0].http.scanned != UNREAD; }

static answer *heard_as(peer *c, const char *head)
{
    mark();
    say(c, head);
    settle(&w);
    return take(c);
}

#define POLL_A "GET /api/poll/a?timeout=0 HTTP/1.1\r\nHost: localhost\r\n"

static void unkeep(world *of)
{
    memset(&of->s->hub.loops[0].memo, 0, sizeof of->s->hub.loops[0].memo);
}

/* So that `head` is kept: twice the same. */
static void prime(const char *head)
{
    peer *c = dial(&w);
    unkeep(&w);
    heard_as(c, head);
    CHECK(was_read());
    heard_as(c, head);
    CHECK(was_read());
    finish(c);
    settle(&w);
}

TEST(the_third_of_the_same_is_not_read)
{
    peer *c;
    open_world(&w);
    prime(POLL_A "\r\n");
    c = dial(&w);
    CHECK_INT(heard_as(c, POLL_A "\r\n")->status, 200);
    CHECK(!was_read());
    prime(POLL_A "X-Client-ID: one\r\nX-B: c\r\n\r\n");
    CHECK_INT(heard_as(c, POLL_A "X-Client-ID: one\r\nX-B: c\r\n\r\n")->status, 200);
    CHECK(!was_read());
    CHECK_INT(heard_as(c, POLL_A "X-Client-ID: two\r\nX-B: c\r\n\r\n")->status, 200);
    CHECK(!was_read());
    CHECK_INT(heard_as(c, POLL_A "X-Client-ID: a-longer-one\r\nX-B: c\r\n\r\n")->status, 200);
    CHECK(!was_read());
    CHECK_INT(heard_as(c, POLL_A "X-Client-ID: 1\r\nX-B: c\r\n\r\n")->status, 200);
    CHECK(!was_read());
    CHECK_INT(stats_of(&w).refused, 0);
    close_world(&w);
}

/* One byte more, or less, or another, anywhere but in the id. */
TEST(any_other_byte_is_read)
{
    static const char head[] = POLL_A "X-Client-ID: one\r\nX-B: c\r\n\r\n";
    size_t id = (size_t)(strstr(head, "one") - head), i;
    open_world(&w);
    for (i = 0; i < sizeof head - 1; i++) {
        char changed[sizeof head];
        peer *c;
        if (i >= id && i < id + 3) continue;
        if (w.s->hub.loops[0].memo.length != sizeof head - 1 ||
            memcmp(w.s->hub.loops[0].memo.head, head, sizeof head - 1))
            prime(head);
        memcpy(changed, head, sizeof head);
        changed[i] = (char)(changed[i] ^ 2);
        c = dial(&w);
        mark();
        say(c, changed);
        settle(&w);
        if (!was_read())
            unit_fail(__FILE__, __LINE__, "byte %lu is not looked at", (unsigned long)i);
        finish(c);
        settle(&w);
    }
    close_world(&w);
}

TEST(an_id_that_is_bad_is_read_and_refused)
{
    static const char *const ids[] = {"", " ", "a b", "a\tb", "\x7f", "\xc3\xa4", NULL};
    char head[600], id[300];
    int i;
    open_world(&w);
    for (i = 0; i < 7; i++) {
        peer *c = dial(&w);
        prime(POLL_A "X-Client-ID: one\r\n\r\n");
        memset(id, 'x', LPI_CLIENT_ID_BYTES + 1);
        id[LPI_CLIENT_ID_BYTES + 1] = 0;
        snprintf(head, sizeof head, POLL_A "X-Client-ID: %s\r\n\r\n", ids[i] ? ids[i] : id);
        CHECK_INT(heard_as(c, head)->status, 400);
        CHECK(was_read());
    }
    prime(POLL_A "X-Client-ID: one\r\n\r\n");
    id[LPI_CLIENT_ID_BYTES] = 0;
    snprintf(head, sizeof head, POLL_A "X-Client-ID: %s\r\n\r\n", id);
    CHECK_INT(heard_as(dial(&w), head)->status, 200);
    CHECK(!was_read());
    CHECK_INT(heard_as(dial(&w), POLL_A "X-Client-ID: one \r\n\r\n")->status, 200);
    CHECK(was_read());
    close_world(&w);
}

TEST(what_is_not_kept)
{
    static const char *const heads[] = {
        "GET /api/poll/a,b?timeout=0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /api/poll/a?timeout=x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /api/poll/a?timeout=0 HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: a b\r\n\r\n",
        POLL_A "Authorization: Bearer secret\r\n\r\n"};
    char *large = (char *)calloc(1, 2000);
    size_t i;
    peer *c;
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < LPI_COUNT(heads); i++) {
        int n;
        for (n = 0; n < 4; n++) {
            heard_as(c, heads[i]);
            CHECK(was_read());
        }
    }
    for (i = LPI_MEMO_HEAD; i <= LPI_MEMO_HEAD + 1; i++) { /* its size exactly, and more */
        memset(large, 'x', i);
        memcpy(large, POLL_A "X: ", strlen(POLL_A "X: "));
        memcpy(large + i - 4, "\r\n\r\n", 5);
        prime(large);
        heard_as(c, large);
        CHECK_INT(was_read(), i > LPI_MEMO_HEAD);
    }
    prime(POLL_A "\r\n");
    mark();
    say(c, "HEAD /api/poll/a?timeout=0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    settle(&w);
    CHECK_INT(take_head(c)->status, 200);
    CHECK(was_read());
    CHECK_SILENT(c);
    for (i = 0; i < 4; i++) {
        mark();
        say(c, "HEAD /api/poll/a?timeout=0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        settle(&w);
        CHECK_INT(take_head(c)->status, 200);
        CHECK(was_read());
    }
    free(large);
    close_world(&w);
}

/* ---- other names and cursors ---- */

static const char *other_head(const char *name, const char *cursor, const char *id)
{
    static char head[1200];
    CHECK(snprintf(head, sizeof head, "GET /api/poll/%s?last_id=%s&timeout=0 HTTP/1.1\r\n"
                   "Host: localhost\r\nX-Client-ID: %s\r\nX-B: c\r\n\r\n", name, cursor, id) <
          (int)sizeof head);
    return head;
}

static answer *heard_other(peer *c, const char *name, const char *cursor)
{
    return heard_as(c, other_head(name, cursor, "one"));
}

/* So that such a head is kept: two whose lengths differ in the blanks alone. */
static void prime_other(void)
{
    peer *c = dial(&w);
    unkeep(&w);
    heard_other(c, "first", "0");
    CHECK(was_read());
    heard_as(c, other_head("the.second", "now", "two"));
    CHECK(was_read());
    CHECK(w.s->hub.loops[0].memo.length);
    finish(c);
    settle(&w);
}

TEST(of_another_name_and_cursor_no_more_is_read)
{
    static const char *const names[] = {"a", "b", "the-longer.one_~", "a!b", "a+b;c=d&e", "(*)'$"};
    char cursor[60], longest[LPI_CHANNEL_BYTES + 1];
    size_t i, n;
    peer *c;
    open_world(&w);
    c = dial(&w);
    prime_other();
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    for (i = 0; i <= LPI_COUNT(names); i++) {
        const char *name = i < LPI_COUNT(names) ? names[i] : longest;
        lp_published p[3];
        for (n = 0; n < 3; n++) p[n] = publish_n(&w, name, (int)n);
        for (n = 0; n < 3; n++) {
            answer *a = heard_other(c, name, p[n].id);
            CHECK(!was_read());
            CHECK_INT(a->status, 200);
            CHECK_STR(member(a->body, "count"), n == 0 ? "2" : n == 1 ? "1" : "0");
            CHECK_STR(member(a->body, "last_id"), p[2].id);
        }
        CHECK_STR(member(heard_other(c, name, "0")->body, "count"), "3");
        CHECK(!was_read());
        CHECK_STR(member(heard_other(c, name, "now")->body, "count"), "0");
        CHECK(!was_read());
        CHECK_STR(member(heard_other(c, name, "")->body, "count"), "3");
        CHECK(!was_read());
        snprintf(cursor, sizeof cursor, "%.17s18446744073709551615", p[0].id);
        CHECK_INT(strlen(cursor), LPI_CURSOR_BYTES);
        CHECK(member(heard_other(c, name, cursor)->body, "reset").bytes != NULL);
        CHECK(!was_read());
    }
    CHECK_INT(stats_of(&w).refused, 0);
    close_world(&w);
}

/* What is no name or no cursor in itself is for the reader. */
TEST(other_names_and_cursors_are_read)
{
    static const struct { const char *name, *cursor; int status; } cases[] = {
        {"", "0", 404}, {"a,b", "0", 200}, {"a,a", "0", 400}, {"%61", "0", 200}, {"%", "0", 400},
        {"a/b", "0", 404}, {"a:b", "0", 200}, {"@", "0", 200}, {"a?x", "0", 200},
        {"a#", "0", 400}, {"a b", "0", 400}, {"a\xc3\xa4", "0", 400}, {"{channels}", "0", 200},
        {"a", "x", 400}, {"a", "00", 400}, {"a", "now,now", 400}, {"a", "%30", 200},
        {"a", "+0", 400}, {"a", "0&x", 200}, {"a", "0&last_id=0", 400}, {"a", "0 ", 400},
        {"a", "0&timeout=0", 400}, {"a", "0#", 400}, {"a", "0123456789abcdef-", 400},
        {"a", "0123456789abcde-1", 400}, {"a", "0123456789abcdef+1", 400},
        {"a", "0123456789abcdeg-1", 400}, {"a", "0123456789abcdef-18446744073709551616", 400}};
    char longer[LPI_CHANNEL_BYTES + 2];
    peer *c;
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(cases); i++) {
        c = dial(&w);
        prime_other();
        if (heard_other(c, cases[i].name, cases[i].cursor)->status != cases[i].status ||
            !was_read())
            unit_fail(__FILE__, __LINE__, "%s with %s", cases[i].name, cases[i].cursor);
        finish(c);
        settle(&w);
    }
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    prime_other();
    CHECK_INT(heard_other(dial(&w), longer, "0")->status, 400);
    CHECK(was_read());
    close_world(&w);
}

/* One byte more, less, or another anywhere but in the three. */
TEST(any_byte_outside_of_them_is_looked_at)
{
    const char *head = other_head("the.second", "now", "two");
    size_t name = (size_t)(strstr(head, "the.s") - head), length = strlen(head), i;
    size_t cursor = (size_t)(strstr(head, "now") - head), id = (size_t)(strstr(head, "two") - head);
    open_world(&w);
    for (i = 0; i < 3 * length; i++) {
        char changed[1300];
        size_t at = i / 3;
        peer *c;
        if ((at >= name && at <= name + 10) || (at >= cursor && at <= cursor + 3) ||
            (at >= id && at <= id + 3))
            continue;
        prime_other();
        strcpy(changed, other_head("x", "0", "two"));
        at -= at > cursor ? 11 : at > name ? 9 : 0; /* by which these are shorter */
        if (at >= strlen(changed)) break;
        if (i % 3 == 0) changed[at] = (char)(changed[at] ^ 2);
        if (i % 3 == 1) memmove(changed + at, changed + at + 1, strlen(changed + at));
        if (i % 3 == 2) memmove(changed + at + 1, changed + at, strlen(changed + at) + 1);
        c = dial(&w);
        mark();
        say(c, changed);
        settle(&w);
        if (!was_read()) {
            char q[3000];
            unit_fail(__FILE__, __LINE__, "not looked at: %s",
                      unit_quote(q, sizeof q, changed, strlen(changed)));
        }
        finish(c);
        settle(&w);
    }
    close_world(&w);
}

/* Others in turns are not read, but each answered as it asks; what two in a row ask for is
   found at once when all ask for it. */
TEST(the_cursor_that_everybody_has_is_the_one_that_is_kept)
{
    lpi_memo *memo;
    lp_published p[12];
    peer *c[2];
    int i, j;
    open_world(&w);
    c[0] = dial(&w), c[1] = dial(&w);
    memo = &w.s->hub.loops[0].memo;
    for (i = 0; i < 12; i++) p[i] = publish_n(&w, "a", i);
    prime_other();
    for (j = 0; j < 4; j++) { /* in turns: never two alike */
        CHECK_STR(member(heard_other(c[0], "a", p[10].id)->body, "count"), "1");
        CHECK(!was_read());
        CHECK_STR(member(heard_other(c[1], "a", p[11].id)->body, "count"), "0");
        CHECK(!was_read());
        CHECK_INT(memo->claim.kind, LPI_FROM_NOW);
    }
    CHECK_STR(member(heard_other(c[1], "a", p[11].id)->body, "count"), "0");
    CHECK(was_read()); /* since it is longer than the one kept */
    CHECK_INT(memo->claim.seq, 12);
    CHECK_INT(memo->found.channel, LPI_NONE);
    for (j = 0; j < 4; j++) {
        CHECK_STR(member(heard_other(c[j % 2], "a", p[11].id)->body, "last_id"), p[11].id);
        CHECK(!was_read());
        CHECK_INT(memo->found.channel != LPI_NONE, 1);
    }
    for (j = 0; j < 4; j++) {
        CHECK_STR(member(heard_other(c[j % 2], "a", p[9].id)->body, "count"), "2");
        CHECK(!was_read());
        CHECK_INT(memo->claim.seq, j ? 10 : 12);
    }
    CHECK_STR(member(heard_other(c[0], "a", p[11].id)->body, "count"), "0");
    CHECK(!was_read());
    CHECK_STR(member(heard_other(c[0], "a", p[0].id)->body, "count"), "11"); /* shorter */
    CHECK(!was_read());
    CHECK_STR(member(heard_other(c[0], "a", p[9].id)->body, "count"), "2");
    CHECK(!was_read());
    CHECK_INT(memo->claim.seq, 10);
    CHECK(member(heard_other(c[0], "b", p[9].id)->body, "reset").bytes != NULL);
    CHECK(member(heard_other(c[0], "b", p[9].id)->body, "reset").bytes != NULL);
    CHECK(!was_read());
    CHECK_BYTES(memo->name, memo->name_length, "b", 1);
    CHECK_STR(member(heard_other(c[0], "a", p[9].id)->body, "count"), "2");
    CHECK(!was_read());
    close_world(&w);
}

/* A head that comes once in a while does not take the place of the one that most send. */
TEST(a_head_of_another_kind_is_kept_if_it_comes_twice)
{
    lpi_memo *memo;
    char kept[1200];
    peer *c;
    int i;
    open_world(&w);
    c = dial(&w);
    memo = &w.s->hub.loops[0].memo;
    prime_other();
    memcpy(kept, memo->head, memo->length);
    for (i = 0; i < 4; i++) {
        heard_as(c, "GET /api/poll/z?timeout=0&last_id=0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        CHECK(was_read());
        CHECK_BYTES(memo->head, memo->length, kept, strlen(other_head("the.second", "now", "two")));
        heard_other(c, "x", i % 2 ? "0" : "now");
        CHECK(!was_read());
    }
    heard_as(c, "GET /api/poll/z?timeout=0&last_id=0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    heard_as(c, "GET /api/poll/longer?timeout=0&last_id=now HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(was_read());
    heard_as(c, "GET /api/poll/x?timeout=0&last_id=0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(!was_read());
    close_world(&w);
}

/* Without a cursor in it, or with one that was escaped, a head is known as a whole only. */
TEST(a_head_without_a_cursor_has_one_name)
{
    static const char *const heads[][2] = {
        {"/api/poll/a?timeout=0", "/api/poll/b?timeout=0"},
        {"/api/poll/a?timeout=0&last_id=", "/api/poll/b?timeout=0&last_id=0"},
        {"/api/poll/a?since=1&timeout=0", "/api/poll/b?since=1&timeout=0"},
        {"/api/poll/a?timeout=0&last_id=%30", "/api/poll/b?timeout=0&last_id=%30"},
        {"/api/poll/%61?timeout=0&last_id=0", "/api/poll/%62?timeout=0&last_id=0"}};
    char head[300];
    peer *c;
    size_t i, j;
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < LPI_COUNT(heads); i++) {
        for (j = 0; j < 6; j++) {
            snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n",
                     heads[i][j % 2]);
            CHECK_INT(heard_as(c, head)->status, 200);
            CHECK(was_read());
        }
        prime(head);
        CHECK_INT(w.s->hub.loops[0].memo.blanks.cursor.length, i == 1);
        heard_as(c, head);
        CHECK(!was_read());
        unkeep(&w);
    }
    close_world(&w);
}

/* The channel of the poll before is where it was, unless one has been forgotten since:
   its record may be another's by now. */
TEST(a_channel_that_was_forgotten_is_not_found_again)
{
    char first[64];
    peer *c, *other;
    answer *a;
    w.cfg.history_age_ms = 1000;
    open_world(&w);
    prime(POLL_A "\r\n");
    c = dial(&w), other = dial(&w);
    a = heard_as(c, POLL_A "\r\n");
    CHECK(!was_read());
    snprintf(first, sizeof first, "%.*s", (int)member(a->body, "last_id").length,
             member(a->body, "last_id").bytes);
    CHECK_STR(member(heard_as(c, POLL_A "\r\n")->body, "last_id"), first);
    pass(&w, 3000);
    CHECK_INT(stats_of(&w).channels, 0);
    publish_n(&w, "b", 1); /* which takes the record */
    CHECK_INT(w.s->hub.loops[0].memo.found.channel,
              lpi_table_first(&w.s->hub.names, lpi_channel_hash(&w.s->hub, lp_s("b"))));
    a = heard_as(c, POLL_A "\r\n");
    CHECK(!was_read());
    CHECK_STR(member(a->body, "count"), "0");
    CHECK(!lpi_equal(member(a->body, "last_id"), lp_s(first)));
    CHECK_INT(stats_of(&w).channels, 2);
    pass(&w, 1500); /* both are idle, and forgotten when they are looked at */
    a = heard_as(other, POLL_A "\r\n");
    CHECK_STR(member(a->body, "status"), "timeout");
    close_world(&w);
}

TEST(several_in_one_packet_and_one_in_two)
{
    peer *c;
    size_t i, length = strlen(POLL_A "X-Client-ID: one\r\n\r\n");
    open_world(&w);
    prime(POLL_A "X-Client-ID: one\r\n\r\n");
    c = dial(&w);
    mark();
    say(c, POLL_A "X-Client-ID: two\r\n\r\n" POLL_A "X-Client-ID: one\r\n\r\n"
           POLL_A "X-Client-ID: three\r\n\r\n");
    settle(&w);
    CHECK(!was_read());
    for (i = 0; i < 3; i++) CHECK_INT(take(c)->status, 200);
    CHECK_SILENT(c);
    say(c, "GET /api/poll/a?timeout=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
           POLL_A "X-Client-ID: two\r\n\r\n" POLL_A "X-Client-ID: three\r\n\r\n");
    settle(&w); /* these wait behind it */
    CHECK_SILENT(c);
    pass(&w, 1002);
    for (i = 0; i < 3; i++) CHECK_INT(take(c)->status, 200);
    for (i = 1; i < length; i++) {
        say_bytes(c, POLL_A "X-Client-ID: one\r\n\r\n", i);
        settle(&w);
        CHECK_SILENT(c);
        say(c, POLL_A "X-Client-ID: one\r\n\r\n" + i);
        settle(&w);
        CHECK_INT(take(c)->status, 200);
        CHECK_SILENT(c);
    }
    CHECK_INT(stats_of(&w).refused, 0);
    close_world(&w);
}

/* What a poll's body says is data, never the next request. */
static void check_body_is_no_request(const char *framing, const char *body)
{
    char head[300];
    peer *c;
    int i;
    memset(&w, 0, sizeof w);
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < 5; i++) {
        sayf(c, POLL_A "%s\r\n\r\n%s", framing, body);
        settle(&w);
        CHECK_INT(take(c)->status, 200);
        if (unheard(c).length)
            unit_fail(__FILE__, __LINE__, "%s: poll %d was answered twice", framing, i + 1);
    }
    snprintf(head, sizeof head, POLL_A "%s\r\n\r\n", framing);
    say(c, head); /* the body comes later */
    settle(&w);
    if (*body) CHECK_SILENT(c);
    say(c, body);
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    CHECK_SILENT(c);
    close_world(&w);
}

#define HIDDEN "GET /api/poll/z?timeout=0 HTTP/1.1\r\nHost: x\r\n\r\n" /* 47 bytes */

TEST(a_body_of_a_known_length_is_no_request)
{
    check_body_is_no_request("Content-Length: 47", HIDDEN);
}

TEST(a_chunked_body_is_no_request)
{
    check_body_is_no_request("Transfer-Encoding: chunked", "2f\r\n" HIDDEN "\r\n0\r\n\r\n");
}

TEST(an_empty_body_is_none)
{
    check_body_is_no_request("Content-Length: 0", "");
}

/* ---- who asks ---- */

static char asked[600];

static int authorize(void *ctx, lp_request *r, lp_action action, lp_slice channel)
{
    lp_slice id = lp_header(r, "X-Client-ID"), key = lp_header(r, "Cookie");
    lp_slice after = lp_header(r, lp_header(r, "X-B").bytes ? "X-B" : "X-After");
    lp_slice query = lp_query(r, "timeout");
    (void)ctx, (void)action;
    snprintf(asked, sizeof asked, "%.*s|%.*s|%.*s|%.*s|%.*s|%.*s", (int)channel.length,
             channel.bytes, (int)id.length, id.bytes, (int)key.length, key.bytes,
             (int)after.length, after.bytes, (int)query.length, query.bytes,
             (int)lp_param(r, "channels").length, lp_param(r, "channels").bytes);
    return lpi_equal(id, lp_s("bad")) ? 403 : 0;
}

/* The hook sees each request as it is, wherever in it the names and values stand. */
TEST(the_hook_sees_the_request_that_came)
{
    static const char *const ids[] = {"one", "two", "bad", "tri", "longer", "x", "bad", "one"};
    size_t i;
    peer *c;
    w.cfg.authorize.ask = authorize;
    open_world(&w);
    prime(POLL_A "X-Client-ID: one\r\nX-After: a\r\nCookie: K\r\n\r\n");
    c = dial(&w);
    for (i = 0; i < LPI_COUNT(ids); i++) {
        char head[300], want[100];
        answer *a;
        snprintf(head, sizeof head, POLL_A "X-Client-ID: %s\r\nX-After: a\r\n"
                 "Cookie: K\r\n\r\n", ids[i]);
        snprintf(want, sizeof want, "a|%s|K|a|0|a", ids[i]);
        a = heard_as(c, head);
        CHECK_STR(lp_s(asked), want);
        CHECK_INT(a->status, strcmp(ids[i], "bad") ? 200 : 403);
    }
    heard_as(c, POLL_A "X-Client-ID: one\r\nX-After: a\r\nCookie: L\r\n\r\n");
    CHECK_STR(lp_s(asked), "a|one|L|a|0|a");
    close_world(&w);
}

/* And of another name or cursor only where the rest stands where it did. */
TEST(the_hook_sees_the_name_that_came)
{
    static const struct { const char *name, *cursor; int read; } cases[] = {
        {"a.2nd.name", "now", 0}, {"an.2nd.one", "now", 0}, {"a", "now", 1}, {"a.2nd.name", "0", 1},
        {"a.2nd.nam", "now", 1}, {"a.longer.name", "0", 1}};
    size_t i;
    peer *c;
    w.cfg.authorize.ask = authorize;
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < 4 * LPI_COUNT(cases); i++) {
        size_t at = i % LPI_COUNT(cases);
        char want[200];
        prime_other();
        snprintf(want, sizeof want, "%s|two||c|0|%s", cases[at].name, cases[at].name);
        CHECK_INT(heard_as(c, other_head(cases[at].name, cases[at].cursor, "two"))->status, 200);
        CHECK_INT(was_read(), cases[at].read);
        CHECK_STR(lp_s(asked), want);
    }
    CHECK_INT(heard_as(c, other_head("a.2nd.name", "now", "bad"))->status, 403);
    close_world(&w);
}

static void get_parked(peer *c, const char *id)
{
    sayf(c, "GET /api/poll/a?timeout=30 HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: %s\r\n\r\n",
         id);
    settle(&w);
}

TEST(each_client_has_its_own_limit)
{
    static const char *const ids[] = {"one", "two", "a-longer-one"};
    peer *c[3][3];
    int i, j;
    w.cfg.waiters_per_client = 2;
    open_world(&w);
    for (j = 0; j < 3; j++)
        for (i = 0; i < 3; i++) {
            c[i][j] = dial(&w);
            mark();
            get_parked(c[i][j], ids[i]);
            if (i || j) CHECK_INT(was_read(), !j && i == 1);
            if (j < 2) CHECK_SILENT(c[i][j]);
            else CHECK_INT(take(c[i][j])->status, 429);
        }
    CHECK_INT(stats_of(&w).waiters, 6);
    finish(c[1][0]); /* one of the second client's: it has room again, and only it */
    settle(&w);
    get_parked(c[0][2], ids[0]);
    CHECK_INT(take(c[0][2])->status, 429);
    get_parked(c[1][2], ids[1]);
    CHECK_SILENT(c[1][2]);
    close_world(&w);
}

/* Without an X-Client-ID the address is the client, and it is not in the head. */
TEST(each_address_has_its_own_limits)
{
    static const char *const addresses[] = {"192.0.2.1", "192.0.2.2", "2001:db8::1",
                                            "2001:db8::2"};
    int i, j;
    w.cfg.waiters_per_client = 2;
    w.cfg.waiters_per_address = 3;
    open_world(&w);
    for (j = 0; j < 3; j++)
        for (i = 0; i < 4; i++) {
            peer *c = dial_from(&w, addresses[i]);
            get(c, "/api/poll/a?timeout=30");
            settle(&w);
            if (j < (i == 3 ? 1 : 2)) CHECK_SILENT(c); /* 3 and 4 are of one /64 */
            else CHECK_INT(take(c)->status, 429);
        }
    CHECK_INT(stats_of(&w).waiters, 7);
    close_world(&w);
}

/* What a proxy says of its clients is read every time, and a head of a proxy's that
   comes from elsewhere means nothing. */
TEST(proxies_are_read)
{
    static const char head[] = "GET /api/poll/a?timeout=30 HTTP/1.1\r\nHost: localhost\r\n"
                               "X-Forwarded-For: 198.51.100.7\r\n\r\n";
    peer *c[8];
    int i;
    w.cfg.trusted_proxies = "10.0.0.0/8";
    w.cfg.waiters_per_client = 3;
    open_world(&w);
    for (i = 0; i < 8; i++) c[i] = dial_from(&w, i % 2 ? "10.0.0.1" : "192.0.2.1");
    for (i = 0; i < 8; i++) {
        mark();
        say(c[i], head);
        settle(&w);
        CHECK_INT(was_read(), i % 2 || i < 3);
        if (i < 6) CHECK_SILENT(c[i]);
        else CHECK_INT(take(c[i])->status, 429);
    }
    close_world(&w);
}

/* ---- how it is answered ---- */

TEST(the_reply_is_as_the_request_wants_it)
{
    static const char *const lines[] = {"Connection: close\r\n", "Origin: https://a.example\r\n",
                                        "Origin: https://b.example\r\n", "", NULL};
    int i, j;
    w.cfg.cors = "https://a.example,https://b.example";
    open_world(&w);
    for (i = 0; i < 5; i++) {
        char head[300];
        answer *first = NULL, *a;
        snprintf(head, sizeof head, "GET /api/poll/a?timeout=0 HTTP/1.%d\r\nHost: localhost\r\n"
                 "%s\r\n", lines[i] != NULL, lines[i] ? lines[i] : "Connection: keep-alive\r\n");
        unkeep(&w);
        for (j = 0; j < 4; j++) {
            peer *c = dial(&w);
            a = heard_as(c, head);
            CHECK_INT(was_read(), j < 2);
            if (!first) first = a;
            CHECK_BYTES(a->head.bytes, a->head.length, first->head.bytes, first->head.length);
            CHECK_INT(c->shut, i == 0);
        }
        CHECK_STR(heading(first, "Connection"), i == 0 ? "close" : i == 4 ? "keep-alive" : "");
        CHECK_STR(heading(first, "Access-Control-Allow-Origin"),
                  i == 1 ? "https://a.example" : i == 2 ? "https://b.example" : "");
    }
    close_world(&w);
}

TEST(in_the_drain_it_is_answered_at_once)
{
    peer *c[3], *late;
    int i;
    w.cfg.drain_ms = 1000;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    open_world(&w);
    late = dial(&w);
    for (i = 0; i < 3; i++) c[i] = dial(&w), park(&w, c[i], "/api/poll/a?timeout=30");
    mark();
    lp_stop(w.s);
    CHECK_INT(turn(&w, 0), LP_OK);
    get(late, "/api/poll/a?timeout=30");
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK(!was_read());
    {
        answer *a = take(late);
        CHECK_STR(member(a->body, "status"), "timeout");
        CHECK_STR(heading(a, "Connection"), "close");
    }
    close_world(&w);
}

/* ---- the same, at random: with what is kept, and without ----

   Two servers get the same requests: one as the network may give them, several in one
   packet or one in two; the other one by one, and what it keeps is taken away each time.
   They must answer the same to the byte. */

static world plain; /* that one */

enum { PEERS = 8, FEATURES = 9 };

typedef struct shape {
    uint32_t at[FEATURES];
} shape;

static char last_ids[2][60];

static const char *const features[FEATURES][8] = {
    {"GET ", "GET ", "GET ", "GET ", "GET ", "HEAD ", "OPTIONS ", "GET "},
    {"a", "b", "b", "a,b", "%61", "aa", "a+b", "a"},
    {"?timeout=0", "?timeout=0.01", "?timeout=1", "?x", "?timeout=00", "?timeout=0&limit=1",
     "?limit=2", "?timeout=y"},
    {"", "&last_id=0", "&last_id=now", "&last_id=%s", "&last_id=%s", "&since=0", "&since=1732412345.2",
     "&last_id=0123456789abcdef-1"},
    {" HTTP/1.1\r\n", " HTTP/1.1\r\n", " HTTP/1.1\r\n", " HTTP/1.1\r\n", " HTTP/1.1\r\n",
     " HTTP/1.0\r\n", " HTTP/1.0\r\nConnection: keep-alive\r\n", " HTTP/1.1\r\nX: y\r\n"},
    {"Host: localhost\r\n", "Host: localhost\r\n", "Host: 127.0.0.1\r\n", "Host: evil.example\r\n",
     "host: localhost\r\n", "Host: localhost\r\n", "Host: localhost\r\n", "Host: Localhost\r\n"},
    {"", "", "Origin: https://a.example\r\n", "Origin: https://b.example\r\n",
     "Origin: https://c.example\r\n", "Connection: close\r\n", "X-Forwarded-For: 198.51.100.7\r\n",
     "X-Forwarded-For: 198.51.100.8\r\n"},
    {"", "Authorization: K\r\n", "Authorization: L\r\n", "", "", "X-Client-ID: dup\r\n", "", ""},
    {"\r\n", "\r\n", "X-B: c\r\n\r\n", "\r\n", "\r\n", "Content-Length: 0\r\n\r\n",
     "Content-Length: 47\r\n\r\n" HIDDEN,
     "Transfer-Encoding: chunked\r\n\r\n2f\r\n" HIDDEN "\r\n0\r\n\r\n"}};

static const char *const client_ids[] = {
    "", "", "X-Client-ID: a\r\n", "X-Client-ID: b\r\n", "X-Client-ID: longer\r\n",
    "X-Client-ID: a b\r\n", "X-Client-ID:c\r\n", "X-Client-ID:  d  \r\n", "X-Client-ID:\r\n",
    "X-Client-ID: bad\r\n"};

static void compose(const shape *s, const char *id, char *to, size_t size)
{
    const char *parts[FEATURES];
    char cursor[100];
    int i;
    for (i = 0; i < FEATURES; i++) parts[i] = features[i][s->at[i]];
    if (strstr(parts[3], "%s")) {
        snprintf(cursor, sizeof cursor, "&last_id=%s", last_ids[s->at[3] - 3]);
        parts[3] = cursor;
    }
    CHECK(snprintf(to, size, "%s/api/poll/%s%s%s%s%s%s%s%s%s", parts[0], parts[1], parts[2],
                   parts[3], parts[4], parts[5], parts[6], id, parts[7], parts[8]) < (int)size);
}

/* Without bodies if `bodiless`. Mostly as the one before. */
static void next_shape(shape *s, int bodiless)
{
    uint32_t f = unit_below(FEATURES);
    if (!unit_one_in(4)) return;
    s->at[f] = unit_one_in(2) ? 0 : unit_below(f == FEATURES - 1 && bodiless ? 6 : 8);
}

typedef struct judged {
    uint64_t sum;
} judged;

static judged judgements[2];

static int judge(void *ctx, lp_request *r, lp_action action, lp_slice channel)
{
    static const char *const names[] = {"X-Client-ID", "Authorization", "Host", "Origin", "X-B"};
    uint64_t sum = 0;
    lp_slice all[8];
    int i;
    size_t n;
    for (i = 0; i < 5; i++) all[i] = lp_header(r, names[i]);
    all[5] = channel;
    all[6] = lp_client(r);
    all[7] = lp_query(r, "timeout");
    for (i = 0; i < 8; i++) {
        for (n = 0; n < all[i].length; n++) sum = sum * 31 + (unsigned char)all[i].bytes[n];
        sum = sum * 37 + (all[i].bytes != NULL) + (uint64_t)action;
    }
    ((judged *)ctx)->sum += sum * (sum | 1); /* in any order */
    return lpi_equal(all[0], lp_s("b")) ? 403 : lpi_equal(all[1], lp_s("L")) ? 401 : 0;
}

static void settle_plain(void)
{
    unkeep(&plain);
    settle(&plain);
    unkeep(&plain);
}

static void check_same(peer *a, peer *b, const char *last)
{
    lp_slice x = unheard(a), y = unheard(b);
    if (x.length != y.length || memcmp(x.bytes, y.bytes, x.length) || a->closed != b->closed ||
        a->shut != b->shut) {
        char q[2000];
        printf("after %s\nclosed %d or %d, shut %d or %d\n",
               unit_quote(q, sizeof q, last, strlen(last)), a->closed, b->closed, a->shut, b->shut);
    }
    CHECK_BYTES(x.bytes, x.length, y.bytes, y.length);
    CHECK_INT(a->closed, b->closed);
    CHECK_INT(a->shut, b->shut);
    a->out_at = a->out_length;
    b->out_at = b->out_length;
}

static void check_both(peer **a, peer **b, const char *last)
{
    lp_stats x, y;
    int i;
    if (turn(&w, 0) != turn(&plain, 0)) CHECK(!"both have stopped"); /* and all is counted */
    x = stats_of(&w), y = stats_of(&plain);
    for (i = 0; i < PEERS; i++) check_same(a[i], b[i], last);
    CHECK_BYTES((const char *)&x, sizeof x, (const char *)&y, sizeof y);
    CHECK_INT(judgements[0].sum, judgements[1].sum);
    CHECK_INT(w.k.now_us, plain.k.now_us);
}

/* One to four requests of one client. */
static void ask_both(peer *a, peer *b, shape *s, int bodiless, char *all, size_t size)
{
    int draining = w.s->hub.loops[0].drain_ms != 0; /* which steps without news may end */
    int count = unit_one_in(3) && !draining ? 1 + (int)unit_below(4) : 1;
    size_t length, cut;
    all[0] = 0;
    while (count--) {
        char one[1000];
        const char *id = client_ids[unit_below(LPI_COUNT(client_ids))];
        next_shape(s, bodiless);
        if (count) s->at[2] = 0; /* only the last may wait: see run_both */
        compose(s, id, one, sizeof one);
        if (strlen(all) + strlen(one) + 1 > size) break;
        strcat(all, one);
        say(b, one);
        settle_plain();
    }
    length = strlen(all);
    cut = unit_one_in(4) && !draining ? unit_below((uint32_t)length) : 0;
    if (cut) {
        say_bytes(a, all, cut);
        settle(&w);
    }
    say(a, all + cut);
    settle(&w);
}

static peer *dial_again(peer *c, world *to, int i)
{
    static const char *const from[] = {"127.0.0.1", "192.0.2.1", "10.0.0.1", "2001:db8::1"};
    if (c && !c->closed && !c->shut) return c;
    if (c) finish(c);
    c = dial_from(to, from[i % 4]);
    settle(to);
    return c;
}

static void open_both(void)
{
    world *worlds[2];
    lp_config cfg = {0};
    int i;
    worlds[0] = &w, worlds[1] = &plain;
    cfg.history_count = 3;
    cfg.waiters_per_client = 2;
    cfg.waiters_per_address = 5;
    cfg.drain_ms = 100;
    cfg.idle_ms = 3000;
    if (unit_one_in(2)) cfg.cors = "https://a.example,https://b.example";
    if (unit_one_in(2)) cfg.trusted_proxies = "10.0.0.0/8";
    if (unit_one_in(4)) cfg.head_bytes_max = 64 + unit_below(160);
    if (unit_one_in(2)) cfg.authorize.ask = judge;
    for (i = 0; i < 2; i++) {
        memset(worlds[i], 0, sizeof *worlds[i]);
        memset(&judgements[i], 0, sizeof judgements[i]);
        worlds[i]->cfg = cfg;
        worlds[i]->cfg.authorize.ctx = &judgements[i];
        open_world(worlds[i]);
    }
}

static void publish_both(void)
{
    const char *name = unit_one_in(2) ? "a" : "b";
    lp_published p = publish_n(&w, name, 7), q = publish_n(&plain, name, 7);
    CHECK_STR(lp_s(p.id), q.id);
    settle(&w);
    settle_plain();
    if (*name == 'a') strcpy(last_ids[unit_below(2)], p.id);
}

/* One run: 200 times something happens, and then both stop. Nobody asks again while
   waiting: who then comes first to a limit would depend on how the bytes came. */
static uint32_t run_both(int bodiless)
{
    peer *a[PEERS] = {0}, *b[PEERS] = {0};
    shape s;
    char all[4096] = "";
    uint32_t unread = 0, before;
    int step, i, n, waits[PEERS] = {0};
    memset(&s, 0, sizeof s);
    strcpy(last_ids[0], "0"), strcpy(last_ids[1], "now");
    open_both();
    for (step = 0; step < 220; step++) {
        if (step == 200) {
            lp_stop(w.s), lp_stop(plain.s);
            turn(&w, 0), turn(&plain, 0);
        }
        for (i = 0; i < PEERS && step < 200; i++) {
            a[i] = dial_again(a[i], &w, i);
            b[i] = dial_again(b[i], &plain, i);
        }
        unkeep(&plain);
        mark();
        i = (int)unit_below(PEERS);
        before = w.s->hub.stats.waiters;
        if (unit_one_in(8)) publish_both();
        else if (unit_one_in(8)) {
            uint64_t ms = unit_below(40);
            pass(&w, ms);
            pass(&plain, ms);
        } else if (!a[i]->closed && !a[i]->shut && !waits[i]) {
            ask_both(a[i], b[i], &s, bodiless, all, sizeof all);
            unread += !was_read();
        }
        for (n = 0; n < PEERS; n++)
            if (unheard(a[n]).length) waits[n] = 0;
        if (w.s->hub.stats.waiters > before) waits[i] = 1;
        if (w.s->hub.stopped) break;
        check_both(a, b, all);
    }
    CHECK_INT(plain.s->hub.stopped, w.s->hub.stopped);
    close_world(&w);
    close_world(&plain);
    return unread;
}

TEST(kept_or_not_the_answers_are_the_same)
{
    int i, rounds = unit_rounds(300);
    uint32_t unread = 0;
    for (i = 0; i < rounds; i++) unread += run_both(1);
    CHECK(unread > (uint32_t)rounds * 2); /* it is no test of nothing */
}

TEST(kept_or_not_the_answers_are_the_same_with_bodies)
{
    int i, rounds = unit_rounds(100);
    for (i = 0; i < rounds; i++) run_both(0);
}
