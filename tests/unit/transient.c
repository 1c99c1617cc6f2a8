/* Transient messages: delivered, and not kept; who missed one is told. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

static void open_transient(void) {
    w.cfg.waiters_per_client = LP_UNLIMITED;
    w.cfg.timeout_ms_max = 1000000;
    open_world(&w);
}

static lp_published publish_now(const char *channel, int n) {
    lp_published out;
    char json[40];
    sprintf(json, "{\"n\":%d}", n);
    CHECK_INT(lp_publish_transient(w.s, lp_s(channel), lp_s(json), &out), LP_OK);
    return out;
}

/* These messages follow behind that cursor, with that reason of a reset, and the cursor is then
   the channel's newest. */
static void check_behind(const char *channel, const char *cursor, const char *ns, const char *reason) {
    answer *a = look(&w, channel, cursor);
    lp_channel_info info;
    CHECK_INT(a->status, 200);
    CHECK_STR(lp_s(ns_of(a)), ns);
    CHECK_STR(member(a->body, "status"), *ns || *reason ? "messages" : "timeout");
    CHECK_INT(has(a->body, "reset"), *reason != 0);
    if (*reason) CHECK(has(a->body, reason));
    CHECK_INT(lp_channel_read(w.s, lp_s(channel), &info), LP_OK);
    CHECK_STR(member(a->body, "last_id"), info.last_id);
    check_world(&w);
}

#define EVICTED "\"reset\":{\"a\":\"evicted\"}"

TEST(transient_is_delivered_to_who_waits) {
    peer *c, *s;
    lp_published p;
    open_transient();
    c = park_new(&w, "/api/poll/a?timeout=100");
    s = dial(&w);
    get(s, "/api/stream/a");
    settle(&w);
    p = publish_now("a", 1);
    CHECK_INT(p.waiters, 2);
    CHECK_STR(lp_s(p.id + 16), "-1");
    settle(&w);
    CHECK_STR(lp_s(ns_of(take(c))), "1");
    CHECK(has(unheard(s), "\"n\":1"));
    close_world(&w);
}

/* To the millisecond, whatever the sweeps do. */
TEST(transient_is_there_for_a_moment) {
    lp_published before, p;
    open_transient();
    before = publish_n(&w, "a", 1);
    p = publish_now("a", 2);
    publish_n(&w, "a", 3);
    tick(&w, 1999);
    check_behind("a", before.id, "2,3", "");
    tick(&w, 1);
    check_behind("a", before.id, "3", EVICTED);
    check_behind("a", p.id, "3", "");
    check_behind("a", "0", "1,3", "");
    check_behind("a", "now", "", "");
    CHECK_INT(publish_n(&w, "a", 4).count, 1);
    check_behind("a", before.id, "3,4", EVICTED);
    close_world(&w);
}

TEST(transient_ms_says_for_how_long) {
    lp_published before;
    w.cfg.transient_ms = 50;
    open_transient();
    before = publish_n(&w, "a", 1);
    publish_now("a", 2);
    tick(&w, 49);
    check_behind("a", before.id, "2", "");
    tick(&w, 1);
    check_behind("a", before.id, "", EVICTED);
    close_world(&w);
}

/* Some in a row, at the end and in between. */
TEST(transient_ones_among_others) {
    lp_published first, p;
    open_transient();
    first = publish_n(&w, "a", 1);
    publish_now("a", 2);
    publish_now("a", 3);
    publish_n(&w, "a", 4);
    publish_now("a", 5);
    publish_n(&w, "a", 6);
    p = publish_n(&w, "a", 7);
    publish_now("a", 8);
    publish_now("a", 9);
    tick(&w, 2000);
    check_behind("a", first.id, "4,6,7", EVICTED);
    check_behind("a", "0", "1,4,6,7", "");
    check_behind("a", p.id, "", EVICTED);
    close_world(&w);
}

/* A limit cuts before the next message that has a text, and not before marks. */
TEST(transient_ones_and_a_limit) {
    lp_published first;
    answer *a;
    open_transient();
    first = publish_n(&w, "a", 1);
    publish_n(&w, "a", 2);
    publish_now("a", 3);
    publish_n(&w, "a", 4);
    publish_now("a", 5);
    tick(&w, 2000);
    a = askf(&w, dial(&w), "/api/poll/a?last_id=%s&limit=1", first.id);
    CHECK_STR(lp_s(ns_of(a)), "2");
    CHECK(has(a->body, "\"more\":true") && has(a->body, EVICTED));
    a = askf(&w, dial(&w), "/api/poll/a?last_id=%s&limit=1", text_of(a->body, "last_id"));
    CHECK_STR(lp_s(ns_of(a)), "4");
    CHECK(!has(a->body, "\"more\":true") && has(a->body, EVICTED));
    close_world(&w);
}

/* Where nothing is held but such, nothing is left of them. */
TEST(transient_ones_alone_leave_nothing) {
    lp_channel_info info;
    int n;
    open_transient();
    for (n = 1; n <= 50; n++) publish_now("a", n);
    pass(&w, 3100);
    CHECK_INT(stats_of(&w).messages, 0);
    CHECK_INT(stats_of(&w).history_bytes, 0);
    CHECK_INT(lp_channel_read(w.s, lp_s("a"), &info), LP_OK);
    CHECK_INT(info.held, 0);
    CHECK_STR(lp_s(info.last_id + 16), "-50");
    check_behind("a", "0", "", "");
    close_world(&w);
}

/* Marks go with what stands before them, and count as messages until then. */
TEST(transient_marks_in_the_history) {
    lp_published first;
    lp_channel_info info;
    w.cfg.history_count = 4;
    open_transient();
    first = publish_n(&w, "a", 1);
    publish_now("a", 2);
    publish_now("a", 3);
    publish_n(&w, "a", 4);
    pass(&w, 3100);
    CHECK_INT(stats_of(&w).messages, 4);
    CHECK_INT(lp_channel_read(w.s, lp_s("a"), &info), LP_OK);
    CHECK_INT(info.held, 2);
    publish_n(&w, "a", 5); /* drops 1, and so 2 and 3 */
    CHECK_INT(stats_of(&w).messages, 2);
    check_behind("a", first.id, "4,5", EVICTED);
    check_behind("a", "0", "4,5", "");
    close_world(&w);
}

/* An array that makes a full history of marks go has room for all of its messages, though the ring
   is mostly empty before they come. */
TEST(transient_marks_make_way_for_an_array) {
    lp_published first;
    char json[400] = "[{\"n\":65}", *to = json + strlen(json), ns[200] = "65";
    int n;
    w.cfg.history_count = 64;
    open_transient();
    first = publish_n(&w, "a", 1);
    for (n = 2; n <= 64; n++) publish_now("a", n);
    tick(&w, 2000);
    check_behind("a", "0", "1", "");
    for (n = 66; n <= 95; n++) {
        to += sprintf(to, ",{\"n\":%d}", n);
        sprintf(ns + strlen(ns), ",%d", n);
    }
    strcpy(to, "]");
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s(json), NULL), LP_OK);
    check_behind("a", first.id, ns, EVICTED);
    check_behind("a", "0", ns, "");
    pass(&w, 300000);
    CHECK_INT(stats_of(&w).messages, 0);
    close_world(&w);
}

/* A sweep drops the text, though nobody asks; a mark is small. */
TEST(transient_texts_are_swept) {
    lp_published first;
    char json[5000];
    open_transient();
    first = publish_n(&w, "a", 1);
    memset(json, 'x', sizeof json);
    memcpy(json, "{\"n\":\"", 6);
    strcpy(json + 4000, "\"}");
    CHECK_INT(lp_publish_transient(w.s, lp_s("a"), lp_s(json), NULL), LP_OK);
    publish_n(&w, "a", 3);
    CHECK(stats_of(&w).history_bytes > 4000);
    pass(&w, 3100);
    CHECK(stats_of(&w).history_bytes < 800);
    CHECK_INT(stats_of(&w).messages, 3);
    check_behind("a", first.id, "3", EVICTED);
    close_world(&w);
}

/* A loop that was not there in time tells that what it had to deliver is gone. */
TEST(transient_gone_before_it_is_delivered) {
    lp_published first;
    answer *a;
    peer *c;
    open_transient();
    first = publish_n(&w, "a", 1);
    c = dial(&w);
    park(&w, c, "/api/poll/a?last_id=now&timeout=100");
    publish_now("a", 2);
    tick(&w, 2000);
    CHECK_INT(lp_publish(w.s, lp_s("a"), lp_s("{\"n\":3}"), NULL), LP_OK); /* finds the channel */
    settle(&w);
    a = take(c);
    CHECK_STR(lp_s(ns_of(a)), "3");
    CHECK(has(a->body, EVICTED));
    (void)first;
    close_world(&w);
}

/* ---- the basic dialect ---- */

static answer *since(uint64_t us, const char *more) {
    return askf(&w, dial(&w), "/api/poll/a?since=%lu.%06lu%s", (unsigned long)(us / 1000000),
                (unsigned long)(us % 1000000), more);
}

TEST(transient_ones_and_since) {
    lp_published first, last;
    answer *a;
    peer *c;
    char target[90];
    open_transient();
    first = publish_n(&w, "a", 1);
    publish_now("a", 2);
    last = publish_n(&w, "a", 3);
    tick(&w, 2000);
    a = since(first.timestamp_us, "");
    CHECK_STR(lp_s(ns_of(a)), "3");
    CHECK(has(a->body, EVICTED));
    CHECK_STR(lp_s(ns_of(since(0, ""))), "1");
    /* What is behind the message is left for the poll after it. */
    publish_now("a", 10);
    tick(&w, 2000);
    a = since(first.timestamp_us, "");
    CHECK_STR(member(a->body, "last_id"), last.id);
    publish_now("a", 4);
    tick(&w, 2000);
    /* Nothing but a mark: the reset rides on the reply that ends the wait. */
    c = dial(&w);
    sprintf(target, "/api/poll/a?since=%lu.%06lu&timeout=50", (unsigned long)(last.timestamp_us / 1000000),
            (unsigned long)(last.timestamp_us % 1000000));
    park(&w, c, target);
    publish_n(&w, "a", 5);
    settle(&w);
    a = take(c);
    CHECK_STR(lp_s(ns_of(a)), "5");
    CHECK(has(a->body, EVICTED));
    close_world(&w);
}

/* ---- streams and several channels ---- */

TEST(transient_ones_in_a_stream) {
    lp_published first;
    peer *c;
    char line[120], epoch[17];
    const char *at;
    open_transient();
    first = publish_n(&w, "a", 1);
    memcpy(epoch, first.id, 16);
    epoch[16] = 0;
    publish_n(&w, "a", 2);
    publish_now("a", 3);
    publish_n(&w, "a", 4);
    tick(&w, 2000);
    c = dial(&w);
    sayf(c, "GET /api/stream/a?last_id=%s HTTP/1.1\r\nHost: localhost\r\n\r\n", first.id);
    settle(&w);
    sprintf(line, "event: reset\nid: %s-1\ndata: {\"a\":\"evicted\"}\n\nid: %s-2\ndata: ", epoch, epoch);
    at = (const char *)memmem(unheard(c).bytes, unheard(c).length, line, strlen(line));
    CHECK(at);
    sprintf(line, "\n\nid: %s-4\ndata: ", epoch);
    CHECK(has(unheard(c), line));
    close_world(&w);
}

TEST(transient_ones_of_several_channels) {
    lp_published a1, b1;
    char cursor[90];
    answer *a;
    open_transient();
    a1 = publish_n(&w, "a", 1);
    b1 = publish_n(&w, "b", 10);
    publish_now("a", 2);
    publish_n(&w, "b", 20);
    publish_n(&w, "a", 3);
    publish_n(&w, "b", 30);
    tick(&w, 2000);
    sprintf(cursor, "%s,%s", a1.id, b1.id);
    a = look(&w, "a,b", cursor);
    CHECK_STR(lp_s(ns_of(a)), "20,3,30");
    CHECK(has(a->body, EVICTED));
    sprintf(cursor, "0,%s", b1.id);
    a = look(&w, "a,b", cursor);
    CHECK_STR(lp_s(ns_of(a)), "1,20,3,30");
    CHECK(!has(a->body, "reset"));
    close_world(&w);
}

/* ---- publishing ---- */

TEST(transient_over_http) {
    lp_published first;
    peer *c;
    open_transient();
    first = publish_n(&w, "a", 1);
    c = dial(&w);
    post(c, "/api/publish/a?transient=1", "[{\"n\":2},{\"n\":3}]");
    post(c, "/api/publish/a?x=1", "{\"n\":4}");
    post(c, "/api/publish/a?transient=yes", "{\"n\":5}");
    post(c, "/api/publish/a?transient=%1", "{\"n\":6}");
    settle(&w);
    CHECK(has(take(c)->body, "\"message_ids\""));
    CHECK_INT(take(c)->status, 200);
    CHECK_STR(take(c)->body, "{\"error\":\"Bad transient\"}");
    CHECK_STR(take(c)->body, "{\"error\":\"Bad transient\"}");
    check_behind("a", first.id, "2,3,4", "");
    tick(&w, 2000);
    check_behind("a", first.id, "4", EVICTED);
    close_world(&w);
}

TEST(transient_errors) {
    lp_published out;
    open_transient();
    CHECK_INT(lp_publish_transient(w.s, lp_s(""), lp_s("{}"), &out), LP_ERR_ARG);
    CHECK_INT(lp_publish_transient(NULL, lp_s("a"), lp_s("{}"), &out), LP_ERR_ARG);
    CHECK_INT(lp_publish_transient(w.s, lp_s("a"), lp_s("1"), &out), LP_ERR_JSON);
    CHECK_INT(stats_of(&w).channels, 0);
    close_world(&w);
}

static void hear_ns(void *ctx, const lp_message *m) {
    strncat((char *)ctx, member(m->json, "n").bytes, 1);
}

TEST(transient_ones_and_what_reads_them) {
    char ns[20] = "";
    lp_receipts page;
    lp_published p;
    w.cfg.track_receipts = 10;
    open_transient();
    publish_n(&w, "a", 1);
    p = publish_now("a", 2);
    publish_n(&w, "a", 3);
    get_as(dial(&w), "/api/poll/a", "ann");
    settle(&w);
    memset(&page, 0, sizeof page);
    CHECK_INT(lp_receipts_read(w.s, lp_s("a"), lp_s(p.id), &page), LP_OK);
    CHECK_INT(page.count, 1);
    tick(&w, 2000);
    CHECK_INT(lp_messages_read(w.s, lp_s("a"), 9, hear_ns, ns), LP_OK);
    CHECK_STR(lp_s(ns), "13");
    page.position = 0;
    CHECK_INT(lp_receipts_read(w.s, lp_s("a"), lp_s(p.id), &page), LP_ERR_NOT_FOUND);
    CHECK_INT(stats_of(&w).messages, 3);
    check_world(&w);
    CHECK_INT(lp_channel_delete(w.s, lp_s("a")), LP_OK);
    check_world(&w);
    close_world(&w);
}

/* Without memory for the mark the text stays until there is some. */
TEST(transient_without_memory) {
    lp_published first;
    open_transient();
    first = publish_n(&w, "a", 1);
    w.m.fail_at = w.m.calls + 2;
    CHECK_INT(lp_publish_transient(w.s, lp_s("a"), lp_s("{}"), NULL), LP_ERR_NOMEM);
    w.m.fail_at = 0;
    CHECK_INT(stats_of(&w).published, 1);
    publish_now("a", 2);
    publish_n(&w, "a", 3);
    w.m.fail_at = w.m.calls + 1;
    w.m.fail_forever = 1;
    CHECK(pass(&w, 4000) < 20);
    CHECK(w.m.failed);
    w.m.fail_at = 0;
    w.m.fail_forever = 0;
    CHECK_INT(w.s->hub.extras.used, 1);
    pass(&w, 1100);
    check_behind("a", first.id, "3", EVICTED);
    close_world(&w);
}
