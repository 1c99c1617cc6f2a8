/* D, the outside: the real sockets, clocks, poller and wake-up, and the inbox. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#endif
#endif

static const lp_os *os = &lpi_real_os;

#ifdef LONGPOLL_KQUEUE
enum { TELLS_ONCE = 0 }; /* LP_EDGE is ignored */
#else
enum { TELLS_ONCE = 1 };
#endif

static lp_address address_of(const char *text, uint16_t port) {
    lp_address at;
    memset(&at, 0, sizeof at);
    CHECK_INT(lpi_address_parse(lp_s(text), at.bytes), 0);
    at.port = port;
    return at;
}

/* A listener on a port that the kernel picks; ends the test if the address is not here. */
static int listen_on(const char *text, lp_address *bound) {
    lp_address at = address_of(text, 0);
    int fd = os->listen(os->ctx, &at, 16, bound);
    if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) SKIP("no such address on this machine");
    CHECK(fd >= 0);
    CHECK(bound->port != 0);
    return fd;
}

/* A blocking socket as a client has it. */
static int connect_to(const char *text, uint16_t port) {
    lp_address at = address_of(text, port);
    struct sockaddr_storage address;
    socklen_t length = lpi_to_sockaddr(&at, &address);
    int fd = socket(address.ss_family, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK_INT(connect(fd, (struct sockaddr *)&address, length), 0);
    return fd;
}

/* fds[0] was accepted, fds[1] is its client's. */
static void pair(int fds[2]) {
    lp_address bound, peer;
    int listener = listen_on("127.0.0.1", &bound);
    fds[1] = connect_to("127.0.0.1", bound.port);
    fds[0] = os->accept(os->ctx, listener, &peer);
    CHECK(fds[0] >= 0);
    os->close(os->ctx, listener);
}

static void close_both(const int fds[2]) {
    os->close(os->ctx, fds[0]);
    os->close(os->ctx, fds[1]);
}

static lp_poller open_poller(void) {
    lp_poller poller;
    memset(&poller, 0, sizeof poller);
    CHECK_INT(os->poller_open(os->ctx, &poller), 0);
    return poller;
}

/* As poller_wait takes it; -1: for ever. */
static uint64_t in_ms(int ms) {
    if (ms < 0) return UINT64_MAX;
    return ms ? os->monotonic_us(os->ctx) + (uint64_t)ms * 1000 : 0;
}

/* What comes of the one descriptor that has this tag; 0 for nothing in time. */
static uint32_t wait_for(lp_poller *poller, uint32_t tag, int wait_ms) {
    lp_event events[4];
    uint32_t what = 0;
    int n = os->poller_wait(os->ctx, poller, events, 4, in_ms(wait_ms));
    CHECK(n >= 0 && n <= 2); /* kqueue has one for each direction */
    while (n--) {
        CHECK_INT(events[n].tag, tag);
        what |= events[n].what;
    }
    return what;
}

/* ---- clocks and chance ---- */

TEST(os_clocks) {
    uint64_t last = os->monotonic_us(os->ctx), first = last, wall = os->wall_us(os->ctx);
    int64_t apart = (int64_t)(wall / 1000000) - (int64_t)time(NULL);
    int i;
    CHECK(apart >= -1 && apart <= 1);
    for (i = 0; i < 10000; i++) {
        uint64_t now = os->monotonic_us(os->ctx);
        CHECK(now >= last);
        last = now;
    }
    usleep(5000);
    CHECK(os->monotonic_us(os->ctx) - first >= 5000); /* microseconds they are */
    CHECK(os->monotonic_us(os->ctx) - first < 60000000);
}

TEST(os_random_fills_all_that_it_was_given) {
    size_t size, i;
    for (size = 0; size <= 300; size++) {
        uint8_t or_of[300] = {0}, bytes[301];
        int round;
        for (round = 0; round < 24; round++) { /* one that is drawn stays 0 once in 2^176 runs */
            memset(bytes, 0, sizeof bytes);
            CHECK_INT(os->random(os->ctx, bytes, size), 0);
            for (i = 0; i < size; i++) or_of[i] = (uint8_t)(or_of[i] | bytes[i]);
            CHECK_INT(bytes[size], 0);
        }
        for (i = 0; i < size; i++) CHECK(or_of[i] != 0);
    }
}

/* A child does not draw what its parent draws. */
TEST(os_random_after_fork) {
    uint8_t *shared = (uint8_t *)mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    pid_t child;
    os->random(os->ctx, shared, 16);
    child = fork();
    if (child == 0) {
        os->random(os->ctx, shared + 16, 16);
        _exit(0);
    }
    os->random(os->ctx, shared + 32, 16);
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(memcmp(shared + 16, shared + 32, 16) != 0);
    munmap(shared, 4096);
}

/* ---- sockets ---- */

static void check_prepared(int fd) {
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void check_meeting(const char *listens, const char *connects, const char *from) {
    lp_address bound, peer, none;
    struct sockaddr_storage local;
    socklen_t length = sizeof local;
    uint8_t want[16];
    int listener = listen_on(listens, &bound), client, fd, on = 0;
    CHECK_INT(lpi_address_parse(lp_s(listens), want), 0);
    CHECK(memcmp(bound.bytes, want, 16) == 0);
    check_prepared(listener);
    CHECK_INT(os->accept(os->ctx, listener, &none), -EAGAIN);
    client = connect_to(connects, bound.port);
    fd = os->accept(os->ctx, listener, &peer);
    CHECK(fd >= 0);
    check_prepared(fd);
    CHECK_INT(lpi_address_parse(lp_s(from), want), 0);
    CHECK(memcmp(peer.bytes, want, 16) == 0);
    CHECK_INT(getsockname(client, (struct sockaddr *)&local, &length), 0);
    lpi_from_sockaddr(&local, &none);
    CHECK_INT(peer.port, none.port);
    length = sizeof on;
    CHECK_INT(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &length), 0);
    CHECK(on);
    CHECK_INT(os->accept(os->ctx, listener, &none), -EAGAIN);
    close(client);
    os->close(os->ctx, fd);
    os->close(os->ctx, listener);
}

TEST(os_meets_over_ipv4) { check_meeting("127.0.0.1", "127.0.0.1", "127.0.0.1"); }
TEST(os_meets_over_ipv6) { check_meeting("::1", "::1", "::1"); }
TEST(os_meets_ipv4_on_an_ipv6_listener) { check_meeting("::", "127.0.0.1", "127.0.0.1"); }

TEST(os_listen_says_why_not) {
    lp_address bound, at, untouched;
    int listener = listen_on("127.0.0.1", &bound);
    memset(&untouched, 7, sizeof untouched);
    CHECK_INT(os->listen(os->ctx, &bound, 16, &untouched), -EADDRINUSE);
    at = address_of("192.0.2.1", 0); /* for documents: nobody has it */
    CHECK_INT(os->listen(os->ctx, &at, 16, &untouched), -EADDRNOTAVAIL);
    CHECK_INT(untouched.port, 0x0707);
    os->close(os->ctx, listener);
    /* at once again, though a connection of before may still linger in the kernel */
    listener = os->listen(os->ctx, &bound, 16, &at);
    CHECK(listener >= 0);
    CHECK_INT(at.port, bound.port);
    os->close(os->ctx, listener);
}

TEST(os_receives) {
    int fds[2];
    char bytes[10];
    pair(fds);
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, sizeof bytes), -EAGAIN);
    CHECK_INT(send(fds[1], "hello", 5, 0), 5);
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, 3), 3);
    CHECK_INT(os->recv(os->ctx, fds[0], bytes + 3, sizeof bytes - 3), 2);
    CHECK_BYTES(bytes, 5, "hello", 5);
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, sizeof bytes), -EAGAIN);
    CHECK_INT(shutdown(fds[1], SHUT_WR), 0);
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, sizeof bytes), 0);
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, sizeof bytes), 0);
    close_both(fds);
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, sizeof bytes), -EBADF);
}

TEST(os_sends_parts_in_order) {
    lp_slice parts[LPI_PARTS_MAX];
    char bytes[100];
    int fds[2], count;
    pair(fds);
    parts[0] = lp_s("one ");
    parts[1] = lp_s("");
    parts[2] = lp_s("two ");
    parts[3] = lp_s("three");
    for (count = 1; count <= LPI_PARTS_MAX; count++) {
        const char *want = "one two three";
        size_t length = count < 3 ? 4 : count < 4 ? 8 : 13;
        CHECK_INT(os->send(os->ctx, fds[0], parts, count), length);
        CHECK_INT(recv(fds[1], bytes, sizeof bytes, 0), length);
        CHECK_BYTES(bytes, length, want, length);
    }
    close_both(fds);
}

static char pattern_at(size_t i) { return (char)(i * 7 + i / 251); }

/* Until the peer's window is full; then on, and all arrives in order. */
TEST(os_sends_as_much_as_fits) {
    static char bytes[100000], got[100000];
    size_t sent = 0, received = 0, total = 20000000, i;
    int fds[2], stalls = 0;
    pair(fds);
    while (sent < total) {
        lp_slice parts[2];
        long n;
        for (i = 0; i < sizeof bytes; i++) bytes[i] = pattern_at(sent + i);
        parts[0] = lpi_slice(bytes, 1000);
        parts[1] = lpi_slice(bytes + 1000, sizeof bytes - 1000);
        n = os->send(os->ctx, fds[0], parts, 2);
        if (n > 0) {
            sent += (size_t)n;
            continue;
        }
        CHECK_INT(n, -EAGAIN);
        if (++stalls > 2) break;
        for (; received < sent; received += (size_t)n) {
            n = recv(fds[1], got, sizeof got, 0);
            CHECK(n > 0);
            for (i = 0; i < (size_t)n; i++) CHECK_INT(got[i], pattern_at(received + i));
        }
    }
    CHECK(stalls);
    close_both(fds);
}

/* SIGPIPE would end the test. */
TEST(os_sends_to_nobody) {
    lp_slice parts[2];
    int fds[2], i;
    long n = 0;
    pair(fds);
    parts[0] = parts[1] = lp_s("hello");
    close(fds[1]);
    for (i = 0; i < 200 && n >= 0; i++, usleep(1000))
        n = os->send(os->ctx, fds[0], parts, 1 + i % 2);
    CHECK(n == -EPIPE || n == -ECONNRESET);
    CHECK_INT(os->send(os->ctx, fds[0], parts, 1), -EPIPE);
    CHECK_INT(os->send(os->ctx, fds[0], parts, 2), -EPIPE);
    os->close(os->ctx, fds[0]);
}

TEST(os_shutdown_ends_one_direction) {
    int fds[2];
    char bytes[10];
    pair(fds);
    CHECK_INT(os->shutdown(os->ctx, fds[0], LP_WRITE), 0);
    CHECK_INT(recv(fds[1], bytes, sizeof bytes, 0), 0);
    CHECK_INT(send(fds[1], "late", 4, 0), 4);
    usleep(2000);
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, sizeof bytes), 4);
    close_both(fds);
    CHECK_INT(os->shutdown(os->ctx, fds[0], LP_WRITE), -EBADF);
}

/* Out of descriptors, giving up the reserve lets one more in. */
TEST(os_reserve_for_the_day_of_emfile) {
    lp_poller poller;
    lp_address bound, peer;
    struct rlimit limit;
    int wakes[2];
    int listener = listen_on("127.0.0.1", &bound), client, spare, reserve, fd, last;
    client = connect_to("127.0.0.1", bound.port);
    spare = connect_to("127.0.0.1", bound.port); /* valgrind accepts one before it refuses */
    reserve = os->reserve(os->ctx);
    CHECK(reserve >= 0);
    CHECK(fcntl(reserve, F_GETFD) & FD_CLOEXEC);
    last = dup(0);
    CHECK(last >= 0);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)last + 1;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_INT(os->accept(os->ctx, listener, &peer), -EMFILE);
    CHECK_INT(os->reserve(os->ctx), -EMFILE);
    CHECK_INT(os->poller_open(os->ctx, &poller), -EMFILE);
    CHECK_INT(os->listen(os->ctx, &bound, 1, &peer), -EMFILE);
    CHECK_INT(os->wake_open(os->ctx, wakes), -EMFILE);
    os->close(os->ctx, reserve);
    fd = os->accept(os->ctx, listener, &peer);
    CHECK_INT(fd, reserve);
    close(client);
    close(spare);
    close(last);
    os->close(os->ctx, fd);
    os->close(os->ctx, listener);
}

/* ---- poller ---- */

TEST(poller_reports_what_is_wanted_until_it_is_gone) {
    lp_poller poller = open_poller();
    int fds[2];
    char bytes[10];
    CHECK(poller.fd >= 0);
    CHECK(fcntl(poller.fd, F_GETFD) & FD_CLOEXEC);
    pair(fds);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 70000, 0, LP_READ), 0);
    CHECK_INT(wait_for(&poller, 70000, 0), 0);
    CHECK_INT(send(fds[1], "hello", 5, 0), 5);
    CHECK_INT(wait_for(&poller, 70000, 1000), LP_READ);
    CHECK_INT(wait_for(&poller, 70000, 0), LP_READ); /* level-triggered */
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, 2), 2);
    CHECK_INT(wait_for(&poller, 70000, 0), LP_READ);
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, 10), 3);
    CHECK_INT(wait_for(&poller, 70000, 0), 0);
    close_both(fds);
    os->poller_close(os->ctx, &poller);
}

/* With LP_EDGE: what is left is told of again once it is asked for, or more comes. */
TEST(poller_repeats_what_is_left_when_it_is_asked) {
    const uint32_t edge = LP_READ | LP_HANGUP | LP_EDGE;
    lp_poller poller = open_poller();
    int fds[2];
    char bytes[10];
    pair(fds);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, 0, edge), 0);
    CHECK_INT(wait_for(&poller, 5, 0), 0);
    CHECK_INT(send(fds[1], "hello", 5, 0), 5);
    CHECK_INT(wait_for(&poller, 5, 1000), LP_READ);
    if (TELLS_ONCE) CHECK_INT(wait_for(&poller, 5, 0), 0);
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, 2), 2);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, edge, edge), 0);
    CHECK_INT(wait_for(&poller, 5, 1000), LP_READ);
    if (TELLS_ONCE) CHECK_INT(wait_for(&poller, 5, 0), 0);
    CHECK_INT(send(fds[1], "!", 1, 0), 1);
    CHECK_INT(wait_for(&poller, 5, 1000), LP_READ);
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, 10), 4);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, edge, edge), 0);
    CHECK_INT(wait_for(&poller, 5, 0), 0); /* nothing is left */
    CHECK_INT(send(fds[1], "bye", 3, 0), 3);
    CHECK_INT(shutdown(fds[1], SHUT_WR), 0);
    usleep(2000);
    CHECK_INT(wait_for(&poller, 5, 1000), LP_READ | LP_HANGUP);
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, 10), 3);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, edge, edge), 0);
    CHECK_INT(wait_for(&poller, 5, 1000), LP_READ | LP_HANGUP); /* the end is left */
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, edge, 0), 0);
    CHECK_INT(wait_for(&poller, 5, 0), 0);
    close_both(fds);
    os->poller_close(os->ctx, &poller);
}

/* Each change of mind, with data there to read and room to write. */
TEST(poller_changes_its_interest) {
    uint32_t was, want;
    for (was = LP_READ; was <= (LP_READ | LP_WRITE); was++)
        for (want = 0; want <= (LP_READ | LP_WRITE); want++) {
            lp_poller poller = open_poller();
            int fds[2];
            pair(fds);
            CHECK_INT(send(fds[1], "x", 1, 0), 1);
            CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, 0, was), 0);
            CHECK(wait_for(&poller, 5, 1000) != 0);
            if (want != was) CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, was, want), 0);
            usleep(1000);
            CHECK_INT(wait_for(&poller, 5, want ? 1000 : 0), want);
            if (!want) { /* gone, and may come again */
                CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 6, 0, LP_READ), 0);
                CHECK_INT(wait_for(&poller, 6, 1000), LP_READ);
            }
            close_both(fds);
            os->poller_close(os->ctx, &poller);
        }
}

TEST(poller_tells_a_half_closed_stream) {
    lp_poller poller = open_poller();
    int fds[2];
    char bytes[10];
    pair(fds);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, 0, LP_READ | LP_HANGUP), 0);
    CHECK_INT(send(fds[1], "bye", 3, 0), 3);
    CHECK_INT(wait_for(&poller, 5, 1000), LP_READ);
    CHECK_INT(shutdown(fds[1], SHUT_WR), 0);
    usleep(2000);
    CHECK_INT(wait_for(&poller, 5, 1000), LP_READ | LP_HANGUP); /* with data before it */
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, 10), 3);
    CHECK_INT(wait_for(&poller, 5, 0), LP_READ | LP_HANGUP);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, LP_READ | LP_HANGUP, 0), 0);
    CHECK_INT(wait_for(&poller, 5, 0), 0);
    CHECK_INT(os->send(os->ctx, fds[0], &(lp_slice){"ok", 2}, 1), 2); /* the other half lives */
    CHECK_INT(recv(fds[1], bytes, 10, 0), 2);
    close_both(fds);
    os->poller_close(os->ctx, &poller);
}

TEST(poller_tells_a_broken_stream) {
    struct linger hard = {1, 0};
    lp_poller poller = open_poller();
    int fds[2];
    char bytes[10];
    uint32_t what;
    pair(fds);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, 0, LP_READ | LP_HANGUP), 0);
    CHECK_INT(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    close(fds[1]); /* RST */
    what = wait_for(&poller, 5, 1000);
    CHECK((what & (LP_READ | LP_HANGUP)) == (LP_READ | LP_HANGUP));
    CHECK_INT(os->recv(os->ctx, fds[0], bytes, 10), -ECONNRESET);
    os->close(os->ctx, fds[0]);
    CHECK_INT(wait_for(&poller, 5, 0), 0); /* closing removes it */
    os->poller_close(os->ctx, &poller);
}

/* Parked behind a full buffer: no more reading, but the end is to be heard. */
TEST(poller_tells_an_end_alone) {
    lp_poller poller = open_poller();
    int fds[2];
    pair(fds);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, 0, LP_READ | LP_HANGUP), 0);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, LP_READ | LP_HANGUP, LP_HANGUP), 0);
    CHECK_INT(send(fds[1], "x", 1, 0), 1);
    CHECK(!(wait_for(&poller, 5, 20) & LP_HANGUP)); /* kqueue tells that something came... */
    CHECK_INT(wait_for(&poller, 5, 0), 0);          /* ...but once, or a loop would spin */
    CHECK_INT(shutdown(fds[1], SHUT_WR), 0);
    CHECK(wait_for(&poller, 5, 1000) & LP_HANGUP);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 5, LP_HANGUP, LP_READ | LP_HANGUP), 0);
    CHECK_INT(wait_for(&poller, 5, 1000), LP_READ | LP_HANGUP); /* level-triggered again */
    close_both(fds);
    os->poller_close(os->ctx, &poller);
}

/* A listener, many sockets at once, and no more events than were asked for. */
TEST(poller_reports_in_portions) {
    lp_address bound, peer;
    lp_event events[LPI_EVENTS + 50];
    lp_poller poller = open_poller();
    int listener = listen_on("127.0.0.1", &bound);
    int fds[20], clients[20], i, n, seen = 0, rounds;
    uint8_t told[20] = {0};
    CHECK_INT(os->poller_set(os->ctx, &poller, listener, 999, 0, LP_READ), 0);
    for (i = 0; i < 20; i++) {
        clients[i] = connect_to("127.0.0.1", bound.port);
        CHECK_INT(wait_for(&poller, 999, 1000), LP_READ);
        fds[i] = os->accept(os->ctx, listener, &peer);
        CHECK_INT(wait_for(&poller, 999, 0), 0);
    }
    for (i = 0; i < 20; i++) {
        CHECK_INT(os->poller_set(os->ctx, &poller, fds[i], (uint32_t)i, 0, LP_READ), 0);
        CHECK_INT(send(clients[i], "x", 1, 0), 1);
    }
    for (rounds = 0; seen < 20 && rounds < 100; rounds++) { /* and none starves */
        n = os->poller_wait(os->ctx, &poller, events, 7, in_ms(1000));
        CHECK(n > 0 && n <= 7);
        while (n--) {
            CHECK(events[n].tag < 20);
            seen += !told[events[n].tag];
            told[events[n].tag] = 1;
        }
    }
    CHECK_INT(seen, 20);
    n = os->poller_wait(os->ctx, &poller, events, LPI_EVENTS + 50, in_ms(1000));
    CHECK_INT(n, 20);
    for (i = 0; i < 20; i++) {
        close(clients[i]);
        os->close(os->ctx, fds[i]);
    }
    os->close(os->ctx, listener);
    os->poller_close(os->ctx, &poller);
}

TEST(poller_waits_as_long_as_it_was_told) {
    lp_poller poller = open_poller();
    int i;
    lp_event events[2];
    for (i = 0; i < 3; i++) {
        uint64_t before = os->monotonic_us(os->ctx), took;
        CHECK_INT(wait_for(&poller, 0, i * 30), 0);
        took = os->monotonic_us(os->ctx) - before;
        CHECK(took + 1000 >= (uint64_t)i * 30000);
        CHECK(took < 10000000);
    }
    os->poller_close(os->ctx, &poller);
    CHECK_INT(os->poller_wait(os->ctx, &poller, events, 2, 0), -EBADF);
    CHECK_INT(os->poller_set(os->ctx, &poller, 0, 0, 0, LP_READ), -EBADF);
}

#ifndef LONGPOLL_KQUEUE

/* ---- the timer beside epoll ---- */

/* These stand before the C library's: each call is counted and may be made to fail. */

static int timer_sets, timer_set_error, timer_create_error, timer_add_error;
static int epoll_wait_ms; /* what epoll_wait was told last */

int timerfd_create(int clock, int flags) {
    if (timer_create_error) return errno = timer_create_error, -1;
    return (int)syscall(SYS_timerfd_create, clock, flags);
}

int timerfd_settime(int fd, int flags, const struct itimerspec *at, struct itimerspec *was) {
    timer_sets++;
    if (timer_set_error) return errno = timer_set_error, -1;
    return (int)syscall(SYS_timerfd_settime, fd, flags, at, was);
}

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event) {
    if (op == EPOLL_CTL_ADD && event->data.u64 == LPI_EVENT_TIMER && timer_add_error)
        return errno = timer_add_error, -1;
    return (int)syscall(SYS_epoll_ctl, epoll, op, fd, event);
}

int epoll_wait(int epoll, struct epoll_event *events, int max, int wait_ms) {
    int n = (int)syscall(SYS_epoll_pwait, epoll, events, max, wait_ms, NULL, (size_t)8);
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
    if (n > 0) __msan_unpoison(events, (size_t)n * sizeof *events); /* which it does not know by itself */
#endif
#endif
    epoll_wait_ms = wait_ms;
    return n;
}

static int open_descriptors(void) {
    int fd, n = 0;
    for (fd = 0; fd < 256; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* What somebody sees who waits on lp_fd() in a loop of his own. */
static int is_readable(const lp_poller *poller) {
    struct pollfd of = {0, POLLIN, 0};
    of.fd = poller->fd;
    return poll(&of, 1, 0) == 1;
}

/* A wait that nothing but its deadline ends. */
static int wait_until(lp_poller *poller, uint64_t until_us) {
    lp_event events[4];
    return os->poller_wait(os->ctx, poller, events, 4, until_us);
}

TEST(timer_ends_a_wait_and_never_early) {
    lp_poller poller = open_poller();
    int i;
    CHECK(poller.timer >= 0);
    CHECK_INT(fcntl(poller.timer, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    for (i = 1; i < 40; i++) {
        uint64_t until_us = os->monotonic_us(os->ctx) + (uint64_t)unit_below(3000) + 1;
        CHECK_INT(wait_until(&poller, until_us), 0);
        CHECK_INT(epoll_wait_ms, -1);
        CHECK(os->monotonic_us(os->ctx) >= until_us);
        CHECK(os->monotonic_us(os->ctx) < until_us + 9000000);
    }
    CHECK_INT(wait_until(&poller, 1), 0); /* long past */
    CHECK_INT(epoll_wait_ms, -1);
    CHECK_INT(wait_until(&poller, 0), 0);
    CHECK_INT(epoll_wait_ms, 0);
    os->poller_close(os->ctx, &poller);
}

/* Deadlines that move later do not set it again, nor does a wait that is over at once or has
   no deadline; one that comes sooner does. */
TEST(timer_is_set_once_for_many_waits) {
    lp_poller poller = open_poller();
    lp_event events[2];
    uint64_t first_us, now_us = os->monotonic_us(os->ctx);
    int fds[2], i;
    CHECK_INT(os->wake_open(os->ctx, fds), 0);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 3, 0, LP_READ), 0);
    os->wake_signal(os->ctx, fds[1]); /* each wait has an event at once */
    timer_sets = 0;
    first_us = now_us + 100000000;
    for (i = 0; i < 20; i++)
        CHECK_INT(os->poller_wait(os->ctx, &poller, events, 2, first_us + (uint64_t)i), 1);
    CHECK_INT(timer_sets, 1);
    CHECK_INT(os->poller_wait(os->ctx, &poller, events, 2, UINT64_MAX), 1);
    CHECK_INT(os->poller_wait(os->ctx, &poller, events, 2, 0), 1);
    CHECK_INT(timer_sets, 1);
    CHECK_INT(os->poller_wait(os->ctx, &poller, events, 2, first_us - 1), 1);
    CHECK_INT(timer_sets, 2);
    os->wake_clear(os->ctx, fds[0]);
    now_us = os->monotonic_us(os->ctx);
    CHECK_INT(wait_until(&poller, now_us + 20000), 0);
    CHECK_INT(timer_sets, 3);
    CHECK(os->monotonic_us(os->ctx) >= now_us + 20000);
    CHECK_INT(wait_until(&poller, now_us + 40000), 0); /* it has fired: set anew */
    CHECK_INT(timer_sets, 4);
    CHECK(os->monotonic_us(os->ctx) >= now_us + 40000);
    close_both(fds);
    os->poller_close(os->ctx, &poller);
}

/* One that was set for what is no more costs one empty wait, and is told to nobody: neither as
   an event nor, for longer than until the next wait, by the poller's own descriptor. */
TEST(timer_that_fires_for_nothing_is_swallowed) {
    lp_poller poller = open_poller();
    lp_event events[4];
    uint64_t now_us = os->monotonic_us(os->ctx);
    int fds[2];
    CHECK_INT(os->wake_open(os->ctx, fds), 0);
    CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 3, 0, LP_READ), 0);
    os->wake_signal(os->ctx, fds[1]);
    CHECK_INT(os->poller_wait(os->ctx, &poller, events, 4, now_us + 30000), 1);
    os->wake_clear(os->ctx, fds[0]);
    CHECK(!is_readable(&poller));
    usleep(40000);
    CHECK(is_readable(&poller));
    CHECK_INT(wait_until(&poller, 0), 0);
    CHECK(!is_readable(&poller));
    now_us = os->monotonic_us(os->ctx); /* and beside a true event */
    os->wake_signal(os->ctx, fds[1]);
    CHECK_INT(os->poller_wait(os->ctx, &poller, events, 4, now_us + 1000), 1);
    usleep(5000);
    CHECK_INT(os->poller_wait(os->ctx, &poller, events, 4, now_us + 100000000), 1);
    CHECK_INT(events[0].tag, 3);
    os->wake_clear(os->ctx, fds[0]);
    CHECK(!is_readable(&poller));
    CHECK_INT(wait_until(&poller, os->monotonic_us(os->ctx) + 10000), 0);
    close_both(fds);
    os->poller_close(os->ctx, &poller);
}

/* Where there is none, or no more, milliseconds do, and are rounded up. */
TEST(timer_that_cannot_be_had_is_done_without) {
    int *const errors[] = {&timer_create_error, &timer_add_error, &timer_set_error};
    int before = open_descriptors();
    size_t i;
    for (i = 0; i < 3; i++) {
        lp_poller poller;
        uint64_t until_us;
        *errors[i] = EMFILE;
        poller = open_poller();
        CHECK_INT(poller.timer >= 0, i == 2);
        until_us = os->monotonic_us(os->ctx) + 20500;
        while (os->monotonic_us(os->ctx) < until_us) {
            CHECK_INT(wait_until(&poller, until_us), 0);
            CHECK(epoll_wait_ms > 0 && epoll_wait_ms <= 21);
        }
        *errors[i] = 0; /* it is not tried again */
        CHECK_INT(poller.timer, -1);
        CHECK_INT(wait_until(&poller, os->monotonic_us(os->ctx) + 1), 0);
        CHECK(epoll_wait_ms >= 0 && epoll_wait_ms <= 1);
        CHECK_INT(wait_until(&poller, 0), 0);
        CHECK_INT(epoll_wait_ms, 0);
        os->poller_close(os->ctx, &poller);
        CHECK_INT(open_descriptors(), before);
    }
}

/* The furthest deadlines, with a timer and without: something happens before. */
TEST(timer_far_away) {
    int i;
    for (i = 0; i < 2; i++) {
        lp_event events[2];
        lp_poller poller;
        int fds[2];
        timer_create_error = i ? ENOSYS : 0;
        poller = open_poller();
        CHECK_INT(os->wake_open(os->ctx, fds), 0);
        CHECK_INT(os->poller_set(os->ctx, &poller, fds[0], 3, 0, LP_READ), 0);
        os->wake_signal(os->ctx, fds[1]);
        CHECK_INT(os->poller_wait(os->ctx, &poller, events, 2, UINT64_MAX), 1);
        CHECK_INT(epoll_wait_ms, -1);
        CHECK_INT(os->poller_wait(os->ctx, &poller, events, 2,
                                  os->monotonic_us(os->ctx) + LPI_WAIT_MAX * UINT64_C(1000)), 1);
        CHECK_INT(epoll_wait_ms, i ? LPI_WAIT_MAX : -1);
        CHECK_INT(os->poller_wait(os->ctx, &poller, events, 2, UINT64_MAX - 1), 1);
        CHECK_INT(epoll_wait_ms, i ? INT32_MAX : -1);
        close_both(fds);
        os->poller_close(os->ctx, &poller);
    }
    timer_create_error = 0;
}

/* The poller is closed while a child holds copies of it and of its timer: for the parent's
   copy of the poller the timer is gone, and gives no more events. */
TEST(timer_is_gone_though_a_child_holds_it) {
    lp_poller poller = open_poller();
    uint64_t until_us = os->monotonic_us(os->ctx) + 1000;
    int pipes[2], copy = dup(poller.fd), status;
    struct epoll_event event;
    lp_event none;
    pid_t child;
    char byte;
    CHECK(copy >= 0 && !pipe(pipes));
    CHECK_INT(os->poller_set(os->ctx, &poller, pipes[0], 9, 0, LP_READ), 0);
    CHECK_INT(write(pipes[1], "x", 1), 1);
    CHECK_INT(os->poller_wait(os->ctx, &poller, &none, 1, until_us), 1); /* sets it */
    CHECK_INT(read(pipes[0], &byte, 1), 1);
    CHECK_INT(os->poller_set(os->ctx, &poller, pipes[0], 9, LP_READ, 0), 0);
    child = fork();
    if (child == 0) {
        close(pipes[1]);
        while (read(pipes[0], &byte, 1) < 0) {} /* until the parent is done */
        _exit(0);
    }
    os->poller_close(os->ctx, &poller);
    CHECK_INT(epoll_wait(copy, &event, 1, 20), 0);
    close(copy);
    close(pipes[1]);
    CHECK_INT(waitpid(child, &status, 0), child);
    close(pipes[0]);
}

/* A failure to set it closes it, and a child's copy must not go on firing either. */
TEST(timer_that_could_not_be_set_is_taken_out) {
    lp_poller poller = open_poller();
    int timer = dup(poller.timer); /* as a child's */
    struct itimerspec at;
    timer_set_error = EINVAL;
    CHECK_INT(wait_until(&poller, os->monotonic_us(os->ctx) + 1000), 0);
    timer_set_error = 0;
    memset(&at, 0, sizeof at);
    at.it_value.tv_nsec = 1;
    CHECK_INT(timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL), 0);
    usleep(1000);
    CHECK(!is_readable(&poller));
    close(timer);
    os->poller_close(os->ctx, &poller);
}

#endif

static void on_alarm(int number) { (void)number; }

TEST(poller_takes_a_signal_for_no_event) {
    lp_poller poller = open_poller();
    struct sigaction action;
    pid_t parent = getpid(), child;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    child = fork();
    while (child == 0) { /* again and again: the first may come before the waiting */
        usleep(10000);
        if (getppid() != parent || kill(parent, SIGUSR1)) _exit(0);
    }
    CHECK_INT(wait_for(&poller, 0, -1), 0);
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) != child) {}
    os->poller_close(os->ctx, &poller);
}

/* ---- wake ---- */

static int wake_fds[2];

static void *wake_later(void *ctx) {
    (void)ctx;
    usleep(10000);
    os->wake_signal(os->ctx, wake_fds[1]);
    return NULL;
}

static void wake_in_handler(int number) {
    (void)number;
    os->wake_signal(os->ctx, wake_fds[1]);
}

TEST(wake_from_a_thread_and_from_a_signal_handler) {
    lp_poller poller = open_poller();
    pthread_t thread;
    CHECK_INT(os->wake_open(os->ctx, wake_fds), 0);
    check_prepared(wake_fds[0]);
    check_prepared(wake_fds[1]);
    CHECK_INT(os->poller_set(os->ctx, &poller, wake_fds[0], 3, 0, LP_READ), 0);
    os->wake_clear(os->ctx, wake_fds[0]); /* of nothing: does not block */
    CHECK_INT(wait_for(&poller, 3, 0), 0);
    CHECK_INT(pthread_create(&thread, NULL, wake_later, NULL), 0);
    CHECK_INT(wait_for(&poller, 3, -1), LP_READ);
    CHECK_INT(pthread_join(thread, NULL), 0);
    os->wake_clear(os->ctx, wake_fds[0]);
    CHECK_INT(wait_for(&poller, 3, 0), 0);
    CHECK(signal(SIGUSR1, wake_in_handler) != SIG_ERR);
    CHECK_INT(raise(SIGUSR1), 0);
    CHECK_INT(wait_for(&poller, 3, 1000), LP_READ);
    close_both(wake_fds);
    os->poller_close(os->ctx, &poller);
}

/* More signals than a pipe holds: none blocks, errno is left alone, one clearing is enough. */
TEST(wake_many_times) {
    lp_poller poller = open_poller();
    int i, counts[] = {1, 63, 64, 65, 128, 200000};
    size_t k;
    CHECK_INT(os->wake_open(os->ctx, wake_fds), 0);
    CHECK_INT(os->poller_set(os->ctx, &poller, wake_fds[0], 3, 0, LP_READ), 0);
    for (k = 0; k < LPI_COUNT(counts); k++) {
        errno = 123;
        for (i = 0; i < counts[k]; i++) os->wake_signal(os->ctx, wake_fds[1]);
        CHECK_INT(errno, 123);
        CHECK_INT(wait_for(&poller, 3, 1000), LP_READ);
        os->wake_clear(os->ctx, wake_fds[0]);
        CHECK_INT(wait_for(&poller, 3, 0), 0);
    }
    close_both(wake_fds);
    os->poller_close(os->ctx, &poller);
}

/* ---- inbox ---- */

enum { WRITERS = 4, TASKS = 2000 };

static lpi_loop inbox_loop;
static uint32_t inbox_signals;
static unit_memory tasks_memory;
static lp_memory inbox_memory;
static int told_by[WRITERS];

static void count_signal(void *ctx, int fd) {
    (void)ctx, (void)fd;
    lpi_atomic_add(&inbox_signals, 1);
}

static void open_inbox(void) {
    static lp_os fake_os;
    fake_os.wake_signal = count_signal;
    inbox_loop.os = &fake_os;
    inbox_memory = unit_memory_of(&tasks_memory);
    CHECK_INT(lpi_mutex_init(&inbox_loop.mutex), 0);
    CHECK(!lpi_inbox_take(&inbox_loop));
}

static void write_task(int number) {
    lpi_task *task = (lpi_task *)lpi_alloc_zero(&inbox_memory, sizeof *task);
    task->kind = LPI_TASK_TELL;
    task->of.outcome.published.timestamp_us = (uint64_t)number;
    lpi_inbox_add(&inbox_loop, task, 1);
}

/* How many there were. */
static int read_tasks(void) {
    lpi_task *task = lpi_inbox_take(&inbox_loop);
    int n = 0;
    while (task) {
        lpi_task *next = task->next;
        int number = (int)task->of.outcome.published.timestamp_us, writer = number / TASKS;
        CHECK_INT(number % TASKS, told_by[writer]); /* of one thread, in order */
        told_by[writer]++;
        lpi_free(&inbox_memory, task, sizeof *task);
        task = next;
        n++;
    }
    return n;
}

static void *write_tasks(void *ctx) {
    int writer = (int)(intptr_t)ctx, i;
    for (i = 0; i < TASKS; i++) write_task(writer * TASKS + i);
    return NULL;
}

TEST(inbox_keeps_order_and_loses_nothing) {
    pthread_t threads[WRITERS];
    int i, total = 0;
    open_inbox();
    for (i = 0; i < WRITERS; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, write_tasks, (void *)(intptr_t)i), 0);
    while (total < WRITERS * TASKS) {
        uint32_t before = lpi_atomic_get(&inbox_signals);
        int n = read_tasks();
        if (n && !total) CHECK(before || lpi_atomic_get(&inbox_signals)); /* it was signalled */
        total += n;
    }
    for (i = 0; i < WRITERS; i++) CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK(!lpi_inbox_take(&inbox_loop));
    CHECK_INT(tasks_memory.blocks, 0);
    lpi_mutex_free(&inbox_loop.mutex);
}

/* The first in an empty inbox signals, those behind it do not. */
TEST(inbox_signals_once_until_it_is_emptied) {
    int i;
    open_inbox();
    for (i = 0; i < 5; i++) write_task(i);
    CHECK_INT(inbox_signals, 1);
    CHECK_INT(read_tasks(), 5);
    write_task(5);
    CHECK_INT(inbox_signals, 2);
    CHECK_INT(read_tasks(), 1);
    lpi_mutex_free(&inbox_loop.mutex);
}
