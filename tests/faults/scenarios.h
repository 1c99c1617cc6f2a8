/* scenarios.h: what clients, programs and operators do. Each is run as it stands, and
   then again for everything in it that can fail. opens() makes the server; what is
   between arm() and the scenario's end may fail, one thing at a time. */

#ifndef SCENARIOS_H
#define SCENARIOS_H

static void arm(void);   /* in faults.c */
static int opens(void);  /* whether the server is there: always, if not armed */

static void starts(void) {
    opens();
    arm();
}

static void several(client **c, int n) {
    int i;
    for (i = 0; i < n; i++) c[i] = come();
    settle(&w);
}

/* Its poll is parked, under a name of its own. */
static want *parks(client *c, const char *target) {
    char name[32];
    want *a;
    snprintf(name, sizeof name, "c%d", (int)(c - clients));
    sayf(c->p, "GET %s HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: %s\r\n%s\r\n", target, name,
         extra());
    a = wants(c, 200);
    settle(&w);
    return a;
}

/* ---- creating ---- */

static void create_with_defaults(void) {
    arm();
    opens();
}

static void create_with_everything(void) {
    w.cfg.host = "::1";
    w.cfg.prefix = "/a/longer/prefix";
    w.cfg.hosts = "a.example, b.example,c.example";
    w.cfg.cors = "https://a.example,https://b.example";
    w.cfg.trusted_proxies = "10.0.0.0/8,fd00::/8";
    w.cfg.publish_token = "secret";
    run.prefix = w.cfg.prefix;
    run.extra = "Authorization: Bearer secret\r\n";
    arm();
    opens();
}

static void hook(lp_request *r, void *ctx) {
    lp_slice x = lp_query(r, "x"), room = lp_param(r, "room"), from = lp_client(r);
    CHECK(ctx == &w);
    if (!room.bytes || !from.bytes || !x.bytes) {
        lp_reply_error(r, 503, "Out of memory");
        return;
    }
    lp_reply_header(r, "X-Room", room);
    lp_reply_header(r, "Cache-Control", lp_s("max-age=5"));
    lp_reply(r, 200, "text/plain", x);
}

static void routes_are_added(void) {
    static const char *const patterns[] = {"/one", "/rooms/{room}", "/three/{a}/{b}/c"};
    int there[3], i;
    client *c;
    starts();
    for (i = 0; i < 3; i++) {
        lp_result result = lp_on(w.s, "GET", patterns[i], hook, &w);
        if (run.clean) CHECK_INT(result, LP_OK);
        CHECK(result == LP_OK || result == LP_ERR_NOMEM);
        there[i] = result == LP_OK;
    }
    c = come();
    asks(c, there[1] ? 200 : 404, "/rooms/a%%20b?x=1");
    settle(&w);
}

/* ---- polls ---- */

static void a_poll_is_answered_at_once(void) {
    opens();
    tells("a");
    tells("a");
    arm();
    asks(come(), 200, "/api/poll/a");
    settle(&w);
}

static void a_poll_with_no_wait(void) {
    starts();
    asks(come(), 200, "/api/poll/a?timeout=0");
    settle(&w);
}

static void a_parked_poll_is_woken(void) {
    client *c;
    starts();
    c = come();
    parks(c, "/api/poll/a");
    tells("a");
    settle(&w);
}

/* What a fault left of a stream: whole events, or one that is cut off by the end; each message is
   the next of its channel. It may not have begun, or have been refused. */
static void check_events(peer *p) {
    lp_slice text = unheard(p);
    const char *at = text.bytes, *end = text.bytes + text.length;
    uint64_t epoch = 0, seq = 0;
    CHECK(!run.clean || has(text, "\"channel\":\"a\"")); /* with no fault it is there */
    while (at && (at = (const char *)memmem(at, (size_t)(end - at), "\nid: ", 5)) != NULL) {
        uint64_t e, s;
        at += 5;
        if (end - at < 60 || !memmem(at, (size_t)(end - at), "\n\n", 2)) return;
        CHECK(!lpi_parse_epoch(at, &e) && at[16] == '-');
        s = strtoull(at + 17, NULL, 10);
        if (epoch) CHECK(e == epoch && s == seq + 1);
        epoch = e;
        seq = s;
    }
}

static void a_stream(void) {
    peer *p;
    starts();
    p = dial(&w);
    sayf(p, "GET /api/stream/a?last_id=0 HTTP/1.1\r\nHost: localhost\r\n%s\r\n", extra());
    settle(&w);
    tells("a");
    settle(&w);
    tells("a");
    tells("a");
    settle(&w);
    pass(&w, 16000);
    tells("a");
    settle(&w);
    check_events(p);
}

static void a_stream_of_several_channels(void) {
    peer *p;
    opens();
    tells("a");
    tells("b");
    arm();
    p = dial(&w);
    sayf(p, "GET /api/stream/a,b?limit=1 HTTP/1.0\r\nHost: localhost\r\nX-Client-ID: me\r\n%s\r\n", extra());
    settle(&w);
    tells("b");
    settle(&w);
    CHECK(!run.clean || has(unheard(p), "\"channel\":\"b\""));
}

static void a_parked_poll_times_out(void) {
    client *c;
    starts();
    c = come();
    parks(c, "/api/poll/a?timeout=2");
    pass(&w, 2100);
}

static void several_channels_at_once(void) {
    opens();
    tells("a");
    tells("c");
    tells("a");
    arm();
    asks(come(), 200, "/api/poll/a,b,%%63?last_id=0");
    settle(&w);
}

static void several_channels_parked(void) {
    client *c[3];
    starts();
    several(c, 3);
    parks(c[0], "/api/poll/a,b,%63?timeout=5");
    parks(c[1], "/api/poll/b,d?timeout=1");
    parks(c[2], "/api/poll/c,a?timeout=5&last_id=now");
    tells("c");
    settle(&w);
    pass(&w, 1100);
    tells("b");
    tells("a");
    settle(&w);
}

static void sixteen_channels(void) {
    client *c;
    starts();
    c = come();
    parks(c, "/api/poll/a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p?timeout=3");
    tells("p");
    tells("e");
    settle(&w);
}

static void a_backlog_in_several_replies(void) {
    follower *f;
    int i;
    opens();
    for (i = 0; i < 7; i++) tells("a");
    w.s->config.reply_messages = 2;
    arm();
    f = follows("a", 0);
    for (i = 0; i < 5; i++) {
        follow(f);
        settle(&w);
    }
}

static void only_what_comes_from_now_on(void) {
    client *c;
    opens();
    tells("a");
    arm();
    c = come();
    parks(c, "/api/poll/a?last_id=now");
    tells("a");
    settle(&w);
}

static void replies_cut_by_bytes(void) {
    int i;
    w.cfg.reply_bytes_max = 3000;
    opens();
    for (i = 0; i < 4; i++) tells_with("a", 2000, 0);
    arm();
    follows("a", 0);
    for (i = 0; i < 5; i++) follow_all();
}

static void long_names_and_queries(void) {
    static char text[2200];
    client *c;
    size_t i;
    starts();
    c = come();
    strcpy(text, "/api/poll/");
    for (i = strlen(text); i < 700; i += 3) memcpy(text + i, "%61", 3);
    strcpy(text + i, "?t%69meout=%30&limit=%31%30&other=");
    i = strlen(text);
    memset(text + i, 'y', 1200);
    text[i + 1200] = 0;
    asks(c, 200, "%s", text);
    settle(&w);
}

/* ---- resets ---- */

static void a_cursor_that_was_evicted(void) {
    client *c;
    char cursor[60];
    int i;
    run.resets = run.lossy = 1;
    w.cfg.history_count = 3;
    opens();
    tells("a");
    c = come();
    asks(c, 200, "/api/poll/a");
    settle(&w);
    strcpy(cursor, last_id_of(c));
    for (i = 0; i < 6; i++) tells("a");
    arm();
    asks(come(), 200, "/api/poll/a?last_id=%s", cursor);
    settle(&w);
}

static void a_cursor_of_another_epoch(void) {
    run.resets = 1;
    starts();
    asks(come(), 200, "/api/poll/a,b?last_id=0123456789abcdef-4,fedcba9876543210-1");
    tells("a");
    settle(&w);
    asks(come(), 200, "/api/poll/a?last_id=0123456789abcdef-4");
    settle(&w);
}

static void a_cursor_that_is_ahead(void) {
    client *c;
    char cursor[60];
    run.resets = 1;
    opens();
    tells("a");
    c = come();
    asks(c, 200, "/api/poll/a");
    settle(&w);
    strcpy(cursor, last_id_of(c));
    strcpy(strchr(cursor, '-'), "-99");
    arm();
    asks(come(), 200, "/api/poll/a?last_id=%s", cursor);
    settle(&w);
}

static void evicted_while_parked(void) {
    client *c;
    int i;
    run.resets = run.lossy = 1;
    w.cfg.history_count = 2;
    starts();
    c = come();
    parks(c, "/api/poll/a,b?timeout=9");
    for (i = 0; i < 4; i++) tells("a");
    settle(&w);
}

/* ---- the basic dialect ---- */

static void the_basic_dialect(void) {
    int i;
    opens();
    tells("a");
    tells("a");
    arm();
    follows("a", 1);
    for (i = 0; i < 3; i++) follow_all();
    tells("a");
    settle(&w);
    follow_all();
}

static void a_basic_reset_is_parked(void) {
    client *c;
    run.resets = 1;
    starts();
    c = come();
    parks(c, "/api/poll/a?since=7&timeout=2");
    pass(&w, 2100);
    parks(c, "/api/poll/a?since=7&timeout=2");
    tells("a");
    settle(&w);
}

/* ---- publishing ---- */

static void a_small_publish(void) {
    starts();
    publishes(come(), 200, "a", 0);
    settle(&w);
}

static void a_publish_that_wakes(void) {
    client *c[2];
    starts();
    several(c, 2);
    parks(c[0], "/api/poll/a");
    publishes(c[1], 200, "a", 20);
    settle(&w);
}

static void a_chunked_publish(void) {
    client *c;
    starts();
    c = come();
    sayf(c->p, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
               "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
               "6;x=y\r\n{\"n\":%d\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n", announce("a"));
    wants(c, 200)->n = run.send_count;
    settle(&w);
}

static void a_chunked_publish_in_pieces(void) {
    client *c;
    int n, i;
    starts();
    c = come();
    settle(&w);
    n = announce("a");
    wants(c, 200)->n = n;
    say(c->p, "POST /api/publish/a HTTP/1.1\r\nHost: loc");
    settle(&w);
    say(c->p, "alhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5");
    settle(&w);
    sayf(c->p, "\r\n{\"n\":\r\n1\r");
    settle(&w);
    sayf(c->p, "\n%d\r\n12c\r\n", n);
    for (i = 0; i < 3; i++) {
        sayf(c->p, "%100s", "");
        settle(&w);
    }
    say(c->p, "\r\n1\r\n}\r\n0\r\n\r");
    settle(&w);
    say(c->p, "\n");
    settle(&w);
}

static void a_publish_in_small_packets(void) {
    client *c;
    starts();
    c = come();
    c->p->piece = 31;
    publishes(c, 200, "a", 60);
    publishes(c, 200, "a", 60);
    settle(&w);
}

static void a_large_publish(void) {
    client *c[2];
    starts();
    several(c, 2);
    parks(c[0], "/api/poll/a");
    c[1]->p->piece = 9000;
    publishes(c[1], 200, "a", 60000);
    settle(&w);
}

static void a_publish_that_expects_100(void) {
    client *c;
    int n;
    starts();
    c = come();
    n = announce("a");
    say(c->p, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
              "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n");
    wants(c, 200)->n = n;
    settle(&w);
    hear(c);
    if (run.clean) CHECK_INT(c->continues, 1);
    sayf(c->p, "{\"n\":%d,\"pad\":\"xxxx\"}", n);
    settle(&w);
}

static void publishes_that_are_refused(void) {
    client *c[3];
    starts();
    several(c, 3);
    say(c[0]->p, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
                 "Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"n\":1]");
    wants(c[0], 400)->text = "{\"error\":\"Not a JSON object, at byte 6\"}";
    say(c[1]->p, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
                 "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}");
    wants(c[1], 415);
    say(c[2]->p, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
                 "Content-Type: application/json\r\nContent-Length: 70000\r\n\r\n{");
    wants(c[2], 413);
    settle(&w);
    say(c[2]->p, "\"n\":1}");
    settle(&w);
    finish(c[2]->p);
    settle(&w);
}

static void a_chunked_publish_that_is_too_large(void) {
    client *c;
    w.cfg.message_bytes_max = 100;
    starts();
    c = come();
    say(c->p, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
              "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n");
    settle(&w);
    sayf(c->p, "{%63s\r\n40\r\n%64s\r\n0\r\n\r\n", "", "");
    wants(c, 413);
    settle(&w);
    finish(c->p);
    settle(&w);
}

static void publishing_with_a_token(void) {
    client *c[2];
    w.cfg.publish_token = "secret";
    starts();
    several(c, 2);
    publishes(c[0], 401, "a", 0);
    run.extra = "Authorization: Bearer secret\r\n";
    publishes(c[1], 200, "a", 0);
    settle(&w);
}

static void polls_and_publishing_with_signed_tokens(void) {
    static char line[TOKEN_ROOM + 40], target[TOKEN_ROOM + 40], token[TOKEN_ROOM];
    client *c[5];
    w.cfg.token_secret = token_secret;
    starts();
    several(c, 5);
    asks(c[0], 401, "/api/poll/a");
    token_sign(token, token_secret, token_header,
               "{\"exp\":9999999999,\"channels\":[\"a\",\"b*\",\"fresh\"],"
               "\"actions\":[\"poll\",\"publish\"]}");
    sprintf(target, "/api/poll/b%%62?access_token=%s&timeout=1", token);
    parks(c[1], target);
    sprintf(line, "Authorization: Bearer %s\r\n", token);
    run.extra = line;
    parks(c[2], "/api/poll/a");
    asks(c[0], 403, "/api/poll/a,c");
    publishes(c[3], 200, "a", 0);
    settle(&w);
    token_sign(token, token_secret, token_header,
               "{\"exp\":1,\"channels\":[\"*\"],\"actions\":[\"poll\"]}");
    sprintf(target, "Authorization: Bearer %s\r\n", token);
    run.extra = target;
    asks(c[4], 401, "/api/poll/a");
    settle(&w);
    run.extra = line; /* for what comes after */
    pass(&w, 1100);
}

static void published_by_the_program(void) {
    client *c[2];
    int i;
    starts();
    several(c, 2);
    parks(c[0], "/api/poll/a,b");
    for (i = 0; i < 18; i++) tells("a"); /* so that the ring grows */
    tells_with("b", 3000, 0);
    settle(&w);
    parks(c[1], "/api/poll/b");
    settle(&w);
}

/* All of an array is published, or nothing. */
static void arrays(void) {
    client *c[3];
    starts();
    several(c, 3);
    parks(c[0], "/api/poll/a");
    parks(c[1], "/api/poll/a,b");
    tells_array("a", 3);
    settle(&w);
    publishes_array(c[2], 200, "a", 10); /* so that the ring grows */
    publishes_array(c[2], 200, "b", 1);
    settle(&w);
}

static uint64_t told_after;

static void count_after(void *ctx, const lp_message *message) {
    (void)ctx;
    CHECK(lp_json_check(message->json, NULL) == LP_OK);
    told_after++;
}

/* What is published is another text, and so is made anew. */
static int copy_before(void *ctx, lp_request *r, lp_slice channel, lp_slice *json,
                       const char **text) {
    static char copy[70000];
    (void)ctx, (void)r, (void)channel, (void)text;
    memcpy(copy, json->bytes, json->length);
    json->bytes = copy;
    return 0;
}

/* Of what was published all is told, and nothing else. */
static void hooks_on_messages(void) {
    client *c[2];
    w.cfg.before_publish.ask = copy_before;
    w.cfg.after_publish.tell = count_after;
    told_after = 0;
    starts();
    several(c, 2);
    parks(c[0], "/api/poll/a");
    tells_array("a", 3);
    tells_async("b");
    settle(&w);
    publishes_array(c[1], 200, "a", 10);
    publishes(c[1], 200, "b", 40);
    settle(&w);
    if (!w.s->hub.first_untold) CHECK_INT(told_after, stats_of(&w).published);
}

/* ---- administration ---- */

static const char bearer[] = "Authorization: Bearer secret\r\n";

/* What is held is dropped, and who waits is told; or nothing has changed. */
static void deletions(void) {
    client *c[4];
    lp_result result;
    want *a;
    w.cfg.admin_token = "secret";
    run.resets = run.lossy = 1;
    run.extra = bearer;
    starts();
    several(c, 4);
    tells("a");
    tells("a");
    parks(c[0], "/api/poll/a?last_id=now");
    parks(c[1], "/api/poll/a,b?last_id=now");
    settle(&w);
    result = lp_channel_delete(w.s, lp_s("a"));
    if (run.clean) CHECK_INT(result, LP_OK);
    CHECK(result == LP_OK || result == LP_ERR_OS || result == LP_ERR_NOT_FOUND);
    settle(&w);
    if (run.clean) CHECK(has(unheard(c[0]->p), "\"reset\":{\"a\":\"epoch\"}"));
    tells("a");
    parks(c[2], "/api/poll/a?last_id=now");
    sayf(c[3]->p, "DELETE /api/channels/a HTTP/1.1\r\nHost: localhost\r\n%s\r\n", bearer);
    a = wants(c[3], 200);
    a->may = 404;
    a->text = "{\"status\":\"deleted\"}";
    settle(&w);
    asks(c[3], 200, "/api/channels/a")->may = 404;
    asks(c[3], 200, "/api/channels");
    settle(&w);
}

/* Has the client of that name a receipt for the message? */
static int has_receipt(const char *id, const char *name, int *complete) {
    lp_receipts page;
    uint32_t i;
    memset(&page, 0, sizeof page);
    *complete = 0;
    if (lp_receipts_read(w.s, lp_s("a"), lp_s(id), &page) != LP_OK) return 0;
    *complete = page.complete;
    for (i = 0; i < page.count; i++)
        if (!strcmp(page.client_ids[i], name)) return 1;
    return 0;
}

/* Whoever has the last byte of a reply to the message has a receipt, or it is told that some are
   missing; nobody else has. */
static void check_receipts_of(const char *id, client *const *c, int count) {
    int i, complete;
    char name[16];
    for (i = 0; i < count && *id; i++) {
        lp_slice text = unheard(c[i]->p);
        int heard = memmem(text.bytes, text.length, "]}", 2) != NULL, has_it;
        sprintf(name, "r%d", i);
        has_it = has_receipt(id, name, &complete);
        if (has_it && !heard) COMPLAIN("%s has a receipt, and not the reply", name);
        if (heard && !has_it && complete) COMPLAIN("%s has the reply, and no receipt", name);
    }
}

/* The third to be handed the message is one too many. */
static void receipts(void) {
    client *c[3];
    const char *id = run.sends[1].id;
    int i, complete;
    w.cfg.track_receipts = 2;
    w.cfg.admin_token = "secret";
    run.extra = bearer;
    starts();
    several(c, 3);
    c[1]->p->window = 150;
    c[2]->p->window = 150;
    for (i = 0; i < 3; i++) {
        sayf(c[i]->p, "GET /api/poll/a HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: r%d\r\n\r\n", i);
        wants(c[i], 200);
        settle(&w);
    }
    tells("a");
    settle(&w);
    widen(c[1]->p, SIZE_MAX);
    settle(&w);
    check_receipts_of(id, c, 3);
    if (run.clean) CHECK(has_receipt(id, "r0", &complete) && has_receipt(id, "r1", &complete) && complete);
    widen(c[2]->p, SIZE_MAX);
    settle(&w);
    check_receipts_of(id, c, 3);
    if (run.clean) CHECK(has_receipt(id, "r2", &complete) && !complete);
    if (*id) asks(come(), 200, "/api/receipts/a/%s", id);
    settle(&w);
}

static void told_of_later(void) {
    int i;
    starts();
    parks(come(), "/api/poll/a");
    for (i = 0; i < 3; i++) tells_async("a");
    tells_async("b");
    settle(&w);
    CHECK_INT(run.async_told, run.async_asked);
}

/* ---- one connection, many requests ---- */

static void pipelined_requests(void) {
    client *c;
    int i;
    opens();
    tells("a");
    arm();
    c = come();
    for (i = 0; i < 20; i++) { /* more than one turn's */
        if (i % 4 == 1) asks(c, 200, "/api/poll/a");
        else if (i % 4 == 3) publishes(c, 200, "b", 4);
        else asks(c, 404, "/nowhere");
    }
    settle(&w);
}

static void pipelined_behind_a_parked_poll(void) {
    client *c;
    starts();
    c = come();
    parks(c, "/api/poll/a?timeout=3");
    asks(c, 404, "/nowhere");
    settle(&w);
    publishes(c, 200, "b", 9);
    asks(c, 200, "/api/poll/b?timeout=0");
    settle(&w);
    tells("a");
    settle(&w);
}

static void too_much_behind_a_parked_poll(void) {
    client *c;
    int i;
    w.cfg.head_bytes_max = 512;
    starts();
    c = come();
    parks(c, "/api/poll/a?timeout=3");
    for (i = 0; i < 25; i++) asks(c, 404, "/nowhere");
    settle(&w);
    tells("a");
    settle(&w);
}

static void http_1_0_and_close(void) {
    client *c[2];
    starts();
    several(c, 2);
    say(c[0]->p, "GET /api/poll/a?timeout=0 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    wants(c[0], 200);
    say(c[0]->p, "GET /api/poll/a?timeout=0 HTTP/1.0\r\n\r\n");
    wants(c[0], 200);
    say(c[1]->p, "GET /api/poll/a?timeout=1 HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n");
    wants(c[1], 200);
    settle(&w);
    pass(&w, 1100);
    finish(c[0]->p);
    finish(c[1]->p);
    settle(&w);
}

/* ---- those who leave ---- */

static void half_closed_behind_a_request(void) {
    client *c[3];
    opens();
    tells("a");
    arm();
    several(c, 3);
    asks(c[0], 200, "/api/poll/a");
    publishes(c[1], 200, "a", 9);
    say(c[2]->p, "GET / HT");
    finish(c[0]->p);
    finish(c[1]->p);
    finish(c[2]->p);
    settle(&w);
}

static void half_closed_while_parked(void) {
    client *c;
    starts();
    c = come();
    parks(c, "/api/poll/a,b")->lost = 1;
    finish(c->p);
    settle(&w);
    tells("a");
    settle(&w);
}

static void reset_while_parked(void) {
    client *c[2];
    starts();
    several(c, 2);
    parks(c[0], "/api/poll/a,b")->lost = 1;
    parks(c[1], "/api/poll/a");
    reset(c[0]->p);
    tells("a");
    settle(&w);
}

static void reset_while_writing(void) {
    client *c[2];
    opens();
    tells_with("big", 30000, 0);
    arm();
    several(c, 2);
    c[0]->p->window = 700;
    c[1]->p->window = 10;
    asks(c[0], 200, "/api/poll/big")->lost = 1;
    asks(c[1], 200, "/api/poll/big")->lost = 1;
    settle(&w);
    reset(c[0]->p);
    reset(c[1]->p);
    settle(&w);
}

static void reset_in_a_body(void) {
    client *c;
    starts();
    c = come();
    say(c->p, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
              "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{");
    settle(&w);
    reset(c->p);
    settle(&w);
}

/* ---- those who read slowly ---- */

static void widen_bit_by_bit(client **c, int n, size_t bytes) {
    int i, rounds;
    for (rounds = 0; rounds < 4; rounds++) {
        for (i = 0; i < n; i++) widen(c[i]->p, bytes);
        settle(&w);
    }
    for (i = 0; i < n; i++) widen(c[i]->p, SIZE_MAX);
    settle(&w);
}

static void a_slow_reader(void) {
    client *c;
    opens();
    tells_with("big", 30000, 0);
    arm();
    c = come();
    c->p->window = 20;
    asks(c, 200, "/api/poll/big");
    asks(c, 404, "/nowhere");
    settle(&w);
    widen_bit_by_bit(&c, 1, 5000);
}

static void slow_readers_share_a_blob(void) {
    client *c[4];
    int i;
    starts();
    several(c, 4);
    for (i = 0; i < 4; i++) {
        c[i]->p->window = i ? 400 : 30;
        parks(c[i], "/api/poll/big");
    }
    tells_with("big", 8000, 0);
    settle(&w);
    widen_bit_by_bit(c, 4, 1500);
}

static void a_slow_reader_is_cut_off(void) {
    client *c;
    opens();
    tells_with("big", 30000, 0);
    arm();
    c = come();
    c->p->window = 1000;
    asks(c, 200, "/api/poll/big")->lost = 1;
    settle(&w);
    pass(&w, 31000);
    CHECK(c->p->closed || !c->p->accepted || !run.clean);
}

static void a_slow_reader_half_closes(void) {
    client *c;
    opens();
    tells_with("big", 30000, 0);
    arm();
    c = come();
    c->p->window = 1000;
    asks(c, 200, "/api/poll/big");
    asks(c, 200, "/api/poll/big?timeout=0");
    finish(c->p);
    settle(&w);
    widen_bit_by_bit(&c, 1, 9000);
}

/* ---- deadlines ---- */

static void a_head_that_does_not_end(void) {
    client *c[2];
    starts();
    several(c, 2);
    say(c[0]->p, "GET /api/poll/a HTTP/1.1\r\nHo");
    wants(c[0], 408);
    run.patience_ms = 10100;
    settle(&w);
    pass(&w, 10100); /* the other never speaks */
    CHECK(!run.clean || c[1]->p->closed);
    finish(c[0]->p);
    settle(&w);
}

static void a_body_that_does_not_end(void) {
    client *c;
    starts();
    c = come();
    say(c->p, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
              "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"n\"");
    wants(c, 408);
    run.patience_ms = 30100;
    settle(&w);
    pass(&w, 30100);
    pass(&w, 2100); /* nor does it close */
    CHECK(!run.clean || c->p->closed);
}

static void an_idle_connection(void) {
    client *c;
    starts();
    c = come();
    asks(c, 404, "/nowhere");
    settle(&w);
    pass(&w, 75100);
    CHECK(!run.clean || c->p->closed);
}

/* ---- routes of the program ---- */

static void a_route_of_the_program(void) {
    client *c;
    opens();
    CHECK_INT(lp_on(w.s, "GET", "/rooms/{room}", hook, &w), LP_OK);
    arm();
    c = come();
    asks(c, 200, "/rooms/a%%20b?y=2&%%78=hello%%21+you")->text = "hello! you";
    asks(c, 404, "/rooms/");
    settle(&w);
}

static void echo(lp_request *r, void *ctx) {
    char value[400];
    int i;
    (void)ctx;
    for (i = 0; i < 6; i++) {
        char name[20];
        snprintf(name, sizeof name, "X-Field-%d", i);
        memset(value, 'v', sizeof value);
        if (lp_reply_header(r, name, lpi_slice(value, sizeof value)) != LP_OK) {
            lp_reply_error(r, 503, "Out of memory");
            return;
        }
    }
    lp_reply(r, 200, "text/plain", lp_body(r));
}

static void large_bodies_and_many_fields(void) {
    static char body[20001];
    client *c;
    int i;
    opens();
    CHECK_INT(lp_on(w.s, "PUT", "/echo", echo, NULL), LP_OK);
    arm();
    memset(body, 'b', 20000);
    c = come();
    c->p->piece = 7000;
    c->p->window = 9000;
    say(c->p, "PUT /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (i = 0; i < 4; i++) {
        sayf(c->p, "%x\r\n", 5000);
        say_bytes(c->p, body, 5000);
        say(c->p, "\r\n");
    }
    say(c->p, "0\r\n\r\n");
    wants(c, 200)->text = body;
    settle(&w);
    widen_bit_by_bit(&c, 1, 4000);
}

static void emits(lp_request *r, void *ctx) {
    lp_json j;
    int i;
    (void)ctx;
    lp_json_init(&j, &w.cfg.memory);
    lp_json_array(&j);
    for (i = 0; i < 400; i++) lp_json_int(&j, i);
    lp_json_end(&j);
    if (j.text.failed) lp_reply_error(r, 503, "Out of memory");
    else lp_reply(r, 200, "application/json", lp_json_text(&j));
    lp_json_free(&j);
    tells("from-handler");
}

static void a_handler_that_emits_and_publishes(void) {
    client *c[2];
    opens();
    CHECK_INT(lp_on(w.s, "GET", "/list", emits, NULL), LP_OK);
    arm();
    several(c, 2);
    parks(c[0], "/api/poll/from-handler");
    asks(c[1], 200, "/list");
    settle(&w);
}

static void serves_page(lp_request *r, void *ctx) {
    (void)ctx;
    lp_reply_asset(r, "page.html", lp_s("a page"));
}

/* From the top of the checkout, where the tests are run. */
static void serves_file(lp_request *r, void *ctx) {
    (void)ctx;
    lp_reply_file(r, "tests/faults", lp_param(r, "path"));
}

static void a_page_and_a_file(void) {
    client *c;
    opens();
    CHECK_INT(lp_on(w.s, "GET", "/page", serves_page, NULL), LP_OK);
    CHECK_INT(lp_on(w.s, "GET", "/files/{path...}", serves_file, NULL), LP_OK);
    arm();
    c = come();
    asks(c, 200, "/page")->text = "a page";
    asks(c, 200, "/files/%%77itness.h");
    asks(c, 404, "/files/nowhere");
    settle(&w);
    c = come();
    c->p->window = 9000;
    asks(c, 200, "/files/witness.h");
    settle(&w);
    widen_bit_by_bit(&c, 1, 4000);
}

static void silent(lp_request *r, void *ctx) { (void)r, (void)ctx; }

static void a_handler_without_an_answer(void) {
    opens();
    CHECK_INT(lp_on(w.s, "GET", "/silent", silent, NULL), LP_OK);
    arm();
    asks(come(), 500, "/silent");
    settle(&w);
}

/* ---- other methods, other answers ---- */

static void head_requests(void) {
    client *c;
    opens();
    tells("a");
    arm();
    c = come();
    say(c->p, "HEAD /api/poll/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
              "HEAD /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wants(c, 200)->bodiless = 1;
    wants(c, 404)->bodiless = 1;
    asks(c, 404, "/nowhere");
    settle(&w);
}

static void preflights_and_origins(void) {
    client *c[3];
    w.cfg.cors = "https://a.example,https://b.example";
    starts();
    several(c, 3);
    say(c[0]->p, "OPTIONS /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
                 "Origin: https://b.example\r\nAccess-Control-Request-Method: POST\r\n\r\n"
                 "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wants(c[0], 204)->bodiless = 1;
    wants(c[0], 204)->bodiless = 1;
    say(c[1]->p, "GET /api/poll/a HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.example\r\n\r\n");
    wants(c[1], 200);
    settle(&w);
    say(c[2]->p, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nOrigin: https://c.example\r\n"
                 "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    wants(c[2], 403);
    tells("a");
    settle(&w);
    if (run.clean) {
        hear(c[1]);
        CHECK_STR(heading(w.answers, "Access-Control-Allow-Origin"), "https://a.example");
    }
}

static void wrong_places_and_methods(void) {
    client *c;
    starts();
    c = come();
    asks(c, 404, "/nowhere");
    asks(c, 405, "/api/publish/a");
    asks(c, 400, "/api/poll/a?timeout=x");
    asks(c, 400, "/api/poll/a,a");
    asks(c, 400, "/api/poll/a?last_id=1");
    settle(&w);
}

static void heads_that_are_too_large(void) {
    client *c[2];
    w.cfg.head_bytes_max = 300;
    starts();
    several(c, 2);
    sayf(c[0]->p, "GET /%400s HTTP/1.1\r\n", "x");
    c[0]->p->in[5] = 'x';
    memset(c[0]->p->in + 5, 'x', 400);
    wants(c[0], 414);
    sayf(c[1]->p, "GET / HTTP/1.1\r\nHost: localhost\r\nX: %300s\r\n\r\n", "x");
    wants(c[1], 431);
    settle(&w);
    say(c[0]->p, "more that is not read as a request");
    settle(&w);
    finish(c[0]->p);
    finish(c[1]->p);
    settle(&w);
}

static void no_request_at_all(void) {
    client *c[2];
    starts();
    several(c, 2);
    say(c[0]->p, "\x16\x03\x01 hello\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wants(c[0], 400);
    settle(&w);
    pass(&w, 2100);
    say(c[1]->p, "GET / HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n");
    wants(c[1], 421);
    settle(&w);
}

/* ---- limits ---- */

static void a_client_with_too_many_polls(void) {
    client *c[5];
    int i;
    w.cfg.waiters_per_client = 3;
    starts();
    several(c, 5);
    for (i = 0; i < 5; i++) {
        asks(c[i], i < 3 ? 200 : 429, "/api/poll/a?timeout=2")->may = 200;
        settle(&w);
    }
    pass(&w, 2100);
}

static void a_channel_with_too_many_polls(void) {
    client *c[4];
    int i;
    w.cfg.waiters_per_channel = 2;
    w.cfg.waiters_max = 3;
    starts();
    several(c, 4);
    for (i = 0; i < 3; i++) {
        want *a = parks(c[i], "/api/poll/a?timeout=2");
        a->status = i < 2 ? 200 : 429;
        a->may = 200;
    }
    parks(c[2], "/api/poll/b?timeout=2");
    parks(c[3], "/api/poll/c?timeout=2")->status = 429;
    c[3]->wants[0].may = 200;
    tells("a");
    settle(&w);
    pass(&w, 2100);
}

static void too_many_connections(void) {
    client *c[4];
    int i;
    w.cfg.connections_max = 2;
    starts();
    several(c, 4);
    for (i = 0; i < 4; i++) asks(c[i], i < 2 ? 404 : 503, "/nowhere")->may = 404;
    settle(&w);
    if (run.clean) CHECK(c[3]->p->closed);
}

static void too_many_connections_from_an_address(void) {
    client *c[4];
    int i;
    w.cfg.connections_per_address = 2;
    starts();
    several(c, 4);
    for (i = 0; i < 4; i++) asks(c[i], i < 2 ? 404 : 503, "/nowhere")->may = 404;
    settle(&w);
    if (run.clean) CHECK(c[3]->p->closed);
}

/* The shares of one address: a partial request, and a reply that is not read. */
static void an_address_beyond_its_shares(void) {
    client *c[6];
    int i;
    run.lossy = run.resets = 1;
    w.cfg.partial_bytes_max = 65536;
    w.cfg.history_bytes = 100000;
    starts();
    several(c, 6);
    for (i = 0; i < 3; i++) {
        c[i]->p->window = 400;
        parks(c[i], "/api/poll/a");
    }
    for (i = 0; i < 3; i++) {
        tells_with("a", 4000, 0);
        settle(&w);
    }
    for (i = 3; i < 6; i++) {
        sayf(c[i]->p, "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nX: %4000s", "");
        wants(c[i], 503)->may = 408;
        settle(&w);
    }
    for (i = 0; i < 3; i++) widen(c[i]->p, SIZE_MAX);
    for (i = 3; i < 6; i++) finish(c[i]->p);
    for (i = 3; i < 6; i++) c[i]->wants[0].lost = 1;
    settle(&w);
}

static void a_full_channel_table(void) {
    client *c[4];
    int i;
    w.cfg.channels_max = 3;
    run.full = run.resets = 1;
    starts();
    several(c, 4);
    tells_with("a", 0, 1);
    asks(c[0], 200, "/api/poll/idle?timeout=0");
    settle(&w);
    tells_with("b", 0, 1);
    asks(c[1], 200, "/api/poll/c?timeout=0"); /* idle is forgotten */
    settle(&w);
    tells_with("c", 0, 1);
    parks(c[2], "/api/poll/a,d?timeout=2")->status = 503;
    c[2]->wants[0].may = 200;
    publishes(c[3], 503, "e", 0)->may = 200;
    settle(&w);
    for (i = 0; i < 2; i++) tells_with("a", 0, 1);
    settle(&w);
}

static void partial_requests_beyond_their_bound(void) {
    client *c[12];
    int i;
    w.cfg.partial_bytes_max = 65536;
    w.cfg.trusted_proxies = "127.0.0.1"; /* who may have all of it */
    starts();
    several(c, 12);
    for (i = 0; i < 12; i++) {
        want *a;
        say(c[i]->p, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
                     "Content-Type: application/json\r\nContent-Length: 9000\r\n\r\n{");
        sayf(c[i]->p, "%4000s", "");
        sayf(c[i]->p, "%4000s", "");
        a = wants(c[i], 408);
        a->lost = i > 2;
        a->may = 503;
        if (i > 3) a->status = 503;
        settle(&w);
    }
    for (i = 0; i < 12; i++) finish(c[i]->p);
    for (i = 0; i < 12; i++) c[i]->wants[0].lost = 1;
    settle(&w);
}

/* ---- history ---- */

static void history_by_count(void) {
    int i;
    run.lossy = 1;
    w.cfg.history_count = 4;
    starts();
    follows("a", 0);
    for (i = 0; i < 9; i++) {
        follow_all();
        tells("a");
        settle(&w);
    }
    run.resets = 1; /* for one who lags */
    asks(come(), 200, "/api/poll/a?limit=2");
    settle(&w);
}

static void history_by_bytes(void) {
    client *c;
    int i;
    run.lossy = run.resets = 1;
    w.cfg.history_bytes = 20000;
    w.cfg.trusted_proxies = "127.0.0.1";
    starts();
    c = come();
    c->p->window = 400;
    parks(c, "/api/poll/a");
    for (i = 0; i < 6; i++) {
        tells_with(i % 2 ? "a" : "b", 4000, 0);
        settle(&w);
    }
    widen(c->p, SIZE_MAX);
    settle(&w);
}

static void history_by_age(void) {
    client *c;
    run.lossy = run.resets = 1;
    w.cfg.history_age_ms = 3000;
    starts();
    c = come();
    tells("a");
    tells("b");
    pass(&w, 2000);
    parks(c, "/api/poll/b?last_id=now&timeout=9");
    tells("c");
    pass(&w, 6000); /* a is forgotten, and b is not */
    tells("a");
    tells("b");
    settle(&w);
    pass(&w, 9000);
}

/* ---- hooks ---- */

static int watched;

static void watch(void *ctx, lp_channel_event event, lp_slice channel) {
    CHECK(ctx == &w);
    CHECK(channel.length >= 1 && channel.length < 8);
    watched += event == LP_CHANNEL_OCCUPIED ? 1 : -1;
    CHECK(watched >= 0 && watched <= 3);
    if (event == LP_CHANNEL_OCCUPIED && channel.bytes[0] == 'a') tells("a");
}

static void watched_channels(void) {
    client *c[2];
    watched = 0;
    w.cfg.watch.channel = watch;
    w.cfg.watch.ctx = &w;
    w.cfg.channel_linger_ms = 500;
    w.cfg.history_age_ms = 2000;
    run.lossy = run.resets = 1;
    starts();
    several(c, 2);
    parks(c[0], "/api/poll/a,b?timeout=1");
    parks(c[1], "/api/poll/b?timeout=1");
    pass(&w, 4000);
    if (run.clean) CHECK_INT(watched, 0);
    parks(c[1], "/api/poll/a?timeout=1");
    settle(&w);
}

static int may_enter(void *ctx, lp_request *r, lp_action action, lp_slice channel) {
    lp_slice who = lp_query(r, "who");
    CHECK(ctx == &w);
    if (channel.bytes[0] == 's') return who.bytes ? 403 : 401;
    return action == LP_PUBLISH && channel.bytes[0] == 'r' ? 403 : 0;
}

static void authorized(void) {
    client *c;
    w.cfg.authorize.ask = may_enter;
    w.cfg.authorize.ctx = &w;
    starts();
    c = come();
    asks(c, 401, "/api/poll/a,secret");
    asks(c, 403, "/api/poll/secret?who=%%61nn")->may = 401; /* a hook without memory */
    asks(c, 200, "/api/poll/room?timeout=0");
    publishes(c, 403, "room", 0);
    settle(&w);
}

/* What is told of a request, if there is memory to keep it. */
static void tell_access(void *ctx, const lp_access *a) {
    CHECK(ctx == &w);
    CHECK(a->client.length && a->status >= 200 && a->status < 600);
    if (a->path.length == 11 && a->path.bytes[10] == 'l') tells("a");
}

static void monitored(void) {
    client *c[3];
    w.cfg.access_log.write = tell_access;
    w.cfg.access_log.ctx = &w;
    starts();
    several(c, 3);
    parks(c[1], "/api/poll/a?timeout=1");
    parks(c[2], "/api/poll/b?timeout=1");
    asks(c[0], 200, "/metrics");
    asks(c[0], 200, "/api/stats");
    asks(c[0], 404, "/api/poll/l/l");
    publishes(c[0], 200, "b", 0);
    settle(&w);
    pass(&w, 2000);
}

static void behind_a_proxy(void) {
    client *c;
    w.cfg.trusted_proxies = "127.0.0.0/8";
    w.cfg.waiters_per_client = 1;
    run.extra = "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n";
    starts();
    c = come();
    asks(c, 200, "/api/poll/a?timeout=1");
    settle(&w);
    c = come();
    run.extra = "X-Real-IP: 192.0.2.9\r\n";
    asks(c, 200, "/api/poll/a?timeout=1");
    settle(&w);
    pass(&w, 1100);
}

/* ---- in somebody else's loop ---- */

static void embedded(void) {
    client *c[2];
    int i;
    starts();
    several(c, 2);
    asks(c[0], 200, "/api/poll/a?timeout=1");
    asks(c[1], 200, "/api/poll/b?timeout=3");
    CHECK(lp_fd(w.s) == w.k.poller && lp_port(w.s));
    for (i = 0; i < 30; i++) {
        int wait = kernel_is_ready(&w.k) ? 0 : lp_wait_ms(w.s);
        CHECK(wait >= 0);
        if (wait > 200) wait = 200;
        w.k.now_us += (uint64_t)wait * 1000;
        if (i == 12) tells("b");
        CHECK_INT(turn(&w, 0), LP_OK);
    }
}

/* ---- the drain ---- */

static void stops(void) {
    uint64_t began = now_ms(&w);
    int steps = 0;
    run.stopping = 1;
    lp_stop(w.s);
    while (turn(&w, 500) == LP_OK)
        if (now_ms(&w) - began > 40000 || ++steps > 5000) COMPLAIN("it never stops");
    CHECK_INT(lp_step(w.s, 0), LP_ERR_STOPPED);
    CHECK_INT(kernel_open_count(&w.k, K_SOCKET) + kernel_open_count(&w.k, K_LISTENER), 0);
}

static void a_drain_with_parked_polls(void) {
    client *c[6];
    lp_result result;
    int i;
    opens();
    tells("a");
    arm();
    several(c, 6);
    for (i = 0; i < 6; i++) parks(c[i], i % 2 ? "/api/poll/a?last_id=now" : "/api/poll/b,c");
    asks(come(), 404, "/nowhere"); /* it stands in the queue */
    stops();
    result = lp_publish(w.s, lp_s("a"), lp_s("{}"), NULL);
    CHECK(result == LP_ERR_STOPPED || (!run.clean && result == LP_ERR_NOMEM));
}

static void a_drain_of_all_sorts(void) {
    client *c[5];
    opens();
    tells_with("big", 30000, 0);
    arm();
    several(c, 5);
    asks(c[0], 404, "/nowhere");
    c[1]->p->window = 1000;
    asks(c[1], 200, "/api/poll/big")->lost = 1;
    say(c[2]->p, "GET / HT");
    wants(c[2], 408)->lost = 1;
    c[3]->p->window = 200;
    asks(c[3], 200, "/api/poll/big")->lost = 1;
    settle(&w);
    widen(c[1]->p, SIZE_MAX);
    stops();
}

static void a_drain_that_is_off(void) {
    client *c;
    w.cfg.drain_ms = LP_OFF;
    starts();
    c = come();
    parks(c, "/api/poll/a");
    stops();
}

static void destroyed_in_the_midst(void) {
    client *c[5];
    w.cfg.watch.channel = watch;
    w.cfg.watch.ctx = &w;
    watched = 0;
    opens();
    tells_with("big", 30000, 0);
    arm();
    several(c, 5);
    parks(c[0], "/api/poll/b,d")->lost = 1;
    c[1]->p->window = 1000;
    asks(c[1], 200, "/api/poll/big")->lost = 1;
    say(c[2]->p, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\n"
                 "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{");
    parks(c[3], "/api/poll/b")->lost = 1;
    asks(c[3], 404, "/")->lost = 1;
    settle(&w);
    tells_async("b");
    run.stopping = 1;
    lp_destroy(w.s);
    w.s = NULL;
    CHECK_INT(run.async_told, run.async_asked);
}

/* ---- many ---- */

static void a_storm_of_connections(void) {
    client *c[80];
    int i;
    starts();
    for (i = 0; i < 80; i++) {
        c[i] = come();
        if (i % 9 == 0) asks(c[i], 404, "/nowhere");
        if (i % 9 == 1) finish(c[i]->p);
        if (i % 9 == 2) reset(c[i]->p);
    }
    settle(&w);
}

static void out_of_descriptors(void) {
    client *c[6];
    int i, had;
    opens();
    had = kernel_open_count(&w.k, K_FREE);
    w.k.fd_limit = had + 3;
    arm();
    for (i = 0; i < 6; i++) {
        c[i] = come();
        asks(c[i], i < 3 ? 404 : 503, "/nowhere")->may = 404;
    }
    settle(&w);
    if (run.clean) CHECK(c[5]->p->closed);
    finish(c[0]->p);
    settle(&w);
    pass(&w, 300);
    w.k.fd_limit = 0;
    asks(come(), 404, "/nowhere");
    settle(&w);
}

static void out_of_descriptors_and_no_reserve(void) {
    client *c[3];
    opens();
    if (w.s->reserve >= 0) kernel_close(&w.k, w.s->reserve);
    w.s->reserve = -1;
    w.k.fd_limit = kernel_open_count(&w.k, K_FREE) + 1;
    arm();
    several(c, 3);
    asks(c[0], 404, "/nowhere");
    asks(c[1], 404, "/nowhere");
    asks(c[2], 404, "/nowhere");
    settle(&w);
    pass(&w, 300);
    w.k.fd_limit = 0;
    pass(&w, 600);
}

static void a_fan_out(void) {
    client *c[40]; /* more than a batch */
    int i;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    starts();
    for (i = 0; i < 40; i++) {
        c[i] = come();
        asks(c[i], 200, "/api/poll/a%s", i % 3 ? "" : "?limit=5");
    }
    settle(&w);
    publishes(come(), 200, "a", 30);
    settle(&w);
}

static void many_channels_at_once(void) {
    client *c[12];
    int i;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    starts();
    several(c, 12);
    for (i = 0; i < 12; i++) asks(c[i], 200, "/api/poll/c%d,all", i);
    settle(&w);
    for (i = 0; i < 6; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%d", i);
        tells(name);
    }
    tells("all");
    settle(&w);
}

static void followers_and_publishers(void) {
    client *p;
    int i;
    w.cfg.waiters_per_client = LP_UNLIMITED;
    starts();
    follows("a", 0);
    follows("b,a", 0);
    follows("b", 1);
    p = come();
    for (i = 0; i < 4; i++) {
        follow_all();
        if (p->p->closed) p = come();
        publishes(p, 200, i % 2 ? "a" : "b", 3);
        if (i == 2) tells("a");
        settle(&w);
        follow_all();
    }
}

static void a_follower_who_loses_connections(void) {
    follower *f;
    int i;
    starts();
    f = follows("a,b", 0);
    for (i = 0; i < 6; i++) {
        follow_all();
        if (i == 1) reset(f->c->p);
        if (i == 3) finish(f->c->p);
        if (i == 4) f->c->p->window = 150;
        tells(i % 2 ? "a" : "b");
        tells("a");
        settle(&w);
        if (i == 4) reset(f->c->p);
        hear(f->c);
    }
}

/* Some of all, as it happens. */
static void all_sorts(void) {
    client *c[9];
    int i;
    opens();
    CHECK_INT(lp_on(w.s, "GET", "/rooms/{room}", hook, &w), LP_OK);
    run.resets = 1;
    arm();
    several(c, 9);
    parks(c[0], "/api/poll/a?timeout=2");
    parks(c[1], "/api/poll/a,b,%63?timeout=2");
    parks(c[2], "/api/poll/b?timeout=1&since=7");
    c[3]->p->window = 350;
    parks(c[3], "/api/poll/big?timeout=2");
    say(c[4]->p, "POST /api/publish/a HTTP/1.1\r\nHost: loc");
    settle(&w);
    say(c[4]->p, "alhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "5\r\n{\"n\":\r\n");
    settle(&w);
    asks(c[5], 200, "/rooms/1?x=1");
    asks(c[5], 200, "/api/poll/a,b?timeout=1");
    asks(c[5], 200, "/rooms/2?x=2");
    for (i = 0; i < 12; i++) tells("many");
    settle(&w);
    sayf(c[4]->p, "3\r\n%2d}\r\n0\r\n\r\n", announce("a"));
    wants(c[4], 200)->n = run.send_count;
    publishes(c[6], 200, "b", 8);
    asks(c[7], 200, "/api/poll/many,none?timeout=0&last_id=0,0123456789abcdef-4");
    settle(&w);
    tells_with("big", 3000, 0);
    settle(&w);
    widen(c[3]->p, 1000);
    settle(&w);
    finish(c[8]->p);
    pass(&w, 1500);
    widen(c[3]->p, SIZE_MAX);
    pass(&w, 1500);
}

typedef struct scenario {
    const char *name;
    void (*run)(void);
} scenario;

#define SCENARIO(name) {#name, name}

static const scenario scenarios[] = {
    SCENARIO(create_with_defaults),
    SCENARIO(create_with_everything),
    SCENARIO(routes_are_added),
    SCENARIO(a_poll_is_answered_at_once),
    SCENARIO(a_poll_with_no_wait),
    SCENARIO(a_parked_poll_is_woken),
    SCENARIO(a_parked_poll_times_out),
    SCENARIO(a_stream),
    SCENARIO(a_stream_of_several_channels),
    SCENARIO(several_channels_at_once),
    SCENARIO(several_channels_parked),
    SCENARIO(sixteen_channels),
    SCENARIO(a_backlog_in_several_replies),
    SCENARIO(only_what_comes_from_now_on),
    SCENARIO(replies_cut_by_bytes),
    SCENARIO(long_names_and_queries),
    SCENARIO(a_cursor_that_was_evicted),
    SCENARIO(a_cursor_of_another_epoch),
    SCENARIO(a_cursor_that_is_ahead),
    SCENARIO(evicted_while_parked),
    SCENARIO(the_basic_dialect),
    SCENARIO(a_basic_reset_is_parked),
    SCENARIO(a_small_publish),
    SCENARIO(a_publish_that_wakes),
    SCENARIO(a_chunked_publish),
    SCENARIO(a_chunked_publish_in_pieces),
    SCENARIO(a_publish_in_small_packets),
    SCENARIO(a_large_publish),
    SCENARIO(a_publish_that_expects_100),
    SCENARIO(publishes_that_are_refused),
    SCENARIO(a_chunked_publish_that_is_too_large),
    SCENARIO(publishing_with_a_token),
    SCENARIO(polls_and_publishing_with_signed_tokens),
    SCENARIO(published_by_the_program),
    SCENARIO(told_of_later),
    SCENARIO(arrays),
    SCENARIO(hooks_on_messages),
    SCENARIO(deletions),
    SCENARIO(receipts),
    SCENARIO(pipelined_requests),
    SCENARIO(pipelined_behind_a_parked_poll),
    SCENARIO(too_much_behind_a_parked_poll),
    SCENARIO(http_1_0_and_close),
    SCENARIO(half_closed_behind_a_request),
    SCENARIO(half_closed_while_parked),
    SCENARIO(reset_while_parked),
    SCENARIO(reset_while_writing),
    SCENARIO(reset_in_a_body),
    SCENARIO(a_slow_reader),
    SCENARIO(slow_readers_share_a_blob),
    SCENARIO(a_slow_reader_is_cut_off),
    SCENARIO(a_slow_reader_half_closes),
    SCENARIO(a_head_that_does_not_end),
    SCENARIO(a_body_that_does_not_end),
    SCENARIO(an_idle_connection),
    SCENARIO(a_route_of_the_program),
    SCENARIO(large_bodies_and_many_fields),
    SCENARIO(a_handler_that_emits_and_publishes),
    SCENARIO(a_page_and_a_file),
    SCENARIO(a_handler_without_an_answer),
    SCENARIO(head_requests),
    SCENARIO(preflights_and_origins),
    SCENARIO(wrong_places_and_methods),
    SCENARIO(heads_that_are_too_large),
    SCENARIO(no_request_at_all),
    SCENARIO(a_client_with_too_many_polls),
    SCENARIO(a_channel_with_too_many_polls),
    SCENARIO(too_many_connections),
    SCENARIO(too_many_connections_from_an_address),
    SCENARIO(an_address_beyond_its_shares),
    SCENARIO(a_full_channel_table),
    SCENARIO(partial_requests_beyond_their_bound),
    SCENARIO(history_by_count),
    SCENARIO(history_by_bytes),
    SCENARIO(history_by_age),
    SCENARIO(watched_channels),
    SCENARIO(authorized),
    SCENARIO(monitored),
    SCENARIO(behind_a_proxy),
    SCENARIO(embedded),
    SCENARIO(a_drain_with_parked_polls),
    SCENARIO(a_drain_of_all_sorts),
    SCENARIO(a_drain_that_is_off),
    SCENARIO(destroyed_in_the_midst),
    SCENARIO(a_storm_of_connections),
    SCENARIO(out_of_descriptors),
    SCENARIO(out_of_descriptors_and_no_reserve),
    SCENARIO(a_fan_out),
    SCENARIO(many_channels_at_once),
    SCENARIO(followers_and_publishers),
    SCENARIO(a_follower_who_loses_connections),
    SCENARIO(all_sorts)};

#endif /* SCENARIOS_H */
