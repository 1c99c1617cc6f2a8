/* Publishing on many threads, while one serves: over real sockets, and above
   all under ThreadSanitizer. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"

#include "unit.h"

enum { PUBLISHERS = 4, READERS = 4, EACH = 500 };

static lp_server *server;
static uint32_t outcomes; /* outcomes of lp_publish_async */
static uint32_t errors;
static uint64_t last_told[2]; /* SEQ of what after_publish was told last: of all, and own */

static void *serve(void *ctx)
{
    (void)ctx;
    if (lp_run(server) != LP_OK) lpi_atomic_add(&errors, 1);
    return NULL;
}

static void outcome(void *ctx, lp_result result, const lp_published *published)
{
    (void)ctx;
    if (result != LP_OK || !published || strlen(published->id) < 18)
        lpi_atomic_add(&errors, 1);
    lpi_atomic_add(&outcomes, 1);
}

/* The hook needs no lock: it is called on one thread. "own" has an epoch each round. */
static void tell_after(void *ctx, const lp_message *message)
{
    int own = message->channel.length == 3 && message->channel.bytes[0] == 'o';
    uint64_t seq = strtoull(message->id.bytes + 17, NULL, 10);
    (void)ctx;
    if (seq != last_told[own] + 1) lpi_atomic_add(&errors, 1);
    last_told[own] = own && seq == 3 ? 0 : seq;
}

static void *publish_all(void *ctx)
{
    unsigned number = *(unsigned *)ctx, i;
    for (i = 0; i < EACH; i++) {
        char text[64];
        lp_stats stats;
        lp_result result;
        snprintf(text, sizeof text, "{\"who\":%u,\"n\":%u}", number, i);
        if (i % 10) {
            result = lp_publish(server, lp_s("all"), lp_s(text), NULL);
        } else {
            result = lp_publish_async(server, lp_s("all"), lp_s(text), outcome,
                                      NULL);
        }
        if (result != LP_OK) lpi_atomic_add(&errors, 1);
        lp_stats_read(server, &stats);
        if (stats.published > (PUBLISHERS + 3) * EACH) lpi_atomic_add(&errors, 1);
    }
    return NULL;
}

/* What an administrator does meanwhile: an array and a deletion on a channel of their own, and
   looks at all others. */
static void *administer(void *ctx)
{
    static lp_receipts page;
    static lp_channel_info infos[8];
    unsigned i;
    (void)ctx;
    for (i = 0; i < EACH; i++) {
        lp_published p;
        uint32_t position = 0;
        memset(&page, 0, sizeof page);
        if (lp_publish(server, lp_s("own"), lp_s("[{},{},{}]"), &p) != LP_OK || p.count != 3 ||
            lp_receipts_read(server, lp_s("own"), lp_s(p.id), &page) != LP_OK || page.count ||
            lp_channel_read(server, lp_s("own"), infos) != LP_OK || infos->held != 3 ||
            strcmp(infos->last_id, p.id) ||
            lp_channels_read(server, &position, infos, 8) < 1 || position ||
            lp_channel_delete(server, lp_s("own")) != LP_OK)
            lpi_atomic_add(&errors, 1);
        if (lp_channel_read(server, lp_s("all"), infos) != LP_OK) continue;
        if (*infos->first_id) /* whom it was handed to is known elsewhere */
            lp_receipts_read(server, lp_s("all"), lp_s(infos->first_id), &page);
        if (page.count > READERS) lpi_atomic_add(&errors, 1);
    }
    return NULL;
}

static int dial_port(void)
{
    struct sockaddr_in at;
    struct timeval limit = {20, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons(lp_port(server));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&at, sizeof at)) return -1;
    return fd;
}

/* One reply, headers and all, ended by a NUL. Its length, or -1. */
static long receive(int fd, char *to, size_t room)
{
    size_t length = 0, whole = 0;
    while (!whole || length < whole) {
        ssize_t n = recv(fd, to + length, room - 1 - length, 0);
        char *head;
        if (n <= 0) return -1;
        length += (size_t)n;
        to[length] = 0;
        head = strstr(to, "\r\n\r\n");
        if (!whole && head)
            whole = (size_t)(head - to) + 4 +
                    (size_t)atol(strstr(to, "Content-Length: ") + 16);
    }
    return (long)length;
}

/* Polls until all are here, each exactly once and each publisher's in order. */
static void *read_all(void *ctx)
{
    static const size_t room = 1 << 20;
    char *bytes = (char *)malloc(room), cursor[48] = "0";
    unsigned next[PUBLISHERS] = {0}, seen = 0;
    unsigned long long seq = 0;
    int fd = dial_port();
    (void)ctx;
    while (fd >= 0 && seen < PUBLISHERS * EACH) {
        char request[160], *at;
        int n = snprintf(request, sizeof request,
                         "GET /api/poll/all?timeout=10&last_id=%s HTTP/1.1\r\n"
                         "Host: localhost\r\nX-Client-ID: r%d\r\n\r\n", cursor, fd);
        if (send(fd, request, (size_t)n, 0) != n ||
            receive(fd, bytes, room) < 0 || strstr(bytes, "\"reset\""))
            break;
        sscanf(strstr(bytes, "\"last_id\":\"") + 11, "%47[^\"]", cursor);
        for (at = bytes; (at = strstr(at, "{\"id\":\"")); at++) {
            unsigned who, what;
            if (strtoull(at + 24, NULL, 10) != ++seq) lpi_atomic_add(&errors, 1);
            sscanf(strstr(at, "\"who\":"), "\"who\":%u,\"n\":%u", &who, &what);
            if (who >= PUBLISHERS || next[who]++ != what)
                lpi_atomic_add(&errors, 1);
            seen++;
        }
    }
    if (seen != PUBLISHERS * EACH) lpi_atomic_add(&errors, 1);
    if (fd >= 0) close(fd);
    free(bytes);
    return NULL;
}

TEST(many_threads_publish_while_one_serves)
{
    pthread_t loop, admin, publishers[PUBLISHERS], readers[READERS];
    unsigned numbers[PUBLISHERS], i;
    lp_config cfg = {0};
    cfg.history_count = PUBLISHERS * EACH;
    cfg.drain_ms = 1;
    cfg.track_receipts = 3000; /* fewer than there would be */
    cfg.after_publish.tell = tell_after;
    CHECK_INT(lp_create(&server, &cfg), LP_OK);
    pthread_create(&loop, NULL, serve, NULL);
    pthread_create(&admin, NULL, administer, NULL);
    for (i = 0; i < READERS; i++)
        pthread_create(&readers[i], NULL, read_all, NULL);
    for (i = 0; i < PUBLISHERS; i++) {
        numbers[i] = i;
        pthread_create(&publishers[i], NULL, publish_all, &numbers[i]);
    }
    for (i = 0; i < PUBLISHERS; i++) pthread_join(publishers[i], NULL);
    for (i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
    pthread_join(admin, NULL);
    lp_stop(server);
    pthread_join(loop, NULL);
    CHECK_INT(lp_publish(server, lp_s("all"), lp_s("{}"), NULL),
              LP_ERR_STOPPED);
    lp_destroy(server);
    CHECK_INT(outcomes, PUBLISHERS * EACH / 10);
    CHECK_INT(last_told[0], PUBLISHERS * EACH);
    CHECK_INT(last_told[1], 0);
    CHECK_INT(errors, 0);
}

/* --- requests that other threads answer */

enum { DEFERRED = 4000, ANSWERERS = 3 };

static lp_deferred deferred[DEFERRED];
static uint32_t deferred_count; /* atomic: how many handles are there */
static uint32_t answered, gone;

static void put_off(lp_request *r, void *ctx)
{
    uint32_t n = lpi_atomic_get(&deferred_count);
    (void)ctx;
    if (n == DEFERRED || lp_defer(r, 0, &deferred[n]) != LP_OK) {
        lp_reply_error(r, 503, "Too many");
        return;
    }
    lpi_atomic_set(&deferred_count, n + 1);
}

/* All of them answer all: of each request one is the first. */
static void *answer_all(void *ctx)
{
    uint32_t i = 0;
    (void)ctx;
    while (i < DEFERRED) {
        lp_result result;
        if (i == lpi_atomic_get(&deferred_count)) {
            usleep(100);
            continue;
        }
        result = lp_reply_later(server, deferred[i++], 200, "text/plain", lp_s("hello"));
        if (result == LP_OK) lpi_atomic_add(&answered, 1);
        else if (result == LP_ERR_GONE) lpi_atomic_add(&gone, 1);
        else lpi_atomic_add(&errors, 1);
    }
    return NULL;
}

static void *ask_later(void *ctx)
{
    char bytes[4096];
    int fd = dial_port(), i;
    (void)ctx;
    for (i = 0; i < DEFERRED / 4; i++) {
        static const char request[] = "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n";
        if (send(fd, request, sizeof request - 1, 0) < 0 ||
            receive(fd, bytes, sizeof bytes) < 0 || !strstr(bytes, "\r\n\r\nhello")) {
            lpi_atomic_add(&errors, 1);
            break;
        }
    }
    if (fd >= 0) close(fd);
    return NULL;
}

TEST(many_threads_answer_what_was_put_off)
{
    pthread_t loop, answerers[ANSWERERS], clients[4];
    int i;
    lp_config cfg = {0};
    cfg.drain_ms = 1;
    CHECK_INT(lp_create(&server, &cfg), LP_OK);
    CHECK_INT(lp_on(server, "GET", "/later", put_off, NULL), LP_OK);
    pthread_create(&loop, NULL, serve, NULL);
    for (i = 0; i < ANSWERERS; i++) pthread_create(&answerers[i], NULL, answer_all, NULL);
    for (i = 0; i < 4; i++) pthread_create(&clients[i], NULL, ask_later, NULL);
    for (i = 0; i < 4; i++) pthread_join(clients[i], NULL);
    for (i = 0; i < ANSWERERS; i++) pthread_join(answerers[i], NULL);
    lp_stop(server);
    pthread_join(loop, NULL);
    CHECK_INT(lp_reply_later(server, deferred[0], 200, NULL, lp_s("")), LP_ERR_GONE);
    lp_destroy(server);
    CHECK_INT(errors, 0);
    CHECK_INT(answered, DEFERRED);
    CHECK_INT(gone, DEFERRED * (ANSWERERS - 1));
}

/* --- transient messages, whose texts go while others have them */

static uint32_t reading_ends; /* atomic */

static void hear_brief(void *ctx, const lp_message *message)
{
    (void)ctx;
    if (!memmem(message->json.bytes, message->json.length, "\"n\":", 4))
        lpi_atomic_add(&errors, 1);
}

static void *hear_all(void *ctx)
{
    (void)ctx;
    while (!lpi_atomic_get(&reading_ends))
        lp_messages_read(server, lp_s("brief"), LP_UNLIMITED, hear_brief, NULL);
    return NULL;
}

TEST(texts_go_while_other_threads_read_them)
{
    pthread_t loop, hearers[2];
    int i;
    lp_config cfg = {0};
    cfg.drain_ms = 1;
    cfg.transient_ms = 1;
    CHECK_INT(lp_create(&server, &cfg), LP_OK);
    pthread_create(&loop, NULL, serve, NULL);
    CHECK_INT(lp_publish(server, lp_s("brief"), lp_s("{\"n\":0}"), NULL), LP_OK);
    for (i = 0; i < 2; i++) pthread_create(&hearers[i], NULL, hear_all, NULL);
    for (i = 1; i < 900; i++) {
        CHECK_INT(lp_publish_transient(server, lp_s("brief"), lp_s("{\"n\":1}"), NULL), LP_OK);
        if (i % 10 == 0) usleep(1200);
    }
    lpi_atomic_set(&reading_ends, 1);
    for (i = 0; i < 2; i++) pthread_join(hearers[i], NULL);
    lp_stop(server);
    pthread_join(loop, NULL);
    lp_destroy(server);
    CHECK_INT(errors, 0);
}

TEST(a_stop_from_another_thread_ends_a_sleeping_loop)
{
    pthread_t loop;
    lp_config cfg = {0};
    cfg.drain_ms = 1;
    CHECK_INT(lp_create(&server, &cfg), LP_OK);
    pthread_create(&loop, NULL, serve, NULL);
    usleep(20000);
    lp_stop(server);
    lp_stop(server);
    pthread_join(loop, NULL);
    lp_destroy(server);
    CHECK_INT(errors, 0);
}

