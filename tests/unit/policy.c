/* Policies: a hook says of each channel that is made what it may take, or that it may not be made. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

static world w;

/* What the hook answers, and what it was asked. */
static struct {
    lp_policy limits; /* for channels that begin with "own" */
    lp_policy given;  /* what it was given                  */
    char asked[300];  /* the names, with ' ' behind each    */
    void (*amid)(void); /* is called once, if it is set     */
    uint32_t takes_ms;
} policy_hook;

static int tell_policy(void *ctx, lp_slice channel, lp_policy *policy) {
    void (*amid)(void) = policy_hook.amid;
    char *to = policy_hook.asked + strlen(policy_hook.asked);
    CHECK(ctx == &policy_hook);
    CHECK(!w.s->hub.held);
    policy_hook.given = *policy;
    memcpy(to, channel.bytes, channel.length);
    strcpy(to + channel.length, " ");
    policy_hook.amid = NULL;
    if (amid) amid();
    w.k.now_us += policy_hook.takes_ms * UINT64_C(1000);
    if (lpi_starts(channel, lp_s("own"))) *policy = policy_hook.limits;
    return !lpi_starts(channel, lp_s("no"));
}

static void open_policies(uint32_t count, uint32_t age_ms, uint32_t waiters) {
    memset(&policy_hook, 0, sizeof policy_hook);
    policy_hook.limits.history_count = count;
    policy_hook.limits.history_age_ms = age_ms;
    policy_hook.limits.waiters_max = waiters;
    w.cfg.policy.ask = tell_policy;
    w.cfg.policy.ctx = &policy_hook;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    w.cfg.timeout_ms_max = 10000000;
    open_world(&w);
}

static void check_policy_asked(const char *names) {
    CHECK_STR(lp_s(policy_hook.asked), names);
    *policy_hook.asked = 0;
}

static const char *policy_held(const char *name) { return ns_of(look(&w, name, "0")); }

/* ---- when it is asked ---- */

TEST(policy_is_asked_once_for_each_channel) {
    open_policies(0, 0, 0);
    publish_n(&w, "a", 1);
    check_policy_asked("a ");
    publish_n(&w, "a", 2);
    CHECK_STR(lp_s(policy_held("a")), "1,2");
    check_policy_asked("");
    CHECK_INT(look(&w, "c,a,b", "0")->status, 200);
    check_policy_asked("c b ");
    get(dial(&w), "/api/stream/d");
    settle(&w);
    check_policy_asked("d ");
    CHECK_INT(policy_hook.given.history_count, 1000);
    CHECK_INT(policy_hook.given.history_age_ms, 300000);
    CHECK_INT(policy_hook.given.waiters_max, 10000);
    close_world(&w);
}

TEST(policy_is_asked_again_when_the_channel_is_made_again) {
    w.cfg.history_age_ms = 1000;
    open_policies(0, 0, 0);
    look(&w, "a", "0");
    check_policy_asked("a ");
    tick(&w, 999);
    look(&w, "a", "0");
    check_policy_asked("");
    tick(&w, 1000);
    look(&w, "a", "0");
    check_policy_asked("a ");
    close_world(&w);
}

/* While a stream waits for its socket its channel is forgotten. */
TEST(policy_is_asked_for_a_stream_that_goes_on) {
    peer *c;
    w.cfg.history_age_ms = 1000;
    open_policies(0, 0, 0);
    c = dial(&w);
    get(c, "/api/stream/a");
    settle(&w);
    widen(c, 0);
    publish_n(&w, "a", 1);
    settle(&w);
    check_policy_asked("a ");
    pass(&w, 5000);
    CHECK_INT(stats_of(&w).channels, 0);
    widen(c, SIZE_MAX);
    settle(&w);
    check_policy_asked("a ");
    CHECK_INT(stats_of(&w).waiters, 1);
    close_world(&w);
}

/* The wait begins when the hook has answered. */
TEST(policy_hook_may_take_its_time) {
    peer *c;
    open_policies(0, 0, 0);
    policy_hook.takes_ms = 700;
    c = dial(&w);
    park(&w, c, "/api/poll/a,b?timeout=1");
    check_policy_asked("a b ");
    policy_hook.takes_ms = 0;
    pass(&w, 999);
    CHECK_SILENT(c);
    pass(&w, 5);
    CHECK_INT(take(c)->status, 200);
    close_world(&w);
}

static void publish_policy_amid(void) { publish_n(&w, "a", 1); }

/* Another thread has made it meanwhile, with the answer that it got. */
TEST(policy_of_who_was_first_counts) {
    open_policies(1, 0, 0);
    policy_hook.amid = publish_policy_amid;
    publish_n(&w, "a", 2);
    check_policy_asked("a a ");
    CHECK_STR(lp_s(policy_held("a")), "1,2");
    policy_hook.amid = publish_policy_amid;
    CHECK_STR(lp_s(policy_held("own")), "");
    CHECK_STR(lp_s(policy_held("a")), "1,2,1");
    close_world(&w);
}

/* ---- what it refuses ---- */

static void check_policy_refused(answer *a) {
    CHECK_INT(a->status, 403);
    CHECK_STR(a->body, "{\"error\":\"No such channel allowed\"}");
    CHECK(!heading(a, "WWW-Authenticate").bytes);
    CHECK(!heading(a, "Retry-After").bytes);
}

TEST(policy_refuses_polls_and_streams) {
    peer *c;
    open_policies(0, 0, 0);
    c = dial(&w);
    check_policy_refused(ask(&w, c, "/api/poll/none"));
    check_policy_refused(ask(&w, c, "/api/poll/a,none,b"));
    check_policy_asked("none a none ");
    check_policy_refused(ask(&w, c, "/api/poll/none?timeout=0"));
    check_policy_asked("none "); /* it is not remembered */
    check_policy_refused(ask(&w, c, "/api/stream/none"));
    CHECK_INT(stats_of(&w).channels, 1);
    CHECK_INT(stats_of(&w).waiters, 0);
    close_world(&w);
}

TEST(policy_refuses_publishing) {
    lp_published out;
    peer *c;
    open_policies(0, 0, 0);
    memset(&out, 7, sizeof out);
    CHECK_INT(lp_publish(w.s, lp_s("none"), lp_s("{}"), &out), LP_ERR_REFUSED);
    CHECK_INT(out.count, 0x07070707);
    CHECK_STR(lp_s(lp_strerror(LP_ERR_REFUSED)), "No such channel allowed");
    CHECK_INT(lp_publish(w.s, lp_s("none"), lp_s("{"), &out), LP_ERR_JSON);
    c = dial(&w);
    post(c, "/api/publish/none", "{}");
    post(c, "/api/publish/some", "{}"); /* the connection goes on */
    settle(&w);
    check_policy_refused(take(c));
    CHECK_INT(take(c)->status, 200);
    CHECK_INT(stats_of(&w).channels, 1);
    CHECK_INT(stats_of(&w).published, 1);
    close_world(&w);
}

static lp_result policy_result;

static void policy_told(void *ctx, lp_result result, const lp_published *published) {
    (void)ctx;
    policy_result = result;
    CHECK(!published);
}

TEST(policy_refuses_later_what_is_published_async) {
    open_policies(0, 0, 0);
    CHECK_INT(lp_publish_async(w.s, lp_s("none"), lp_s("{}"), policy_told, NULL), LP_OK);
    settle(&w);
    CHECK_INT(policy_result, LP_ERR_REFUSED);
    close_world(&w);
}

/* ---- what a channel may take ---- */

TEST(policy_lowers_the_count) {
    int n;
    w.cfg.history_count = 5;
    open_policies(3, 0, 0);
    for (n = 1; n <= 3; n++) publish_n(&w, "own", n);
    CHECK_STR(lp_s(policy_held("own")), "1,2,3");
    publish_n(&w, "own", 4);
    CHECK_STR(lp_s(policy_held("own")), "2,3,4");
    for (n = 1; n <= 6; n++) publish_n(&w, "a", n);
    CHECK_STR(lp_s(policy_held("a")), "2,3,4,5,6");
    close_world(&w);
}

/* 0 and more than there is stand for the configuration's, LP_OFF for the least. */
TEST(policy_is_cut) {
    static const struct { uint32_t value, count; } cases[] = {
        {0, 5}, {1, 1}, {4, 4}, {5, 5}, {6, 5}, {LP_UNLIMITED, 5}, {LP_OFF, 1}};
    size_t i;
    char name[20];
    int n;
    w.cfg.history_count = 5;
    open_policies(0, 0, 0);
    for (i = 0; i < LPI_COUNT(cases); i++) {
        sprintf(name, "own%d", (int)i);
        policy_hook.limits.history_count = cases[i].value;
        for (n = 0; n < 8; n++) publish_n(&w, name, n);
        look(&w, name, "0");
        CHECK_INT(stats_of(&w).messages, cases[i].count);
        CHECK_INT(lp_channel_delete(w.s, lp_s(name)), LP_OK);
    }
    close_world(&w);
}

TEST(policy_limits_arrays) {
    lp_published out;
    open_policies(3, 0, 0);
    CHECK_INT(lp_publish(w.s, lp_s("own"), lp_s("[{},{},{},{}]"), &out), LP_ERR_TOO_LARGE);
    CHECK_INT(stats_of(&w).published, 0);
    CHECK_INT(publish(&w, "own", "[{},{},{}]").count, 3);
    CHECK_INT(publish(&w, "a", "[{},{},{},{}]").count, 4);
    close_world(&w);
}

TEST(policy_limits_waiters) {
    peer *c;
    open_policies(0, 0, 2);
    park_new(&w, "/api/poll/own?timeout=100");
    park_new(&w, "/api/poll/a,own?timeout=100");
    c = dial(&w);
    CHECK_STR(member(ask(&w, c, "/api/poll/own")->body, "error"), "Channel at capacity");
    CHECK_STR(member(ask(&w, c, "/api/poll/b,own")->body, "error"), "Channel at capacity");
    park(&w, c, "/api/poll/a");
    close_world(&w);
}

/* To the millisecond for who asks, whatever the sweeps do. */
TEST(policy_lowers_the_age) {
    w.cfg.history_age_ms = 10000;
    open_policies(0, 300, 0);
    publish_n(&w, "a", 1);
    publish_n(&w, "own", 2);
    tick(&w, 200);
    publish_n(&w, "own", 3);
    tick(&w, 99);
    CHECK_STR(lp_s(policy_held("own")), "2,3");
    tick(&w, 1);
    CHECK_STR(lp_s(policy_held("own")), "3");
    tick(&w, 199);
    CHECK_STR(lp_s(policy_held("own")), "3");
    tick(&w, 1);
    CHECK_STR(lp_s(policy_held("own")), "");
    CHECK_STR(lp_s(policy_held("a")), "1");
    close_world(&w);
}

/* Of channels that nobody asks for. Each of them costs nothing until then. */
TEST(policy_memory_is_given_back_by_sweeps) {
    char name[20];
    int i, steps = 0;
    w.cfg.history_age_ms = 100000;
    open_policies(0, 3000, 0);
    publish_n(&w, "a", 1);
    for (i = 0; i < 1000; i++) {
        sprintf(name, "own%d", i);
        publish_n(&w, name, i);
    }
    publish_n(&w, "b", 1);
    pass(&w, 2999);
    CHECK_INT(stats_of(&w).messages, 1002);
    steps = pass(&w, 1100);
    CHECK_INT(stats_of(&w).messages, 2);
    CHECK(steps < 30);
    CHECK_INT(w.s->hub.extras.used, 1000);
    pass(&w, 90000);
    CHECK_INT(stats_of(&w).messages, 2);
    pass(&w, 20000); /* they were idle for as long as the others' age is */
    CHECK_INT(w.s->hub.extras.used, 0);
    close_world(&w);
}

/* A sweep for one whose first message is gone by then looks again when the next is due. */
TEST(policy_sweeps_look_again) {
    w.cfg.history_age_ms = 100000;
    open_policies(0, 5000, 0);
    publish_n(&w, "own", 1);
    pass(&w, 4000);
    publish_n(&w, "own", 2);
    pass(&w, 2100);
    CHECK_INT(stats_of(&w).messages, 1);
    pass(&w, 4100);
    CHECK_INT(stats_of(&w).messages, 0);
    close_world(&w);
}

/* 30 days are more than a wheel tells apart. */
TEST(policy_age_may_be_very_long) {
    const uint64_t days = UINT64_C(30) * 86400000;
    w.cfg.history_age_ms = LP_UNLIMITED;
    open_policies(0, (uint32_t)days, 0);
    publish_n(&w, "own", 1);
    CHECK_INT(lp_publish_transient(w.s, lp_s("a"), lp_s("{}"), NULL), LP_OK);
    CHECK(pass(&w, 10000) < 10);
    CHECK_INT(stats_of(&w).messages, 1);
    CHECK(pass(&w, days - 12000) < 3000);
    CHECK_INT(stats_of(&w).messages, 1);
    CHECK(pass(&w, 5000) < 10);
    CHECK_INT(stats_of(&w).messages, 0);
    close_world(&w);
}

/* ---- without memory ---- */

TEST(policy_without_memory) {
    size_t k;
    int failed = 1;
    for (k = 1; failed; k++) {
        lp_result result;
        open_policies(3, 300, 0);
        w.m.fail_at = w.m.calls + k;
        result = lp_publish(w.s, lp_s("own"), lp_s("{}"), NULL);
        failed = w.m.failed != 0;
        CHECK(result == (failed ? LP_ERR_NOMEM : LP_OK));
        w.m.fail_at = 0;
        CHECK_INT(stats_of(&w).channels <= 1, 1);
        CHECK_INT(publish_n(&w, "own", 1).count, 1);
        close_world(&w);
        memset(&w, 0, sizeof w);
    }
    CHECK(k > 4);
}
