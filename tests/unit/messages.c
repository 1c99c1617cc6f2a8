/* lp_messages_read: the newest messages of a channel, told without a lock. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

/* What was told. */
static struct {
    char ns[8192]; /* the N of each, with ',' between */
    int count;
    uint64_t last_us;
    void (*amid)(void); /* called with the first */
} messages_heard;

static void hear_message(void *ctx, const lp_message *m) {
    lp_slice n = member(m->json, "n");
    char *to = messages_heard.ns + strlen(messages_heard.ns);
    CHECK(ctx == &messages_heard);
    CHECK(!w.s->hub.held);
    CHECK(lpi_equal(member(m->json, "id"), m->id));
    CHECK(lpi_equal(member(m->json, "channel"), m->channel));
    CHECK_INT(us_of(member(m->json, "timestamp")), m->timestamp_us);
    CHECK(m->timestamp_us > messages_heard.last_us);
    messages_heard.last_us = m->timestamp_us;
    if (*messages_heard.ns) *to++ = ',';
    memcpy(to, n.bytes, n.length);
    to[n.length] = 0;
    if (!messages_heard.count++ && messages_heard.amid) messages_heard.amid();
}

static void check_told_here(const char *channel, uint32_t max, const char *ns) {
    void (*amid)(void) = messages_heard.amid;
    memset(&messages_heard, 0, sizeof messages_heard);
    messages_heard.amid = amid;
    CHECK_INT(lp_messages_read(w.s, lp_s(channel), max, hear_message, &messages_heard), LP_OK);
    CHECK_STR(lp_s(messages_heard.ns), ns);
    check_world(&w); /* no reference is left */
}

TEST(messages_newest_oldest_first) {
    int n;
    open_world(&w);
    for (n = 1; n <= 5; n++) publish_n(&w, "a", n);
    publish_n(&w, "b", 9);
    check_told_here("a", 3, "3,4,5");
    check_told_here("a", 1, "5");
    check_told_here("a", 5, "1,2,3,4,5");
    check_told_here("a", 6, "1,2,3,4,5");
    check_told_here("a", LP_UNLIMITED, "1,2,3,4,5");
    check_told_here("b", 2, "9");
    check_told_here("a", 0, "");
    close_world(&w);
}

TEST(messages_of_what_is_not_there) {
    open_world(&w);
    CHECK_INT(lp_messages_read(w.s, lp_s("a"), 1, hear_message, &messages_heard), LP_ERR_NOT_FOUND);
    CHECK_INT(lp_messages_read(w.s, lp_s(""), 1, hear_message, &messages_heard), LP_ERR_ARG);
    CHECK_INT(lp_messages_read(w.s, lp_s("a\n"), 1, hear_message, &messages_heard), LP_ERR_ARG);
    CHECK_INT(lp_messages_read(NULL, lp_s("a"), 1, hear_message, &messages_heard), LP_ERR_ARG);
    look(&w, "a", "0");
    check_told_here("a", 1, "");
    CHECK_INT(lp_messages_read(w.s, lp_s("a"), 1, NULL, NULL), LP_ERR_ARG);
    close_world(&w);
}

TEST(messages_past_their_age_are_not_told) {
    w.cfg.history_age_ms = 1000;
    open_world(&w);
    publish_n(&w, "a", 1);
    tick(&w, 600);
    publish_n(&w, "a", 2);
    tick(&w, 399);
    check_told_here("a", 9, "1,2");
    tick(&w, 1);
    check_told_here("a", 9, "2");
    close_world(&w);
}

/* They are taken 64 at a time; with the ring's end amid them, too. */
TEST(messages_by_the_hundred) {
    static const uint32_t counts[] = {63, 64, 65, 127, 128, 129, 300};
    char want[8192];
    size_t i;
    int n;
    w.cfg.history_count = 300;
    open_world(&w);
    for (n = 1; n <= 450; n++) publish_n(&w, "a", n);
    for (i = 0; i < LPI_COUNT(counts); i++) {
        char *to = want;
        for (n = 451 - (int)counts[i]; n <= 450; n++)
            to += sprintf(to, "%s%d", to > want ? "," : "", n);
        check_told_here("a", counts[i], want);
    }
    close_world(&w);
}

/* While they are told, all of them are dropped and others come: `fn` may do that itself. */
static void drop_amid(void) {
    CHECK_INT(lp_channel_delete(w.s, lp_s("a")), LP_OK);
    publish_n(&w, "a", 77);
    messages_heard.amid = NULL;
    CHECK_INT(stats_of(&w).messages, 1);
}

TEST(messages_stay_while_they_are_told) {
    int n;
    open_world(&w);
    for (n = 1; n <= 5; n++) publish_n(&w, "a", n);
    messages_heard.amid = drop_amid;
    check_told_here("a", 4, "2,3,4,5");
    check_told_here("a", 4, "77");
    close_world(&w);
}

/* Between two holds of the mutex others publish, and what is oldest goes: no gap comes of it. */
static void publish_twenty(void) {
    int n;
    for (n = 0; n < 20; n++) publish_n(&w, "a", 1000 + n);
}

TEST(messages_have_no_gap_though_others_publish) {
    lpi_reading r;
    lpi_message *room[100];
    uint32_t i;
    int n;
    w.cfg.history_count = 100;
    open_world(&w);
    for (n = 1; n <= 100; n++) publish_n(&w, "a", n);
    memset(&r, 0, sizeof r);
    r.messages = room;
    r.first = 100;
    CHECK(lpi_hub_read(&w.s->hub, lp_s("a"), now_ms(&w), &r));
    CHECK_INT(r.first, 36);
    publish_twenty(); /* 1 to 20 go */
    CHECK(!lpi_hub_read(&w.s->hub, lp_s("a"), now_ms(&w), &r));
    CHECK_INT(r.first, 20);
    for (i = r.first; i < 100; i++) {
        CHECK_INT(room[i]->seq, i + 1);
        lpi_message_unref(&w.s->memory, room[i]);
    }
    memset(&r, 0, sizeof r);
    r.messages = room;
    r.first = 100;
    CHECK(lpi_hub_read(&w.s->hub, lp_s("a"), now_ms(&w), &r));
    CHECK_INT(lp_channel_delete(w.s, lp_s("a")), LP_OK);
    publish_twenty(); /* of another epoch */
    CHECK(!lpi_hub_read(&w.s->hub, lp_s("a"), now_ms(&w), &r));
    CHECK_INT(r.first, 36);
    for (i = r.first; i < 100; i++) lpi_message_unref(&w.s->memory, room[i]);
    close_world(&w);
}

TEST(messages_without_memory) {
    open_world(&w);
    publish_n(&w, "a", 1);
    memset(&messages_heard, 0, sizeof messages_heard);
    w.m.fail_at = w.m.calls + 1;
    CHECK_INT(lp_messages_read(w.s, lp_s("a"), 1, hear_message, &messages_heard), LP_ERR_NOMEM);
    CHECK_INT(messages_heard.count, 0);
    w.m.fail_at = 0;
    check_told_here("a", 1, "1");
    close_world(&w);
}
