/* million.h: a million polls parked in one process, each its own client, all on one channel;
   delivered once; first with names of their own behind one address, then each with its own
   address. A kernel of its own, as lean as can be: a client is five bytes. */

#ifndef MILLION_H
#define MILLION_H

enum { L_AWAY, L_CALLING, L_ASKING, L_WAITING, L_READING, L_ANSWERED, L_GONE };

enum { L_LISTENER, L_SPARE, L_POLLER, L_WAKE_IN, L_WAKE_OUT, L_FIRST };

static struct {
    uint8_t *state;
    uint32_t *tag; /* what the poller calls it */
    uint32_t count, called, accepted, next, answered, closed;
    uint64_t now_us, random;
    int signalled, named; /* named: all have one address, and each its X-Client-ID */
    char text[512];
    size_t length;
    lp_published published;
} L;

static uint64_t lean_monotonic_us(void *ctx) { (void)ctx; return L.now_us; }

static uint64_t lean_wall_us(void *ctx)
{
    (void)ctx;
    return UINT64_C(1732412345000000) + L.now_us;
}

static int lean_random(void *ctx, void *bytes, size_t size)
{
    (void)ctx;
    memset(bytes, 0x5a, size);
    return 0;
}

static int lean_listen(void *ctx, const lp_address *at, int backlog, lp_address *bound)
{
    (void)ctx, (void)backlog;
    *bound = *at;
    return L_LISTENER;
}

static int lean_accept(void *ctx, int listener, lp_address *peer)
{
    uint32_t i = L.accepted, at = L.named ? 1 : L.accepted;
    (void)ctx, (void)listener;
    if (i == L.called) return -EAGAIN;
    L.accepted++;
    memset(peer, 0, sizeof *peer);
    memset(peer->bytes + 10, 0xff, 2);
    peer->bytes[12] = 10;
    peer->bytes[13] = (uint8_t)(at >> 16);
    peer->bytes[14] = (uint8_t)(at >> 8);
    peer->bytes[15] = (uint8_t)at;
    L.state[i] = L_ASKING;
    return L_FIRST + (int)i;
}

static uint8_t *lean_at(int fd)
{
    MUST(fd >= L_FIRST && fd < L_FIRST + (int)L.count && L.state[fd - L_FIRST] >= L_ASKING &&
         L.state[fd - L_FIRST] < L_GONE, "descriptor %d is not open", fd);
    return &L.state[fd - L_FIRST];
}

static long lean_recv(void *ctx, int fd, void *bytes, size_t size)
{
    static const char text[] = "GET /api/poll/news?last_id=now&timeout=60 HTTP/1.1\r\n"
                               "Host: localhost\r\n";
    char *to = (char *)bytes;
    uint8_t *state = lean_at(fd);
    (void)ctx;
    MUST(size >= sizeof text + 64, "no room");
    if (*state != L_ASKING) return -EAGAIN;
    *state = L_WAITING;
    memcpy(to, text, sizeof text - 1);
    to += sizeof text - 1;
    if (L.named) to += sprintf(to, "X-Client-ID: c%d\r\n", fd);
    memcpy(to, "\r\n", 2);
    return to + 2 - (char *)bytes;
}

/* The one reply, whole, to somebody who waits. */
static long lean_send(void *ctx, int fd, const lp_slice *parts, int count)
{
    uint8_t *state = lean_at(fd);
    const char *body;
    size_t total = 0, at = 0;
    char joined[2048];
    int i;
    (void)ctx;
    MUST(*state == L_WAITING, "an answer to nobody, or a second one");
    for (i = 0; i < count; i++) total += parts[i].length;
    MUST(total < sizeof joined, "the answer's length");
    for (i = 0; i < count; at += parts[i++].length)
        memcpy(joined + at, parts[i].bytes, parts[i].length);
    MUST(!memcmp(joined, "HTTP/1.1 200 OK\r\n", 17), "the status");
    body = (const char *)memmem(joined, total, "\r\n\r\n", 4);
    MUST(body && (size_t)(joined + total - body - 4) == L.length &&
         !memcmp(body + 4, L.text, L.length), "the answer: %.*s", (int)total, joined);
    *state = L_ANSWERED;
    L.answered++;
    return (long)total;
}

static int lean_shutdown(void *ctx, int fd, uint32_t how)
{
    (void)ctx, (void)fd, (void)how;
    return 0;
}

static void lean_close(void *ctx, int fd)
{
    (void)ctx;
    if (fd < L_FIRST) return;
    *lean_at(fd) = L_GONE;
    L.closed++;
}

static int lean_reserve(void *ctx) { (void)ctx; return L_SPARE; }

static int lean_poller_open(void *ctx, lp_poller *out)
{
    (void)ctx;
    out->fd = L_POLLER;
    return 0;
}

static void lean_poller_close(void *ctx, lp_poller *poller) { (void)ctx, (void)poller; }

static int lean_poller_set(void *ctx, lp_poller *poller, int fd, uint32_t tag, uint32_t was,
                           uint32_t want)
{
    (void)ctx, (void)poller;
    if (fd < L_FIRST) return 0;
    lean_at(fd);
    MUST(!was != !want, "epoll_ctl in the steady state");
    L.tag[fd - L_FIRST] = tag;
    return 0;
}

static int lean_poller_wait(void *ctx, lp_poller *poller, lp_event *events, int max,
                            uint64_t until_us)
{
    int n = 0;
    (void)ctx, (void)poller;
    L.now_us += 20;
    if (L.signalled) {
        events[n].tag = LPI_TAG_WAKE;
        events[n++].what = LP_READ;
    }
    if (L.accepted < L.called && n < max) {
        events[n].tag = LPI_TAG_LISTENER;
        events[n++].what = LP_READ;
    }
    for (; L.next < L.accepted && n < max; L.next++) {
        events[n].tag = L.tag[L.next];
        events[n++].what = LP_READ;
    }
    if (!n && until_us > L.now_us && until_us < UINT64_MAX) L.now_us = until_us;
    return n;
}

static int lean_wake_open(void *ctx, int fds[2])
{
    (void)ctx;
    fds[0] = L_WAKE_IN;
    fds[1] = L_WAKE_OUT;
    return 0;
}

static void lean_wake_signal(void *ctx, int fd) { (void)ctx, (void)fd; L.signalled = 1; }

static void lean_wake_clear(void *ctx, int fd) { (void)ctx, (void)fd; L.signalled = 0; }

static const lp_os lean_os = {
    NULL, lean_monotonic_us, lean_wall_us, lean_random, lean_listen, lean_accept, lean_recv,
    lean_send, lean_shutdown, lean_close, lean_reserve, lean_poller_open, lean_poller_set,
    lean_poller_wait, lean_poller_close, lean_wake_open, lean_wake_signal, lean_wake_clear,
    NULL, NULL, NULL};

static uint64_t lean_bytes, lean_blocks;

static void *lean_resize(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    (void)ctx;
    lean_bytes += new_size - old_size;
    lean_blocks += (uint64_t)(new_size != 0) - (uint64_t)(ptr != NULL);
    if (new_size) return realloc(ptr, new_size);
    free(ptr);
    return NULL;
}

static uint64_t resident_bytes(void)
{
    unsigned long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%lu %lu", &size, &resident) != 2) resident = 0;
    if (f) fclose(f);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Answered, a connection keeps its client's counter for its next poll: it counts nobody. */
static void check_counters(lpi_hub *hub, const lpi_loop *loop, uint32_t waiters)
{
    uint32_t i;
    check_table(&hub->counter_table, "counter_table");
    check_slab(&hub->counters, "counters");
    check_table(&hub->account_table, "account_table");
    check_slab(&hub->accounts, "accounts");
    SAME(hub->counters.used, L.count, "counters");
    SAME(hub->accounts.used, L.named ? 1 : L.count, "accounts");
    for (i = 0; i < L.count; i++) {
        const lpi_connection *c = lpi_connection_at((lpi_loop *)loop, i);
        SAME(lpi_counter_at(hub, c->wait.counter)->node.count, waiters != 0, "a client");
        SAME(lpi_account_at(hub, c->wait.account)->node.count,
             L.named ? waiters : waiters != 0, "an address");
    }
}

static void check_million(lp_server *server, uint32_t waiters)
{
    lpi_hub *hub = &server->hub;
    check_counters(hub, &server->loops[0], waiters);
    check_table(&hub->channel_table, "names");
    check_slab(&hub->waiters, "waiters");
    check_slab(&server->loops[0].connections, "connections");
    SAME(hub->stats.waiters, waiters, "waiters");
    SAME(server->loops[0].phases[LPI_PARKED], waiters, "parked");
    SAME(hub->waiters.used, waiters, "waiters");
    SAME(hub->stats.pinned_bytes, 0, "pinned_bytes");
    SAME(server->hub.partial_bytes, 0, "partial_bytes");
}

static void lean_turns(lp_server *server, const uint32_t *counter, uint32_t upto)
{
    uint32_t left = L.count + 1000;
    for (; *counter < upto; left--) {
        MUST(left, "it takes too many steps");
        MUST(lp_step(server, 0) == LP_OK, "lp_step");
    }
}

static void run_crowd(uint32_t count, int named)
{
    static lp_config cfg;
    lp_server *server = NULL;
    uint64_t bytes, resident, blocks;
    char id[64];
    uint32_t i;
    memset(&L, 0, sizeof L);
    L.count = count;
    L.named = named;
    L.now_us = 1000000;
    L.state = (uint8_t *)calloc(count, 1);
    L.tag = (uint32_t *)calloc(count, sizeof *L.tag);
    MUST(L.state && L.tag, "the machine has no memory");
    memset(L.tag, 0xff, count * sizeof *L.tag); /* resident before it is measured */
    memset(L.state, L_CALLING, count);
    cfg.os = &lean_os;
    cfg.memory.resize = lean_resize;
    cfg.waiters_max = cfg.waiters_per_client = cfg.waiters_per_channel = LP_UNLIMITED;
    cfg.waiters_per_address = cfg.connections_per_address = cfg.connections_max = LP_UNLIMITED;
    MUST(lp_create(&server, &cfg) == LP_OK, "lp_create");
    lean_turns(server, &L.answered, 0);
    bytes = lean_bytes;
    blocks = lean_blocks;
    resident = resident_bytes();
    L.called = count;
    lean_turns(server, &server->hub.stats.waiters, count);
    bytes = lean_bytes - bytes;
    resident = resident_bytes() - resident;
    check_million(server, count);
    printf("%u polls parked on one channel, each its own client, %s\n"
           "  memory hook   %12" PRIu64 " bytes  %7.2f a poll, in %" PRIu64 " blocks\n"
           "  resident      %12" PRIu64 " bytes  %7.2f a poll\n"
           "  of which: connection %zu, waiter %zu, %s %zu and their buckets\n",
           count, named ? "by X-Client-ID" : "each its own address", bytes,
           (double)bytes / count, lean_blocks - blocks, resident, (double)resident / count,
           sizeof(lpi_connection), sizeof(lpi_waiter),
           named ? "counter" : "counter and account",
           sizeof(lpi_counter) + (named ? 0 : sizeof(lpi_account)));
    MUST(lp_publish(server, lp_s("news"), lp_s("{\"n\":1}"), &L.published) == LP_OK, "lp_publish");
    SAME(L.published.waiters, count, "waiters");
    strcpy(id, L.published.id);
    L.length = (size_t)sprintf(
        L.text, "{\"status\":\"messages\",\"last_id\":\"%s\",\"timestamp\":%" PRIu64 ".%06u,"
                "\"count\":1,\"messages\":[{\"id\":\"%s\",\"channel\":\"news\","
                "\"timestamp\":%" PRIu64 ".%06u,\"n\":1}]}",
        id, L.published.timestamp_us / 1000000, (unsigned)(L.published.timestamp_us % 1000000),
        id, L.published.timestamp_us / 1000000, (unsigned)(L.published.timestamp_us % 1000000));
    lean_turns(server, &L.answered, count);
    for (i = 0; i < count; i++) SAME(L.state[i], L_ANSWERED, "a client");
    check_million(server, 0);
    SAME(server->hub.stats.delivered, count, "delivered");
    lp_destroy(server);
    SAME(L.closed, count, "closed");
    SAME(lean_bytes, 0, "memory after lp_destroy");
    SAME(lean_blocks, 0, "memory after lp_destroy");
    printf("  each was delivered once; nothing is left\n");
    free(L.state);
    free(L.tag);
}

static int run_million(uint32_t count)
{
    int named, status = 0, failed = 0;
    MUST(count && count <= 1 << 24, "--million wants 1 to 16777216");
    for (named = 1; named >= 0; named--) { /* each in a process of its own, for its size */
        pid_t child = fork();
        if (!child) {
            run_crowd(count, named);
            fflush(stdout);
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status) failed++;
    }
    printf("%d passed, %d failed, 0 skipped\n", 2 - failed, failed);
    return failed != 0;
}

#endif /* MILLION_H */
