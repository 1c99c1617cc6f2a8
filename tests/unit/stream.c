/* Streams: server-sent events are polls that ask again by themselves. What is sent, byte by
   byte; that the id of each event is a good place to go on from; and what ends a stream. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"
#include "../store.h"

static world w;

/* ---- what was heard ---- */

/* All that came since, in memory that the world frees. */
static lp_slice stream_hear(peer *c) {
    lp_slice text = unheard(c);
    answer *a = (answer *)calloc(1, sizeof *a + text.length + 1);
    memcpy(a + 1, text.bytes, text.length);
    a->next = w.answers;
    w.answers = a;
    c->out_at = c->out_length;
    return lpi_slice((const char *)(a + 1), text.length);
}

static char stream_from[700]; /* where the last stream began; empty: with a reset */

/* The head of a stream has come, and what stands before its events. */
static answer *stream_began(peer *c) {
    static const char retry[] = "retry: 1000\n";
    answer *a = take(c);
    lp_slice rest = unheard(c);
    const char *end = (const char *)memmem(rest.bytes, rest.length, "\n\n", 2);
    size_t n;
    CHECK_INT(a->status, 200);
    CHECK_STR(heading(a, "Content-Type"), "text/event-stream");
    if (!end || memcmp(rest.bytes, retry, sizeof retry - 1))
        unit_fail(__FILE__, __LINE__, "no retry behind the head");
    n = (size_t)(end - rest.bytes);
    *stream_from = 0;
    if (n > sizeof retry - 1) {
        CHECK(!memcmp(rest.bytes + sizeof retry - 1, "id: ", 4));
        snprintf(stream_from, sizeof stream_from, "%.*s", (int)(n - sizeof retry - 3),
                 rest.bytes + sizeof retry + 3);
    }
    c->out_at += n + 2;
    return a;
}

static peer *stream_dial(const char *target) {
    peer *c = dial(&w);
    get(c, target);
    settle(&w);
    stream_began(c);
    return c;
}

/* As a client that connects again. */
static void stream_say(peer *c, const char *target, const char *last_event_id) {
    sayf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: %s\r\n\r\n", target,
         last_event_id);
}

typedef struct stream_event {
    char type[16], id[700], data[3000];
} stream_event;

/* A line as HTML 9.2.6 has it, which ends with CR LF, LF or CR. 0 if none is whole. */
static int stream_line(lp_slice *rest, lp_slice *line) {
    size_t n = 0;
    while (n < rest->length && rest->bytes[n] != '\n' && rest->bytes[n] != '\r') n++;
    if (n == rest->length) return 0;
    *line = lpi_slice(rest->bytes, n);
    if (rest->bytes[n] == '\r' && n + 1 < rest->length && rest->bytes[n + 1] == '\n') n++;
    *rest = lpi_slice(rest->bytes + n + 1, rest->length - n - 1);
    return 1;
}

static void stream_field(stream_event *e, lp_slice line) {
    const char *colon = (const char *)memchr(line.bytes, ':', line.length);
    size_t n = colon ? (size_t)(colon - line.bytes) : line.length;
    lp_slice name = lpi_slice(line.bytes, n), value = lpi_slice(line.bytes + n, line.length - n);
    char *to = e->data + strlen(e->data);
    size_t size = sizeof e->data - strlen(e->data);
    if (value.length) value.bytes++, value.length--;
    if (value.length && *value.bytes == ' ') value.bytes++, value.length--;
    if (lpi_equal(name, lp_s("data"))) {
        if (to != e->data) *to++ = '\n', size--;
    } else if (lpi_equal(name, lp_s("event"))) {
        to = e->type, size = sizeof e->type;
    } else if (lpi_equal(name, lp_s("id"))) {
        to = e->id, size = sizeof e->id;
    } else {
        unit_fail(__FILE__, __LINE__, "a field that no event has: %.*s", (int)line.length,
                  line.bytes);
    }
    CHECK(value.length < size);
    memcpy(to, value.bytes, value.length);
    to[value.length] = 0;
}

/* The next event, as a browser reads it. 0 if none is whole, and then nothing is taken. */
static int stream_next(lp_slice *rest, stream_event *e) {
    lp_slice left = *rest, line;
    stream_event next = {"message", "", ""};
    while (stream_line(&left, &line)) {
        if (!line.length && *next.data) {
            CHECK(*next.id); /* each has one */
            *e = next;
            *rest = left;
            return 1;
        }
        if (line.length && *line.bytes != ':') stream_field(&next, line);
    }
    return 0;
}

/* The events of {"n":N} from N `from` to N `to`, in their order, and nothing else. */
static void stream_check_ns(lp_slice heard, int from, int to) {
    stream_event e;
    while (stream_next(&heard, &e)) {
        CHECK_STR(lp_s(e.type), "message");
        CHECK_INT(atoi(text_of(lp_s(e.data), "n")), from++);
    }
    CHECK_INT(heard.length, 0);
    CHECK_INT(from, to + 1);
}

/* An event with a message that has those members, in one of a few buffers. `id` is the cursor
   if it is not the message's own. */
static const char *stream_text(const char *id, const char *channel, const lp_published *p,
                               const char *members) {
    static char buffers[8][1200];
    static int next;
    char *to = buffers[next++ % 8];
    snprintf(to, sizeof buffers[0],
             "id: %s\ndata: {\"id\":\"%s\",\"channel\":\"%s\",\"timestamp\":%lu.%06lu,%s}\n\n",
             id ? id : p->id, p->id, channel, (unsigned long)(p->timestamp_us / 1000000),
             (unsigned long)(p->timestamp_us % 1000000), members);
    return to;
}

/* How long it takes until something comes, in ms. */
static uint64_t stream_wait(peer *c) {
    uint64_t began = now_ms(&w);
    while (!unheard(c).length) CHECK_INT(turn(&w, 100000000), LP_OK);
    return now_ms(&w) - began;
}

static uint32_t stream_phase(lpi_phase phase) { return w.s->loops[0].phases[phase]; }

static void stream_lift_limits(void) {
    w.cfg.waiters_per_client = w.cfg.waiters_per_address = LP_UNLIMITED;
}

static void stream_check_nobody(void) {
    lpi_hub *hub = &w.s->hub;
    CHECK_INT(stats_of(&w).connections, 0);
    CHECK_INT(stats_of(&w).waiters, 0);
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    CHECK_INT(hub->waiters.used + hub->lists.used + hub->counters.used + hub->accounts.used, 0);
    CHECK_INT(hub->partial_bytes, 0);
    CHECK_INT(w.s->loops[0].connections.used, 0);
}

/* ---- what is sent ---- */

TEST(stream_the_head_comes_at_once) {
    peer *c;
    answer *a;
    open_world(&w);
    c = dial(&w);
    get(c, "/api/stream/news");
    settle(&w);
    a = stream_began(c);
    CHECK_SILENT(c);
    CHECK(!heading(a, "Content-Length").bytes && !heading(a, "Transfer-Encoding").bytes);
    CHECK_STR(heading(a, "Connection"), "close");
    CHECK_STR(heading(a, "X-Accel-Buffering"), "no");
    CHECK_STR(heading(a, "Cache-Control"), "no-store");
    CHECK(heading(a, "Date").bytes && !heading(a, "Access-Control-Allow-Origin").bytes);
    CHECK(!c->closed && !c->shut);
    CHECK_INT(c->sends, 1);
    CHECK_INT(c->recvs, 1);
    CHECK_INT(stats_of(&w).waiters, 1);
    close_world(&w);
}

/* One send for each reply, and no other call; the message itself is all that is allocated. */
TEST(stream_messages_as_they_come) {
    static const kernel_call none[] = {K_RECV, K_POLLER_SET, K_RANDOM, K_ACCEPT, K_SHUTDOWN};
    uint32_t before[K_CALLS] = {0};
    int i, rounds = unit_rounds(500);
    size_t k, calls = 0, bytes = 0;
    peer *c;
    w.cfg.history_count = 8;
    open_world(&w);
    c = stream_dial("/api/stream/news?last_id=now");
    for (i = -20; i < rounds; i++) {
        lp_published p;
        char members[24];
        if (!i) { /* all has its size */
            memcpy(before, w.k.calls, sizeof before);
            calls = w.m.calls;
            bytes = w.m.bytes;
        }
        snprintf(members, sizeof members, "\"n\":%d", 5000 + i);
        p = publish_n(&w, "news", 5000 + i);
        CHECK_INT(p.waiters, 1);
        settle(&w);
        CHECK_STR(stream_hear(c), stream_text(NULL, "news", &p, members));
    }
    for (k = 0; k < LPI_COUNT(none); k++) CHECK_INT(w.k.calls[none[k]], before[none[k]]);
    CHECK_INT(w.k.calls[K_SEND], before[K_SEND] + (uint32_t)rounds);
    CHECK_INT(c->sends, 1 + 20 + rounds);
    CHECK_INT(c->recvs, 1);
    CHECK_INT(c->sets, 1);
    CHECK_INT(w.m.calls, calls + (size_t)rounds);
    CHECK_INT(w.m.bytes, bytes);
    CHECK_INT(stats_of(&w).waiters, 1);
    close_world(&w);
}

TEST(stream_what_is_there_goes_out_in_one_write) {
    peer *c, *d;
    int i;
    open_world(&w);
    for (i = 1; i <= 5; i++) publish_n(&w, "news", i);
    c = stream_dial("/api/stream/news"); /* without last_id, all that is held */
    stream_check_ns(stream_hear(c), 1, 5);
    CHECK_INT(c->sends, 1); /* with the head */
    d = stream_dial("/api/stream/news?last_id=now");
    CHECK_SILENT(d);
    for (i = 6; i <= 9; i++) publish_n(&w, "news", i);
    settle(&w);
    stream_check_ns(stream_hear(c), 6, 9);
    stream_check_ns(stream_hear(d), 6, 9);
    CHECK_INT(c->sends, 2);
    CHECK_INT(d->sends, 2);
    close_world(&w);
}

/* The limit is that of a reply: what is more comes in the next one. */
TEST(stream_the_limit_is_of_a_write) {
    peer *c;
    int i;
    open_world(&w);
    for (i = 1; i <= 5; i++) publish_n(&w, "news", i);
    c = stream_dial("/api/stream/news?limit=2");
    stream_check_ns(stream_hear(c), 1, 5);
    CHECK_INT(c->sends, 3);
    for (i = 6; i <= 9; i++) publish_n(&w, "news", i);
    settle(&w);
    stream_check_ns(stream_hear(c), 6, 9);
    CHECK_INT(c->sends, 5);
    close_world(&w);
}

/* With a limit of one there are more replies than may go out in a row: the others have their
   turn, and all come in their order. */
TEST(stream_many_replies_leave_others_their_turn) {
    enum { N = 100 };
    peer *c, *d;
    int i, steps = 0;
    open_world(&w);
    for (i = 1; i <= N; i++) publish_n(&w, "news", i);
    c = dial(&w);
    d = dial(&w);
    settle(&w);
    get(c, "/api/stream/news?limit=1");
    while (c->sends < N) {
        uint32_t before = c->sends;
        get(d, "/nowhere");
        CHECK_INT(turn(&w, 0), LP_OK);
        CHECK_INT(take(d)->status, 404);
        CHECK(c->sends > before && c->sends - before <= 1 + 2 * LPI_STREAM_TURNS);
        CHECK(++steps < N);
    }
    CHECK(steps > 5);
    settle(&w);
    stream_began(c);
    stream_check_ns(stream_hear(c), 1, N);
    CHECK_INT(c->sends, N);
    CHECK_INT(c->recvs, 1);
    CHECK_INT(stats_of(&w).waiters, 1);
    close_world(&w);
}

/* ---- the id of an event ---- */

/* From each id that was heard, all that came behind it comes again, to the byte. */
static void stream_check_resume(const char *target, lp_slice heard) {
    stream_event e;
    while (stream_next(&heard, &e)) {
        peer *c = dial(&w);
        stream_say(c, target, e.id);
        settle(&w);
        stream_began(c);
        CHECK_BYTES(unheard(c).bytes, unheard(c).length, heard.bytes, heard.length);
        leave(&w, c);
    }
    CHECK_INT(heard.length, 0);
}

TEST(stream_goes_on_from_each_id) {
    peer *c;
    int i;
    open_world(&w);
    c = stream_dial("/api/stream/news?last_id=now");
    for (i = 1; i <= 20; i++) {
        publish_n(&w, "news", i);
        if (i % 3) settle(&w);
    }
    settle(&w);
    stream_check_resume("/api/stream/news?last_id=now", stream_hear(c));
    close_world(&w);
}

TEST(stream_goes_on_from_each_id_of_several_channels) {
    static const char *const names[] = {"a", "b", "c"};
    lp_slice heard, rest;
    stream_event e;
    peer *c;
    int i, n = 0;
    open_world(&w);
    publish_n(&w, "b", 0); /* so that they do not all stand at the same place */
    c = stream_dial("/api/stream/c,a,b?last_id=now");
    for (i = 1; i <= 40; i++) {
        tick(&w, 1);
        publish_n(&w, names[unit_below(3)], i);
        if (unit_one_in(3)) settle(&w);
    }
    settle(&w);
    rest = heard = stream_hear(c);
    while (stream_next(&rest, &e)) {
        const char *channel = text_of(lp_s(e.data), "channel");
        lp_slice id = lp_s(e.id), one;
        CHECK_INT(atoi(text_of(lp_s(e.data), "n")), ++n);
        for (i = 0; lpi_split(&id, ',', &one); i++) /* its own place is the message's id */
            if (*channel == "cab"[i]) CHECK_STR(one, text_of(lp_s(e.data), "id"));
        CHECK_INT(i, 3);
    }
    CHECK_INT(n, 40);
    stream_check_resume("/api/stream/c,a,b", heard);
    stream_check_resume("/api/stream/c,a,b?limit=3", heard);
    close_world(&w);
}

/* The record and an id are as large as they can be. */
TEST(stream_of_sixteen_long_names) {
    char target[16 * 256 + 100] = "/api/stream/", names[16][256];
    lp_slice heard;
    stream_event e;
    peer *c;
    int i;
    w.cfg.head_bytes_max = 65535;
    open_world(&w);
    for (i = 0; i < 16; i++) {
        memset(names[i], 'a' + i, 255);
        names[i][255] = 0;
        if (i) strcat(target, ",");
        strcat(target, names[i]);
    }
    c = dial(&w);
    say(c, "GET ");
    say(c, target);
    say(c, " HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: somebody\r\n\r\n");
    settle(&w);
    stream_began(c);
    for (i = 0; i < 16; i++) {
        publish_n(&w, names[15 - i], i);
        settle(&w);
        heard = stream_hear(c);
        CHECK(stream_next(&heard, &e));
        CHECK_INT(count_of(lp_s(e.id), ","), 15);
        CHECK_INT(count_of(lp_s(e.id), "-0"), 15 - i);
        CHECK_STR(member(lp_s(e.data), "channel"), names[15 - i]);
    }
    leave(&w, c);
    stream_check_nobody();
    close_world(&w);
}

TEST(stream_the_header_counts_more_than_the_url) {
    lp_published p[4];
    peer *c;
    int i;
    open_world(&w);
    for (i = 1; i <= 3; i++) p[i] = publish_n(&w, "news", i);
    c = dial(&w);
    stream_say(c, "/api/stream/news?last_id=now", p[1].id);
    settle(&w);
    stream_began(c);
    stream_check_ns(stream_hear(c), 2, 3);
    c = dial(&w);
    stream_say(c, "/api/stream/news?last_id=nonsense", p[2].id); /* which is not even read */
    settle(&w);
    stream_began(c);
    stream_check_ns(stream_hear(c), 3, 3);
    c = dial(&w);
    sayf(c, "GET /api/stream/news?last_id=%s HTTP/1.1\r\nHost: localhost\r\n"
            "LAST-EVENT-ID: \r\n\r\n", p[2].id); /* there was none yet */
    settle(&w);
    stream_began(c);
    stream_check_ns(stream_hear(c), 3, 3);
    c = dial(&w);
    stream_say(c, "/api/poll/news?timeout=0", p[2].id); /* no poll reads it */
    settle(&w);
    CHECK_STR(member(take(c)->body, "count"), "3");
    close_world(&w);
}

/* ---- what is refused ---- */

TEST(stream_bad_questions) {
    static const struct { const char *target, *last, *error; } cases[] = {
        {"/api/stream/a?since=0", NULL, "A stream takes last_id, not since"},
        {"/api/stream/a?since=", NULL, "A stream takes last_id, not since"},
        {"/api/stream/a?since=0&last_id=0", NULL, "A stream takes last_id, not since"},
        {"/api/stream/a,b?since=0", "now", "A stream takes last_id, not since"},
        {"/api/stream/a", "x", "Bad last_id"},
        {"/api/stream/a", "0123456789ABCDEF-1", "Bad last_id"},
        {"/api/stream/a", "0123456789abcdef-01", "Bad last_id"},
        {"/api/stream/a", "0123456789abcdef-1,0123456789abcdef-1", "Bad last_id"},
        {"/api/stream/a,b?last_id=0", "0123456789abcdef-1", "Bad last_id"},
        {"/api/stream/a?last_id=0", "0%2C0", "Bad last_id"},
        {"/api/stream/a?last_id=1", NULL, "Bad last_id"},
        {"/api/stream/a?limit=0", NULL, "Bad limit"},
        {"/api/stream/a?limit=1001", NULL, "Bad limit"},
        {"/api/stream/a,a", NULL, "Channel named twice"},
        {"/api/stream/a,", NULL, "Bad channel name"},
        {"/api/stream/1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", NULL, "Too many channels"}};
    size_t i;
    peer *c;
    answer *a;
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < LPI_COUNT(cases); i++) {
        if (cases[i].last) stream_say(c, cases[i].target, cases[i].last);
        else get(c, cases[i].target);
        settle(&w);
        a = take(c);
        if (a->status != 400)
            unit_fail(__FILE__, __LINE__, "%s got %d", cases[i].target, a->status);
        CHECK_STR(heading(a, "Content-Type"), "application/json");
        CHECK_STR(member(a->body, "error"), cases[i].error);
        CHECK_INT(stats_of(&w).waiters, 0);
    }
    CHECK_INT(stats_of(&w).channels, 0);
    say(c, "GET /api/stream/a HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: a b\r\n\r\n");
    settle(&w);
    CHECK_STR(member(take(c)->body, "error"), "Bad X-Client-ID");
    CHECK_INT(ask(&w, c, "/api/stream/")->status, 404);
    post(c, "/api/stream/a", "{}");
    settle(&w);
    CHECK_INT(take(c)->status, 405);
    CHECK_SILENT(c);
    close_world(&w);
}

TEST(stream_counts_among_the_polls_of_a_client) {
    peer *c[4];
    answer *a;
    w.cfg.waiters_per_client = 2;
    open_world(&w);
    c[0] = stream_dial("/api/stream/a");
    c[1] = dial(&w);
    park(&w, c[1], "/api/poll/a");
    a = ask(&w, c[2] = dial(&w), "/api/stream/b");
    CHECK_INT(a->status, 429);
    CHECK_STR(member(a->body, "error"), "Too many connections from client");
    CHECK_STR(heading(a, "Content-Type"), "application/json");
    CHECK_STR(heading(a, "Retry-After"), "5");
    CHECK_SILENT(c[2]);
    c[3] = dial(&w);
    CHECK_INT(ask(&w, c[3], "/api/poll/b")->status, 429);
    get_as(c[3], "/api/stream/b", "somebody"); /* who has places of his own */
    settle(&w);
    stream_began(c[3]);
    publish_n(&w, "a", 1);
    settle(&w);
    stream_check_ns(stream_hear(c[0]), 1, 1); /* and it keeps its place as it goes on */
    CHECK_INT(take(c[1])->status, 200);
    stream_dial("/api/stream/b");
    CHECK_INT(stats_of(&w).waiters, 3);
    CHECK_INT(stats_of(&w).refused, 2);
    leave(&w, c[0]);
    stream_dial("/api/stream/b");
    close_world(&w);
}

/* While it was being written another has taken the last place: it ends behind its events, and
   its client connects again. */
TEST(stream_that_finds_no_place_to_go_on_ends) {
    peer *c, *d;
    w.cfg.waiters_max = 1;
    open_world(&w);
    c = stream_dial("/api/stream/a");
    widen(c, 10);
    publish_n(&w, "a", 1);
    settle(&w);
    CHECK_INT(stream_phase(LPI_WRITING), 1);
    d = dial(&w);
    park(&w, d, "/api/poll/b");
    widen(c, SIZE_MAX);
    settle(&w);
    stream_check_ns(stream_hear(c), 1, 1);
    CHECK(c->shut && !c->closed);
    finish(c);
    settle(&w);
    CHECK(c->closed);
    CHECK_INT(stats_of(&w).waiters, 1);
    CHECK_INT(stats_of(&w).connections, 1);
    close_world(&w);
}

static char stream_asked[512];

static int stream_authorize(void *ctx, lp_request *r, lp_action action, lp_slice channel) {
    (void)ctx;
    CHECK_INT(action, LP_POLL);
    CHECK_SILENT(w.peers); /* the one that asks */
    sprintf(stream_asked + strlen(stream_asked), "%.*s:%.*s;", (int)channel.length,
            channel.bytes, (int)lp_query(r, "key").length, lp_query(r, "key").bytes);
    if (lpi_equal(channel, lp_s("locked"))) return 401;
    return lpi_equal(channel, lp_s("secret")) ? 403 : 0;
}

TEST(stream_is_asked_for_each_channel_before_anything_is_sent) {
    answer *a;
    peer *c;
    w.cfg.authorize.ask = stream_authorize;
    open_world(&w);
    a = ask(&w, c = dial(&w), "/api/stream/a,locked,b?key=k");
    CHECK_INT(a->status, 401);
    CHECK_STR(member(a->body, "error"), "Unauthorized");
    CHECK_STR(heading(a, "WWW-Authenticate"), "Bearer");
    CHECK_STR(heading(a, "Content-Type"), "application/json");
    CHECK_SILENT(c);
    a = ask(&w, c = dial(&w), "/api/stream/secret?key=k");
    CHECK_INT(a->status, 403);
    CHECK_STR(member(a->body, "error"), "Forbidden");
    CHECK_SILENT(c);
    CHECK_INT(stats_of(&w).waiters, 0);
    CHECK_STR(lp_s(stream_asked), "a:k;locked:k;secret:k;");
    stream_asked[0] = 0;
    c = stream_dial("/api/stream/a,b?key=l");
    publish_n(&w, "a", 1);
    publish_n(&w, "b", 2);
    settle(&w);
    stream_check_ns(stream_hear(c), 1, 2);
    CHECK_STR(lp_s(stream_asked), "a:l;b:l;"); /* and not again for what comes */
    close_world(&w);
}

TEST(stream_from_a_page_of_another_origin) {
    static const char text[] = "GET /api/stream/news HTTP/1.1\r\nHost: localhost\r\n"
                               "Origin: https://%s.example\r\n\r\n";
    static const char *const cors[] = {"https://a.example, https://b.example", "*"};
    peer *c;
    answer *a;
    int i;
    for (i = 0; i < 2; i++) {
        memset(&w, 0, sizeof w);
        w.cfg.cors = cors[i];
        w.cfg.waiters_per_client = 2;
        open_world(&w);
        sayf(c = dial(&w), text, "b");
        settle(&w);
        a = stream_began(c);
        CHECK_STR(heading(a, "Access-Control-Allow-Origin"), i ? "*" : "https://b.example");
        CHECK_STR(heading(a, "Vary"), i ? "" : "Origin");
        CHECK_INT(count_of(a->head, "Access-Control-Allow-Origin"), 1);
        sayf(c = dial(&w), text, "c");
        settle(&w);
        a = stream_began(c);
        CHECK_STR(heading(a, "Access-Control-Allow-Origin"), i ? "*" : "");
        sayf(c = dial(&w), text, "a");
        settle(&w);
        a = take(c);
        CHECK_INT(a->status, 429); /* which the page may read as well */
        CHECK_STR(heading(a, "Access-Control-Allow-Origin"), i ? "*" : "https://a.example");
        close_world(&w);
    }
}

/* ---- resets ---- */

/* A stream from `last_id` begins with that reset, and the messages from N `from` to N `to`; one
   from the reset's id is the same without it. Returns the first. */
static peer *stream_check_reset(const char *target, const char *last_id, const char *data,
                                int from, int to) {
    peer *c = dial(&w), *d = dial(&w);
    lp_slice heard;
    stream_event e;
    stream_say(c, target, last_id);
    settle(&w);
    stream_began(c);
    heard = stream_hear(c);
    CHECK(heard.length > 17 && !memcmp(heard.bytes, "event: reset\nid: ", 17));
    CHECK(stream_next(&heard, &e));
    CHECK_STR(lp_s(e.type), "reset");
    CHECK_STR(lp_s(e.data), data);
    stream_check_ns(heard, from, to);
    stream_say(d, target, e.id);
    settle(&w);
    stream_began(d);
    CHECK_BYTES(unheard(d).bytes, unheard(d).length, heard.bytes, heard.length);
    leave(&w, d);
    return c;
}

TEST(stream_a_reset_comes_before_the_messages) {
    lp_published p[11];
    char ahead[40], id[100];
    peer *c[5];
    int i;
    stream_lift_limits();
    w.cfg.history_count = 3;
    open_world(&w);
    for (i = 1; i <= 10; i++) p[i] = publish_n(&w, "news", i);
    strcpy(ahead, p[10].id);
    strcpy(ahead + 17, "11");
    c[0] = stream_check_reset("/api/stream/news", p[6].id, "{\"news\":\"evicted\"}", 8, 10);
    c[1] = stream_check_reset("/api/stream/news", ahead, "{\"news\":\"ahead\"}", 8, 10);
    c[2] = stream_check_reset("/api/stream/news", "0123456789abcdef-9", "{\"news\":\"epoch\"}", 8,
                              10);
    c[3] = stream_check_reset("/api/stream/news?limit=1", p[1].id, "{\"news\":\"evicted\"}", 8, 10);
    snprintf(id, sizeof id, "0123456789abcdef-0,%s", p[6].id);
    c[4] = stream_check_reset("/api/stream/%22%5c,news", id,
                              "{\"\\\"\\\\\":\"epoch\",\"news\":\"evicted\"}", 8, 10);
    CHECK_INT(stats_of(&w).resets, 5);
    publish_n(&w, "news", 11); /* and there is no other */
    settle(&w);
    for (i = 0; i < 5; i++) stream_check_ns(stream_hear(c[i]), 11, 11);
    CHECK_INT(stats_of(&w).resets, 5);
    close_world(&w);
}

TEST(stream_a_reset_to_the_byte) {
    lp_published p[5];
    char want[400];
    peer *c;
    int i;
    w.cfg.history_count = 1;
    open_world(&w);
    for (i = 1; i <= 4; i++) p[i] = publish_n(&w, "news", i);
    c = dial(&w);
    stream_say(c, "/api/stream/news", p[1].id);
    settle(&w);
    stream_began(c);
    snprintf(want, sizeof want, "event: reset\nid: %s\ndata: {\"news\":\"evicted\"}\n\n%s", p[3].id,
             stream_text(NULL, "news", &p[4], "\"n\":4"));
    CHECK_STR(stream_hear(c), want);
    CHECK_INT(c->sends, 1);
    close_world(&w);
}

/* Nothing is held: the reset is told at once, and not with the next message. */
TEST(stream_a_reset_without_messages) {
    peer *c;
    open_world(&w);
    c = stream_check_reset("/api/stream/news", "0123456789abcdef-7", "{\"news\":\"epoch\"}", 1, 0);
    CHECK_INT(c->sends, 1);
    publish_n(&w, "news", 1);
    settle(&w);
    stream_check_ns(stream_hear(c), 1, 1);
    close_world(&w);
}

/* What a parked stream would have been told is pushed out before it is served. */
TEST(stream_evicted_while_parked_is_a_reset) {
    peer *c;
    lp_slice heard;
    stream_event e;
    int i;
    w.cfg.history_count = 3;
    open_world(&w);
    c = stream_dial("/api/stream/other,news?last_id=now");
    for (i = 1; i <= 5; i++) publish_n(&w, "news", i); /* 1 and 2 are gone */
    settle(&w);
    heard = stream_hear(c);
    CHECK(stream_next(&heard, &e));
    CHECK_STR(lp_s(e.type), "reset");
    CHECK_STR(lp_s(e.data), "{\"news\":\"evicted\"}");
    stream_check_ns(heard, 3, 5);
    publish_n(&w, "news", 6);
    settle(&w);
    stream_check_ns(stream_hear(c), 6, 6);
    CHECK_INT(stats_of(&w).resets, 1);
    close_world(&w);
}

/* ---- what is in a message ---- */

/* The only message of a poll's reply, in a buffer. */
static const char *stream_polled(const answer *a) {
    static char buffer[2000];
    const char *from = (const char *)memmem(a->body.bytes, a->body.length, "\"messages\":[", 12);
    size_t length;
    CHECK(from);
    from += 12;
    length = (size_t)(a->body.bytes + a->body.length - from) - 2;
    CHECK(!memcmp(from + length, "]}", 2) && length < sizeof buffer);
    memcpy(buffer, from, length);
    buffer[length] = 0;
    return buffer;
}

/* JSON may be in several lines. None of them can be taken for a line of the stream; all else is
   as it was, and a poll gets it as it was published. */
TEST(stream_no_message_forges_an_event) {
    static const char *const messages[] = {
        "{\n\"data: forged\"\n:\n1\n}", "{\"a\":1,\r\r\n\n\r\"id: 7\":2\r\n,\n\"event: x\":3}",
        "{\n\n\"text\":\"\\n\\ndata: forged\\n\\n\\r\\rid: 7\\r\"\r\r}",
        "{\"a\":[\n\n1,\n\n2\n],\"b\":{\r}}", "{\"retry: 1\"\n:\n{}}", "{\r}", "{\n\n}", "{}"};
    size_t i;
    char *at;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(messages); i++) {
        char want[2000];
        peer *c, *d;
        lp_slice heard;
        lp_published p;
        stream_event e;
        c = stream_dial("/api/stream/news?last_id=now");
        park(&w, d = dial(&w), "/api/poll/news?last_id=now");
        p = publish(&w, "news", messages[i]);
        settle(&w);
        strcpy(want, stream_polled(take(d)));
        CHECK_INT(count_of(lp_s(want), "\n") + count_of(lp_s(want), "\r") > 0, i < 5);
        for (at = want; *at; at++)
            if (*at == '\n' || *at == '\r') *at = ' ';
        heard = stream_hear(c);
        CHECK_INT(count_of(heard, "\n"), 3);
        CHECK_INT(count_of(heard, "\r"), 0);
        CHECK(stream_next(&heard, &e));
        CHECK_INT(heard.length, 0);
        CHECK_STR(lp_s(e.type), "message");
        CHECK_STR(lp_s(e.id), p.id);
        CHECK_STR(lp_s(e.data), want);
        leave(&w, c);
    }
    close_world(&w);
}

TEST(stream_polls_and_streams_side_by_side) {
    peer *first, *second, *poll, *basic;
    answer *a;
    char want[1000];
    lp_published p;
    open_world(&w);
    first = stream_dial("/api/stream/news?last_id=now&limit=7");
    park(&w, poll = dial(&w), "/api/poll/news?last_id=now&limit=7");
    park(&w, basic = dial(&w), "/api/poll/news?since=9999999999&limit=7");
    second = stream_dial("/api/stream/news?last_id=now&limit=7");
    p = publish(&w, "news", "{\"text\":\n\"hello\"}");
    CHECK_INT(p.waiters, 4);
    settle(&w);
    CHECK_STR(stream_hear(first), stream_text(NULL, "news", &p, "\"text\": \"hello\""));
    CHECK_STR(stream_hear(second), stream_text(NULL, "news", &p, "\"text\": \"hello\""));
    a = take(poll);
    CHECK_STR(heading(a, "Content-Type"), "application/json");
    snprintf(want, sizeof want, "{\"status\":\"messages\",\"last_id\":\"%s\",", p.id);
    CHECK(!memcmp(a->body.bytes, want, strlen(want)));
    CHECK(has(a->body, "\"text\":\n\"hello\"}]}"));
    a = take(basic);
    CHECK(has(a->body, ",\"data\":{\"id\":") && has(a->body, "\"text\":\n\"hello\"}"));
    CHECK_INT(stats_of(&w).waiters, 2);
    park(&w, poll, "/api/poll/news?last_id=now&limit=7&timeout=1"); /* nor when they time out */
    pass(&w, 1002);
    CHECK_STR(member(take(poll)->body, "status"), "timeout");
    CHECK_SILENT(first);
    pass(&w, 15002);
    CHECK_STR(stream_hear(first), ":\n\n");
    close_world(&w);
}

TEST(stream_a_hundred_get_the_same_bytes) {
    enum { N = 100 };
    static peer *c[N];
    lp_slice first;
    uint32_t sends;
    size_t calls;
    int i, round;
    stream_lift_limits();
    open_world(&w);
    for (i = 0; i < N; i++) get(c[i] = dial(&w), "/api/stream/news");
    settle(&w);
    for (i = 0; i < N; i++) stream_began(c[i]);
    for (round = 1; round <= 3; round++) {
        sends = w.k.calls[K_SEND];
        calls = w.m.calls;
        CHECK_INT(publish_n(&w, "news", round).waiters, N);
        settle(&w);
        CHECK_INT(w.k.calls[K_SEND] - sends, N);
        CHECK(w.m.calls - calls <= 5); /* the message, its ring, what is written into */
        first = stream_hear(c[0]);
        stream_check_ns(first, round, round);
        for (i = 1; i < N; i++) {
            CHECK_BYTES(unheard(c[i]).bytes, unheard(c[i]).length, first.bytes, first.length);
            c[i]->out_at = c[i]->out_length;
        }
    }
    for (i = 0; i < N; i++) CHECK_INT(c[i]->recvs + c[i]->sets, 2);
    CHECK_INT(stats_of(&w).waiters, N);
    CHECK_INT(stats_of(&w).delivered, 3 * N);
    close_world(&w);
}

TEST(stream_on_each_loop) {
    enum { N = 9 };
    peer *c[N];
    int i, n;
    stream_lift_limits();
    w.cfg.loops = 3;
    open_world(&w);
    for (i = 0; i < N; i++) c[i] = stream_dial(i & 1 ? "/api/stream/a,b" : "/api/stream/a");
    for (n = 1; n <= 5; n++) {
        CHECK_INT(publish_n(&w, "a", n).waiters, N);
        settle(&w);
        for (i = 0; i < N; i++) stream_check_ns(stream_hear(c[i]), n, n);
    }
    for (i = 0; i < N; i++) leave(&w, c[i]);
    CHECK_INT(stats_of(&w).connections, 0);
    CHECK_INT(stats_of(&w).waiters, 0);
    close_world(&w);
}

/* ---- the beat ---- */

/* What comes while a client is away that has not had an event yet: it goes on from where the stream
   began, with `now` too, and over what has been evicted since not without a word. */
TEST(stream_begins_with_a_cursor) {
    static const char *const targets[] = {"/api/stream/news?last_id=now", "/api/stream/news?last_id=0",
                                          "/api/stream/news,b?last_id=now"};
    size_t i;
    for (i = 0; i < LPI_COUNT(targets); i++) {
        stream_event e;
        lp_slice heard;
        char from[700];
        peer *c;
        int n;
        w.cfg.history_count = 3;
        open_world(&w);
        publish_n(&w, "news", 1);
        if (i == 1) pass(&w, 400000); /* the history is empty again */
        c = stream_dial(targets[i]);
        CHECK_SILENT(c);
        CHECK(*stream_from);
        strcpy(from, stream_from);
        leave(&w, c);
        publish_n(&w, "news", 2);
        c = dial(&w);
        stream_say(c, targets[i], from);
        settle(&w);
        stream_began(c);
        stream_check_ns(stream_hear(c), 2, 2);
        leave(&w, c);
        for (n = 3; n < 7; n++) publish_n(&w, "news", n);
        c = dial(&w);
        stream_say(c, targets[i], from);
        settle(&w);
        stream_began(c);
        CHECK_STR(lp_s(stream_from), "");
        heard = stream_hear(c);
        CHECK(stream_next(&heard, &e));
        CHECK_STR(lp_s(e.type), "reset");
        close_world(&w);
    }
}

TEST(stream_beats_while_nothing_comes) {
    static const struct { const char *target; uint32_t set_ms, ms; } cases[] = {
        {"/api/stream/news", 0, 15000}, {"/api/stream/news?timeout=1", 0, 15000},
        {"/api/stream/a,news?timeout=0", 700, 700}, {"/api/stream/news?timeout=60", 90000, 90000}};
    size_t i, calls = 0;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        peer *c;
        int round;
        uint64_t took;
        memset(&w, 0, sizeof w);
        w.cfg.stream_beat_ms = cases[i].set_ms;
        open_world(&w);
        c = dial(&w);
        settle(&w);
        w.k.now_us += unit_below(5000000); /* any fraction of a millisecond */
        settle(&w);
        get(c, cases[i].target);
        settle(&w);
        stream_began(c);
        for (round = 0; round < 6; round++) {
            if (round == 3) { /* the beat is of silence */
                pass(&w, cases[i].ms - 10);
                CHECK_SILENT(c);
                publish_n(&w, "news", 1);
                settle(&w);
                stream_check_ns(stream_hear(c), 1, 1);
                calls = w.m.calls;
            }
            took = stream_wait(c);
            if (took < cases[i].ms || took > cases[i].ms + TICK_MS)
                unit_fail(__FILE__, __LINE__, "%s took %lu ms", cases[i].target,
                          (unsigned long)took);
            CHECK_STR(stream_hear(c), ":\n\n");
            CHECK_INT(stats_of(&w).waiters, 1);
        }
        CHECK_INT(w.m.calls, calls);
        CHECK_INT(c->recvs, 1);
        CHECK_INT(c->sends, 1 + 6 + 1);
        publish_n(&w, "news", 2); /* none has moved the cursor */
        settle(&w);
        stream_check_ns(stream_hear(c), 2, 2);
        close_world(&w);
    }
}

/* ---- HEAD, and HTTP/1.0 ---- */

TEST(stream_of_which_only_the_head_is_asked) {
    peer *c, *d;
    answer *a, *b;
    open_world(&w);
    publish_n(&w, "news", 1);
    c = dial(&w);
    d = dial(&w);
    say(c, "HEAD /api/stream/news HTTP/1.1\r\nHost: localhost\r\n\r\n");
    get(d, "/api/stream/news");
    settle(&w);
    a = take_head(c);
    b = stream_began(d);
    CHECK_BYTES(a->head.bytes, a->head.length, b->head.bytes, b->head.length);
    CHECK_SILENT(c);
    CHECK(c->shut && !c->closed);
    CHECK_INT(c->sends, 1);
    CHECK_INT(stats_of(&w).waiters, 1);
    pass(&w, 2002);
    CHECK(c->closed);
    CHECK_INT(stats_of(&w).connections, 1);
    close_world(&w);
}

TEST(stream_over_http_1_0) {
    static const char *const asked[] = {"", "Connection: keep-alive\r\n", "Connection: close\r\n"};
    int i;
    open_world(&w);
    for (i = 0; i < 3; i++) {
        peer *c = dial(&w), *d = dial(&w);
        answer *a, *b;
        lp_slice heard;
        sayf(c, "GET /api/stream/news?last_id=now HTTP/1.0\r\n%s\r\n", asked[i]);
        get(d, "/api/stream/news?last_id=now");
        settle(&w);
        a = stream_began(c);
        b = stream_began(d);
        CHECK_BYTES(a->head.bytes, a->head.length, b->head.bytes, b->head.length);
        publish_n(&w, "news", i);
        settle(&w);
        heard = stream_hear(c);
        stream_check_ns(heard, i, i);
        CHECK_BYTES(unheard(d).bytes, unheard(d).length, heard.bytes, heard.length);
        leave(&w, c);
        leave(&w, d);
    }
    stream_check_nobody();
    close_world(&w);
}

/* ---- what the client says behind its request ---- */

TEST(stream_nothing_behind_the_request_is_read_as_one) {
    peer *c;
    int i, n;
    w.cfg.head_bytes_max = 512;
    open_world(&w);
    publish_n(&w, "news", 1);
    c = dial(&w);
    get(c, "/api/stream/news"); /* it is answered at once */
    get(c, "/nowhere");
    post(c, "/api/publish/news", "{\"n\":-1}");
    settle(&w);
    stream_began(c);
    stream_check_ns(stream_hear(c), 1, 1);
    get(c, "/nowhere");
    settle(&w);
    for (n = 2; n < 8; n++) { /* and it goes on however much that is */
        post(c, "/api/publish/news", "{\"n\":-1}");
        settle(&w);
        for (i = 0; i < 30; i++) get(c, "/api/poll/news");
        CHECK(settle(&w) < 100);
        publish_n(&w, "news", n);
        CHECK(settle(&w) < 100);
        stream_check_ns(stream_hear(c), n, n);
    }
    CHECK_INT(stats_of(&w).published, 7);
    CHECK_INT(stats_of(&w).waiters, 1);
    CHECK(w.s->hub.partial_bytes <= sizeof(lpi_request_buffer) + 512);
    pass(&w, 15002);
    CHECK_STR(stream_hear(c), ":\n\n");
    reset(c);
    settle(&w);
    stream_check_nobody();
    close_world(&w);
}

/* The other way: a stream behind other requests has its turn, and is their last. */
TEST(stream_behind_other_requests) {
    peer *c;
    int i;
    open_world(&w);
    c = dial(&w);
    park(&w, c, "/api/poll/first");
    for (i = 0; i < 12; i++) get(c, "/nowhere"); /* more than are served in a row */
    get(c, "/api/stream/news?last_id=now");
    get(c, "/nowhere");
    settle(&w);
    CHECK_SILENT(c);
    publish_n(&w, "first", 1);
    settle(&w);
    CHECK_STR(member(take(c)->body, "count"), "1");
    for (i = 0; i < 12; i++) CHECK_INT(take(c)->status, 404);
    stream_began(c);
    CHECK_SILENT(c);
    publish_n(&w, "news", 1);
    settle(&w);
    stream_check_ns(stream_hear(c), 1, 1);
    close_world(&w);
}

/* A body is read past, and a request that comes in pieces is whole in the end. */
TEST(stream_whose_request_comes_in_pieces) {
    static const char text[] = "GET /api/stream/a,b HTTP/1.1\r\nHost: localhost\r\n"
                               "X-Client-ID: somebody\r\nContent-Length: 20\r\n\r\n"
                               "GET / HTTP/1.1\r\n\r\n  GET /nowhere HTTP/1.1\r\n\r\n";
    peer *c;
    size_t i;
    open_world(&w);
    c = dial(&w);
    for (i = 0; i < sizeof text - 1; i++) {
        say_bytes(c, text + i, 1);
        settle(&w);
    }
    stream_began(c);
    CHECK_SILENT(c);
    publish_n(&w, "b", 1);
    settle(&w);
    stream_check_ns(stream_hear(c), 1, 1);
    leave(&w, c);
    stream_check_nobody();
    close_world(&w);
}

/* ---- the client is gone ---- */

static void stream_leave_by(peer *c, int how) {
    if (how) reset(c);
    else finish(c);
}

TEST(stream_that_leaves_is_free_at_once) {
    int how, told;
    for (how = 0; how < 2; how++) {
        for (told = 0; told < 3; told++) {
            peer *c;
            memset(&w, 0, sizeof w);
            open_world(&w);
            c = stream_dial("/api/stream/a,b,c");
            if (told) publish_n(&w, "b", 1);
            if (told == 1) settle(&w);
            stream_leave_by(c, how); /* parked; parked again; or as an event is to be sent */
            settle(&w);
            CHECK(c->closed);
            stream_check_nobody();
            CHECK_INT(publish_n(&w, "a", 2).waiters, 0);
            pass(&w, 100000);
            close_world(&w);
        }
    }
}

TEST(stream_that_leaves_while_it_is_written) {
    int how;
    for (how = 0; how < 2; how++) {
        peer *c;
        memset(&w, 0, sizeof w);
        open_world(&w);
        c = stream_dial("/api/stream/a,b");
        widen(c, 10);
        publish_padded(&w, "a", 2000);
        settle(&w);
        CHECK_INT(stream_phase(LPI_WRITING), 1);
        CHECK(stats_of(&w).pinned_bytes > 2000);
        stream_leave_by(c, how);
        CHECK(settle(&w) < 20); /* the end is not asked for again and again */
        CHECK_INT(c->closed, how);
        publish_n(&w, "b", 1);
        widen(c, SIZE_MAX); /* one that has only ended its side gets all that is there */
        settle(&w);
        CHECK(c->closed);
        if (!how) CHECK_INT(count_of(unheard(c), "\ndata: "), 2);
        stream_check_nobody();
        close_world(&w);
    }
}

/* The end came before the stream began, since there was a slow reply before it. */
TEST(stream_behind_a_slow_reply_and_an_end_is_not_parked) {
    peer *c;
    open_world(&w);
    publish_padded(&w, "big", 60000);
    c = dial(&w);
    widen(c, 1000);
    get(c, "/api/poll/big");
    get(c, "/api/stream/news");
    finish(c);
    settle(&w);
    widen(c, SIZE_MAX);
    settle(&w);
    CHECK_STR(member(take(c)->body, "count"), "1");
    CHECK(c->closed && !c->cut);
    stream_check_nobody();
    close_world(&w);
}

TEST(stream_whose_sends_fail) {
    static const int errors[] = {ECONNRESET, EPIPE, ETIMEDOUT, ENOBUFS};
    size_t i;
    int at;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(errors); i++) {
        for (at = 0; at < 3; at++) { /* the head, an event, a beat */
            peer *c = dial(&w);
            fault(&w, K_SEND, errors[i], at > 0, 1);
            get(c, "/api/stream/news?last_id=now");
            settle(&w);
            CHECK_INT(c->closed, !at);
            if (at == 1) publish_n(&w, "news", 1);
            if (at == 1) settle(&w);
            if (at == 2) pass(&w, 15002);
            CHECK(c->closed);
            stream_check_nobody();
        }
    }
    close_world(&w);
}

TEST(stream_whose_sends_are_interrupted) {
    static const int errors[] = {EAGAIN, EINTR};
    size_t i;
    open_world(&w);
    for (i = 0; i < LPI_COUNT(errors); i++) {
        peer *c = stream_dial("/api/stream/news?last_id=now");
        int n;
        for (n = 1; n <= 5; n++) {
            fault(&w, K_SEND, errors[i], 0, (uint32_t)n);
            publish_n(&w, "news", n);
            settle(&w);
            stream_check_ns(stream_hear(c), n, n);
        }
        leave(&w, c);
    }
    stream_check_nobody();
    close_world(&w);
}

/* A new socket has room for a head. If it has not, the client asks again. */
TEST(stream_whose_head_is_not_taken_is_closed) {
    peer *c;
    open_world(&w);
    c = dial(&w);
    widen(c, 100);
    get(c, "/api/stream/news");
    settle(&w);
    CHECK(c->closed);
    stream_check_nobody();
    publish_n(&w, "news", 1); /* but with messages it is written like any reply */
    c = dial(&w);
    widen(c, 100);
    get(c, "/api/stream/news");
    settle(&w);
    CHECK_INT(stream_phase(LPI_WRITING), 1);
    widen(c, SIZE_MAX);
    settle(&w);
    stream_began(c);
    stream_check_ns(stream_hear(c), 1, 1);
    close_world(&w);
}

TEST(stream_whose_poller_fails) {
    int at;
    for (at = 0; at < 2; at++) { /* when it would wait to write; and when it has */
        peer *c;
        memset(&w, 0, sizeof w);
        open_world(&w);
        c = stream_dial("/api/stream/news");
        widen(c, 10);
        fault(&w, K_POLLER_SET, ENOMEM, (uint32_t)at, 1);
        publish_n(&w, "news", 1);
        settle(&w);
        CHECK_INT(c->closed, !at);
        widen(c, SIZE_MAX);
        settle(&w);
        CHECK(c->closed);
        stream_check_nobody();
        pass(&w, 100000);
        close_world(&w);
    }
}

/* ---- slow readers ---- */

/* It holds what it is being sent, and nothing else, however much is published. */
TEST(stream_a_slow_reader_is_bounded_and_loses_nothing) {
    enum { N = 300 };
    peer *slow, *fast;
    uint64_t pinned = 0;
    int i;
    open_world(&w);
    slow = stream_dial("/api/stream/news");
    fast = stream_dial("/api/stream/news");
    widen(slow, 100);
    for (i = 1; i <= N; i++) {
        publish_n(&w, "news", i);
        settle(&w);
        stream_check_ns(stream_hear(fast), i, i);
        if (i == 1) pinned = stats_of(&w).pinned_bytes;
        CHECK_INT(stats_of(&w).pinned_bytes, pinned);
        CHECK_INT(stats_of(&w).waiters, 1);
    }
    CHECK(pinned > 0 && pinned < 400);
    for (i = 0; i < 20; i++) { /* in pieces of any size */
        widen(slow, 1 + unit_below(1000));
        settle(&w);
        CHECK(stats_of(&w).pinned_bytes < 100 * 200); /* a reply's */
    }
    widen(slow, SIZE_MAX);
    settle(&w);
    stream_check_ns(stream_hear(slow), 1, N);
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    CHECK_INT(stats_of(&w).waiters, 2);
    CHECK_INT(slow->recvs, 1);
    publish_n(&w, "news", N + 1);
    settle(&w);
    stream_check_ns(stream_hear(slow), N + 1, N + 1);
    close_world(&w);
}

TEST(stream_a_slow_reader_is_told_what_it_has_missed) {
    peer *slow;
    lp_slice heard, first;
    stream_event e;
    int i;
    w.cfg.history_count = 5;
    open_world(&w);
    slow = stream_dial("/api/stream/news");
    widen(slow, 100);
    for (i = 1; i <= 50; i++) publish_n(&w, "news", i), settle(&w);
    widen(slow, SIZE_MAX);
    settle(&w);
    first = heard = stream_hear(slow);
    CHECK(stream_next(&heard, &e));
    first.length -= heard.length;
    stream_check_ns(first, 1, 1);
    CHECK(stream_next(&heard, &e));
    CHECK_STR(lp_s(e.type), "reset");
    CHECK_STR(lp_s(e.data), "{\"news\":\"evicted\"}");
    stream_check_ns(heard, 46, 50);
    close_world(&w);
}

/* A stream that stalls is cut off after write_ms, and its client goes on where it was. */
TEST(stream_a_reader_that_stalls_is_cut_off) {
    peer *slow, *fast;
    lp_slice heard;
    stream_event e;
    uint64_t began;
    int i;
    open_world(&w);
    slow = stream_dial("/api/stream/news");
    fast = stream_dial("/api/stream/news");
    for (i = 1; i <= 3; i++) publish_n(&w, "news", i), settle(&w);
    pass(&w, 14000); /* the deadline is that of what it writes */
    widen(slow, 100);
    began = now_ms(&w);
    publish_n(&w, "news", 4);
    settle(&w);
    publish_n(&w, "news", 5);
    while (!slow->closed) CHECK_INT(turn(&w, 1000000), LP_OK);
    CHECK(now_ms(&w) - began >= 30000 && now_ms(&w) - began <= 30000 + TICK_MS);
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    CHECK_INT(stats_of(&w).connections, 1);
    publish_n(&w, "news", 6);
    settle(&w);
    heard = stream_hear(fast);
    for (i = 1; i <= 6; i++) {
        CHECK(stream_next(&heard, &e));
        CHECK_INT(atoi(text_of(lp_s(e.data), "n")), i);
    }
    heard = stream_hear(slow); /* of the fourth it had only a part */
    for (i = 1; i <= 3; i++) CHECK(stream_next(&heard, &e));
    CHECK(heard.length > 0 && !stream_next(&heard, &e));
    slow = dial(&w);
    stream_say(slow, "/api/stream/news", e.id);
    settle(&w);
    stream_began(slow);
    stream_check_ns(stream_hear(slow), 4, 6);
    close_world(&w);
}

/* Slow streams share what they are sent, but for those whose head was cut. */
TEST(stream_slow_readers_share_what_they_are_sent) {
    peer *c[10];
    uint64_t one;
    int i;
    stream_lift_limits();
    open_world(&w);
    for (i = 0; i < 10; i++) {
        c[i] = stream_dial("/api/stream/big");
        widen(c[i], (size_t)i * 100);
    }
    publish_padded(&w, "big", 30000);
    settle(&w);
    one = stats_of(&w).pinned_bytes;
    CHECK(one > 30000 && one < 31000);
    for (i = 0; i < 10; i++) {
        CHECK_INT(stats_of(&w).pinned_bytes, one);
        widen(c[i], SIZE_MAX);
        settle(&w);
        CHECK(has(unheard(c[i]), "xxx\"}\n\n"));
    }
    CHECK_INT(stats_of(&w).pinned_bytes, 0);
    CHECK_INT(stats_of(&w).waiters, 10);
    close_world(&w);
}

/* ---- a drain ---- */

TEST(stream_ends_cleanly_in_a_drain) {
    enum { N = 5 };
    peer *c[N], *slow, *late, *idle;
    int i, told = 0;
    stream_lift_limits();
    open_world(&w);
    publish_n(&w, "news", 1);
    for (i = 0; i < N; i++) c[i] = stream_dial("/api/stream/news?last_id=now");
    slow = stream_dial("/api/stream/big");
    widen(slow, 100);
    publish_padded(&w, "big", 5000);
    late = dial(&w);
    idle = dial(&w);
    settle(&w);
    lp_stop(w.s);
    CHECK_INT(turn(&w, 0), LP_OK);
    get(late, "/api/stream/news"); /* what is there, and no more */
    get(idle, "/api/stream/quiet");
    settle(&w);
    stream_began(late);
    stream_check_ns(stream_hear(late), 1, 1);
    stream_began(idle);
    CHECK_STR(stream_hear(idle), "");
    CHECK(late->shut && idle->shut);
    pass(&w, 500);
    publish_n(&w, "news", 2);
    settle(&w);
    for (i = 0; i < N; i++) { /* told of it, or that it was silent when its turn came */
        lp_slice heard = stream_hear(c[i]);
        CHECK(c[i]->shut && !c[i]->closed);
        if (!strncmp(heard.bytes, ":\n\n", 4)) continue;
        stream_check_ns(heard, 2, 2);
        told++;
    }
    CHECK(told > 0);
    CHECK_INT(stats_of(&w).waiters, 0);
    CHECK(!slow->shut);
    publish_n(&w, "big", 3);
    widen(slow, SIZE_MAX);
    settle(&w);
    CHECK(has(unheard(slow), "xxx\"}\n\n"));
    CHECK_INT(count_of(stream_hear(slow), "data: "), 1); /* the next one is for another server */
    CHECK(slow->shut && !slow->closed);
    for (i = 0; i < N; i++) finish(c[i]);
    finish(slow), finish(late), finish(idle);
    settle(&w);
    stream_check_nobody();
    CHECK_INT(turn(&w, 0), LP_ERR_STOPPED);
    close_world(&w);
}

/* It had just been told all, and stood in the queue to look for more. */
TEST(stream_whose_turn_comes_in_a_drain_does_not_wait) {
    enum { N = 1 + 3 * LPI_STREAM_TURNS };
    peer *c;
    int i;
    open_world(&w);
    for (i = 1; i <= N; i++) publish_n(&w, "news", i);
    c = dial(&w);
    settle(&w);
    get(c, "/api/stream/news?limit=1");
    CHECK_INT(turn(&w, 0), LP_OK);
    lp_stop(w.s);
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(stream_phase(LPI_QUEUED), 1);
    CHECK_INT(c->sends, N);
    settle(&w);
    stream_began(c);
    CHECK(c->shut && !c->closed);
    CHECK_INT(count_of(unheard(c), "data: "), N);
    CHECK_INT(stats_of(&w).waiters, 0);
    close_world(&w);
}

/* ---- memory fails ---- */

static int stream_clients;

/* Two messages, of which the first is there already, and a stream of them. Whatever fails, what
   is heard is right as far as it goes. */
static void stream_with_failures(const char *target, int held, size_t k, int for_ever) {
    peer *c;
    lp_result result;
    int n = 0;
    if (held) publish_n(&w, "a", 1), publish_n(&w, "a", 2);
    c = dial(&w);
    settle(&w);
    w.m.fail_at = w.m.calls + k;
    w.m.fail_forever = for_ever;
    get_as(c, target, "somebody");
    settle(&w);
    if (unheard(c).length && has(unheard(c), " 503 ")) {
        answer *a = take(c);
        CHECK_STR(heading(a, "Content-Type"), "application/json");
        CHECK_STR(heading(a, "Retry-After"), "5");
        CHECK_SILENT(c);
        CHECK_INT(stats_of(&w).waiters, 0);
        CHECK(w.m.failed > 0);
    } else if (unheard(c).length) {
        stream_event e;
        lp_slice heard;
        stream_began(c);
        if (!held) {
            for (n = 1; n <= 2; n++) {
                result = lp_publish(w.s, lp_s("a"), lp_s("{\"k\":1}"), NULL);
                CHECK(result == LP_OK || (w.m.failed && result == LP_ERR_NOMEM));
            }
            settle(&w);
        }
        heard = stream_hear(c);
        for (n = 0; stream_next(&heard, &e);) n += !strcmp(e.type, "message");
        CHECK_INT(heard.length, 0);
        CHECK(n == 2 || w.m.failed);
        stream_clients++;
    } else {
        CHECK(c->closed && w.m.failed > 0);
    }
    if (!c->closed) leave(&w, c);
}

TEST(stream_memory_fails_once_anywhere) {
    static const char *const targets[] = {"/api/stream/a", "/api/stream/b,a,c",
                                          "/api/stream/a,b?last_id=0123456789abcdef-1,0"};
    size_t t, k, failed;
    int held, for_ever;
    for (t = 0; t < LPI_COUNT(targets); t++) {
        for (held = 0; held < 2; held++) {
            for (for_ever = 0; for_ever < 2; for_ever++) {
                for (k = 1, failed = 1; failed; k++) {
                    peer *c;
                    memset(&w, 0, sizeof w);
                    open_world(&w);
                    stream_with_failures(targets[t], held, k, for_ever);
                    failed = w.m.failed;
                    w.m.fail_at = 0;
                    stream_check_nobody();
                    c = stream_dial("/api/stream/fresh"); /* it serves as before */
                    publish_n(&w, "fresh", 1);
                    settle(&w);
                    stream_check_ns(stream_hear(c), 1, 1);
                    leave(&w, c);
                    close_world(&w);
                }
                CHECK(k > 4); /* there were that many */
            }
        }
    }
    CHECK(stream_clients > 12);
}

/* ---- the store is elsewhere ---- */

static void stream_load(const char *name) {
    lpi_hub *hub = &w.s->hub;
    lpi_hub_lock(hub);
    store_load_channel(hub, lpi_channel_find(hub, lp_s(name), lpi_channel_hash(hub, lp_s(name)),
                                             now_ms(&w)), now_ms(&w));
    lpi_hub_unlock(hub);
}

/* Until its channels are known it may still be refused: so nothing is sent. */
TEST(stream_that_fetches_begins_when_it_is_judged) {
    peer *c, *d, *e;
    answer *a;
    w.cfg.redis_timeout_ms = 700;
    open_world(&w);
    store_open(&w.s->hub);
    c = dial(&w);
    park(&w, c, "/api/stream/a,b?last_id=0");
    d = dial(&w);
    stream_say(d, "/api/stream/a", "0123456789abcdef-7");
    settle(&w);
    CHECK_SILENT(d);
    stream_load("a");
    settle(&w);
    CHECK_SILENT(c);
    stream_began(d);
    CHECK(!memcmp(unheard(d).bytes, "event: reset\n", 13));
    CHECK_INT(count_of(stream_hear(d), "data: {\"a\":\"epoch\"}\n\n"), 1);
    stream_load("b");
    settle(&w);
    stream_began(c);
    CHECK_SILENT(c);
    e = dial(&w);
    park(&w, e, "/api/stream/away");
    pass(&w, 702);
    a = take(e);
    CHECK_INT(a->status, 503);
    CHECK_STR(heading(a, "Content-Type"), "application/json");
    CHECK_STR(heading(a, "Retry-After"), "5");
    CHECK_SILENT(e);
    CHECK(e->shut);
    CHECK_INT(w.s->hub.requested.used, 0);
    publish_n(&w, "a", 1);
    settle(&w);
    stream_check_ns(stream_hear(c), 1, 1);
    stream_check_ns(stream_hear(d), 1, 1);
    pass(&w, 15002);
    CHECK_STR(stream_hear(c), ":\n\n");
    close_world(&w);
}

/* ---- all at once ---- */

typedef struct stream_client {
    peer *c;
    char last_id[130];
    int next[3]; /* what is to come of each channel; -1: anything              */
    int begun;
} stream_client;

static void stream_client_hears(stream_client *one, int *resets) {
    static const char *const names[] = {"a", "b", "c"};
    lp_slice rest;
    stream_event e;
    int k;
    if (!one->begun) {
        if (!has(unheard(one->c), "retry: 1000\n")) return;
        stream_began(one->c);
        one->begun = 1;
    }
    rest = unheard(one->c);
    while (stream_next(&rest, &e)) {
        one->c->out_at = one->c->out_length - rest.length;
        strcpy(one->last_id, e.id);
        if (!strcmp(e.type, "reset")) {
            ++*resets;
            for (k = 0; k < 3; k++)
                if (member(lp_s(e.data), names[k]).bytes) one->next[k] = -1;
            continue;
        }
        k = *text_of(lp_s(e.data), "channel") - 'a';
        if (one->next[k] >= 0) CHECK_INT(atoi(text_of(lp_s(e.data), "n")), one->next[k]);
        one->next[k] = atoi(text_of(lp_s(e.data), "n")) + 1;
    }
}

/* Random clients, windows, losses and faults: each client is told every message once, in the
   order of each channel, or of a reset. */
TEST(stream_the_promise_holds) {
    enum { N = 10 };
    static stream_client client[N];
    int published[3] = {0}, i, k, rounds = unit_rounds(4000), resets = 0, moved = 0;
    peer *p;
    w.cfg.history_count = 12;
    w.cfg.stream_beat_ms = 900;
    stream_lift_limits();
    open_world(&w);
    for (i = 0; i < N; i++) {
        strcpy(client[i].last_id, "0");
        for (k = 0; k < 3; k++) client[i].next[k] = -1;
    }
    while (rounds--) {
        k = (int)unit_below(3);
        if (unit_one_in(2)) {
            char name[2] = {(char)('a' + k), 0};
            publish_n(&w, name, published[k]++);
        }
        i = (int)unit_below(N);
        if (!client[i].c || client[i].c->closed || client[i].c->fin) {
            char target[60];
            client[i].c = dial(&w);
            client[i].begun = 0;
            snprintf(target, sizeof target, "/api/stream/a,b,c?limit=%d", 1 + (int)unit_below(20));
            stream_say(client[i].c, target, client[i].last_id);
            moved++;
        } else if (client[i].begun) {
            switch (unit_below(8)) {
            case 0: reset(client[i].c); break;
            case 1: finish(client[i].c); break;
            case 2: get(client[i].c, "/nowhere"); break;
            case 3:
            case 4: widen(client[i].c, unit_below(500)); break;
            default: widen(client[i].c, SIZE_MAX);
            }
        }
        if (unit_one_in(30)) fault(&w, K_SEND, unit_one_in(2) ? EAGAIN : EPIPE, unit_below(4), 1);
        if (unit_one_in(10)) pass(&w, unit_below(1500));
        else if (unit_one_in(2)) settle(&w);
        for (i = 0; i < N; i++)
            if (client[i].c) stream_client_hears(&client[i], &resets);
    }
    if (unit_rounds(4000) == 4000) CHECK(resets > 10 && moved > 100);
    memset(w.k.faults, 0, sizeof w.k.faults);
    for (p = w.peers; p; p = p->next) finish(p), widen(p, SIZE_MAX);
    pass(&w, 100);
    stream_check_nobody();
    close_world(&w);
}
