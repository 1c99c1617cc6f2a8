/* differential.c: the simulated Redis of tests/redis.h against a real redis-server.

       build/redis/differential --call FILE --beat FILE [--calls N] [--seed S]

   Both are sent the same random commands: the two scripts with random channels, witnesses,
   counts, ages, keep times, idempotency keys and pages, and amid them what changes the keyspace
   otherwise: keys deleted, set back, of another type, about to expire. Every byte that either
   says must be equal, on all connections. The real server's clock is a file that this program
   writes (clock.c), so times are equal too, and keys expire at the same moment.

   A round of a few thousand calls begins with empty servers and a seed of its own (S, S + 1 and
   so on); it is a test. So are the scenarios before the rounds: what the server answers in
   states that are provoked one by one. What fails prints the command that repeats it. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/redis.h"

enum { CONNS = 4, COMMAND = 0, ROUND_CALLS = 2000, BATCH_MAX = 64, REPLY_TIMEOUT_MS = 10000 };

/* One connection to both: what the simulated one has said and the real one must say. */
typedef struct pair {
    int fd;
    redis_conn *conn;
    redis_bytes expected;
} pair;

static const char *call_path, *beat_path;
static char *call_source, *beat_source;
static char call_sha[41], beat_sha[41];

static char directory[128];
static volatile int64_t *shared_clock;
static pid_t server;
static int port, admin = -1;

static redis *S;
static pair pairs[CONNS];
static int64_t now_us;
static uint64_t seed, commands, calls;
static int passed, failed, skipped;

/* ---- random ---- */

static uint64_t random_state;

static uint64_t rnd(void)
{
    uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t below(uint64_t n) { return rnd() % n; }
static int one_in(uint64_t n) { return !below(n); }

/* ---- the real server ---- */

static void server_end(void)
{
    char path[160];
    int i;
    for (i = 0; i < CONNS; i++)
        if (pairs[i].fd > 0) close(pairs[i].fd);
    if (server > 0) {
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
        server = 0;
    }
    if (!*directory) return;
    snprintf(path, sizeof path, "%s/clock", directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/log", directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/dump.rdb", directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/lost", directory);
    rmdir(path);
    rmdir(directory);
}

static int finish(void)
{
    server_end();
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}

static void fail(const char *what)
{
    printf("FAIL: %s\n", what);
    failed++;
    exit(finish());
}

static void on_signal(int number)
{
    if (server > 0) kill(server, SIGKILL);
    signal(number, SIG_DFL);
    raise(number);
}

static int dial(void)
{
    struct sockaddr_in address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof address)) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static int free_port(void)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) ||
        getsockname(fd, (struct sockaddr *)&address, &length))
        fail("no port is free");
    close(fd);
    return ntohs(address.sin_port);
}

/* The shared object lies beside this program. */
static void clock_path(char out[4200])
{
    ssize_t n = readlink("/proc/self/exe", out, 4096);
    char *slash;
    out[n > 0 ? n : 0] = 0;
    slash = strrchr(out, '/');
    if (!slash) fail("where is this program?");
    snprintf(slash + 1, 64, "clock.so");
}

static void server_exec(const char *log)
{
    char preload[4200], where[160], number[16];
    char *const args[] = {(char *)"redis-server", (char *)"--port", number, (char *)"--bind",
                          (char *)"127.0.0.1", (char *)"--save", (char *)"", (char *)"--appendonly",
                          (char *)"no", (char *)"--dir", directory, (char *)"--daemonize",
                          (char *)"no", (char *)"--enable-debug-command", (char *)"yes",
                          (char *)"--enable-protected-configs", (char *)"yes",
                          (char *)"--loading-process-events-interval-bytes", (char *)"1024",
                          (char *)"--busy-reply-threshold", (char *)"50", NULL};
    int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    clock_path(preload);
    snprintf(where, sizeof where, "%s/clock", directory);
    snprintf(number, sizeof number, "%d", port);
    setenv("LD_PRELOAD", preload, 1);
    setenv("LONGPOLL_CLOCK", where, 1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(fd, 1);
    dup2(fd, 2);
    execvp("redis-server", args);
    _exit(127);
}

/* Start it on a port that is free. Another program may take the port first: then again. */
static void server_start(void)
{
    char log[160];
    int tries, waits;
    snprintf(log, sizeof log, "%s/log", directory);
    for (tries = 0; tries < 5; tries++) {
        port = free_port();
        server = fork();
        if (!server) server_exec(log);
        for (waits = 0; waits < 500; waits++) {
            if (waitpid(server, NULL, WNOHANG) == server) break;
            admin = dial();
            if (admin >= 0) return;
            usleep(10000);
        }
    }
    server = 0;
    fail("redis-server does not start");
}

/* ---- RESP, written and read ---- */

static void put_args(redis_bytes *b, const redis_slice *args, size_t n)
{
    size_t i;
    redis_print(b, "*%zu\r\n", n);
    for (i = 0; i < n; i++) {
        redis_print(b, "$%zu\r\n", args[i].length);
        redis_append(b, args[i].at, args[i].length);
        redis_append(b, "\r\n", 2);
    }
}

/* The words of a line; one in quotes may have spaces in it. */
static size_t split_words(const char *line, redis_slice *words, size_t max)
{
    size_t n = 0;
    while (*line && n < max) {
        const int quoted = *line == '"';
        size_t length = strcspn(line += quoted, quoted ? "\"" : " ");
        words[n].at = line;
        words[n++].length = length;
        line += length + (size_t)quoted;
        line += *line == ' ';
    }
    return n;
}

/* The length of the reply that begins there, 0 if it is not whole. */
static size_t reply_length(const char *at, size_t n)
{
    const char *end = (const char *)memchr(at, '\n', n);
    size_t length, i;
    redis_slice number;
    int64_t count;
    if (!end) return 0;
    length = (size_t)(end - at) + 1;
    if ((*at != '$' && *at != '*') || length < 4) return length;
    number.at = at + 1;
    number.length = length - 3;
    if (redis_integer(number, &count) || count < 0) return length;
    if (*at == '$') return length + (size_t)count + 2 <= n ? length + (size_t)count + 2 : 0;
    for (i = 0; i < (size_t)count; i++) {
        size_t more = reply_length(at + length, n - length);
        if (!more) return 0;
        length += more;
    }
    return length;
}

static void send_all(int fd, redis_slice s)
{
    while (s.length) {
        ssize_t n = send(fd, s.at, s.length, MSG_NOSIGNAL);
        if (n <= 0) fail("the real server takes no bytes");
        s.at += n;
        s.length -= (size_t)n;
    }
}

/* Ask the real server alone, in words. The reply is text until the next call. */
static const char *ask_real(const char *line)
{
    static redis_bytes reply;
    redis_bytes b;
    redis_slice parts[24];
    memset(&b, 0, sizeof b);
    put_args(&b, parts, split_words(line, parts, 24));
    send_all(admin, redis_view(&b));
    redis_bytes_free(&b);
    reply.from = reply.length = 0;
    do {
        char buffer[16384];
        ssize_t n = recv(admin, buffer, sizeof buffer, 0);
        if (n <= 0) fail(line);
        redis_append(&reply, buffer, (size_t)n);
    } while (!reply_length(reply.at, reply.length));
    redis_append(&reply, "", 1);
    reply.length--;
    return reply.at;
}

static void must_real(const char *line)
{
    const char *reply = ask_real(line);
    if (*reply != '-') return;
    printf("%s\n%s", line, reply);
    fail("the real server refuses that");
}

/* The simulated server is given the real one's identity. */
static void take_identity(void)
{
    const char *info = ask_real("INFO replication"), *at;
    at = strstr(info, "master_replid:");
    if (!at) fail("INFO without master_replid");
    memcpy(S->replid, at + 14, 40);
    at = strstr(info, "master_replid2:");
    memcpy(S->replid2, at + 15, 40);
}

/* ---- both ---- */

typedef struct sent {
    redis_bytes command;
    int on;
    size_t at;                  /* where its reply begins in `expected`         */
} sent;

static sent batch[BATCH_MAX];
static size_t batch_count;

static void print_bytes(redis_slice s)
{
    size_t i;
    for (i = 0; i < s.length && i < 3000; i++) {
        const unsigned char c = (unsigned char)s.at[i];
        if (c == '\r') continue;
        if (c == '\n') fputs("\n    ", stdout);
        else if (c < 32 || c > 126) printf("\\x%02x", c);
        else putchar(c);
    }
    printf("%s\n", i < s.length ? " ..." : "");
}

static void mismatch(int on, size_t at, redis_slice real)
{
    pair *p = &pairs[on];
    size_t i, k = batch_count;
    redis_slice expected = redis_view(&p->expected);
    for (i = 0; i < batch_count; i++)
        if (batch[i].on == on && batch[i].at <= at) k = i;
    printf("FAIL: they differ: seed %" PRIu64 ", call %" PRIu64 ", connection %d\n", seed, calls,
           on);
    if (k < batch_count) {
        printf("command:\n    ");
        print_bytes(redis_view(&batch[k].command));
        expected.at += batch[k].at;
        expected.length -= batch[k].at;
        real.at += batch[k].at;
        real.length = real.length > batch[k].at ? real.length - batch[k].at : 0;
        if (reply_length(expected.at, expected.length))
            expected.length = reply_length(expected.at, expected.length);
        if (reply_length(real.at, real.length)) real.length = reply_length(real.at, real.length);
    }
    printf("simulated:\n    ");
    print_bytes(expected);
    printf("real:\n    ");
    print_bytes(real);
    printf("again: build/redis/differential --call %s --beat %s --calls %d --seed %" PRIu64 "\n",
           call_path, beat_path, ROUND_CALLS, seed);
    failed++;
    exit(finish());
}

/* What the simulated one has said on all connections is added to what is expected. Taken in
   pieces of any size. */
static void take_output(void)
{
    int i;
    for (i = 0; i < CONNS; i++) {
        const char *at;
        size_t n, part;
        while (at = redis_output(pairs[i].conn, &n), n) {
            part = one_in(4) ? 1 + (size_t)below(n) : n;
            redis_append(&pairs[i].expected, at, part);
            redis_take(pairs[i].conn, part);
        }
    }
}

/* The bytes come cut anywhere. */
static void give_simulated(redis_conn *c, redis_slice s)
{
    int cut = one_in(16);
    while (s.length) {
        size_t part = cut ? 1 + (size_t)below(s.length) : s.length;
        redis_receive(c, s.at, part);
        s.at += part;
        s.length -= part;
    }
}

static void give(int on, const redis_slice *args, size_t n)
{
    sent *e = &batch[batch_count++];
    e->command.from = e->command.length = 0;
    put_args(&e->command, args, n);
    e->on = on;
    e->at = pairs[on].expected.length;
    give_simulated(pairs[on].conn, redis_view(&e->command));
    take_output();
    commands++;
}

static void give_words(int on, const char *line)
{
    redis_slice parts[24];
    give(on, parts, split_words(line, parts, 24));
}

/* The real server's bytes on that connection must be those. */
static void compare(int on)
{
    pair *p = &pairs[on];
    static redis_bytes real;
    real.from = real.length = 0;
    while (real.length < p->expected.length) {
        static char buffer[65536];
        struct pollfd watch;
        ssize_t n;
        watch.fd = p->fd;
        watch.events = POLLIN;
        n = poll(&watch, 1, REPLY_TIMEOUT_MS) > 0 ? recv(p->fd, buffer, sizeof buffer, 0) : 0;
        if (n <= 0) mismatch(on, real.length, redis_view(&real));
        redis_append(&real, buffer, (size_t)n);
        if (real.length > p->expected.length ||
            memcmp(real.at, p->expected.at, real.length)) {
            size_t i = 0;
            while (i < p->expected.length && i < real.length && real.at[i] == p->expected.at[i])
                i++;
            mismatch(on, i, redis_view(&real));
        }
    }
    p->expected.from = p->expected.length = 0;
}

/* Send what was given to the simulated one, and compare all that both say. */
static void settle(void)
{
    redis_bytes out;
    size_t i;
    int on;
    memset(&out, 0, sizeof out);
    for (i = 0; i < batch_count;) {
        on = batch[i].on;
        out.from = out.length = 0;
        for (; i < batch_count && batch[i].on == on; i++)
            redis_append(&out, batch[i].command.at, batch[i].command.length);
        send_all(pairs[on].fd, redis_view(&out));
        if (i < batch_count) fail("a batch is of one connection");
    }
    redis_bytes_free(&out);
    for (on = 0; on < CONNS; on++) compare(on);
    batch_count = 0;
}

static void both(int on, const char *line)
{
    give_words(on, line);
    settle();
}

static void set_clock(int64_t us)
{
    now_us = us;
    *shared_clock = us;
    redis_clock(S, (uint64_t)us);
}

static void pair_open(int on)
{
    pairs[on].fd = dial();
    if (pairs[on].fd < 0) fail("the real server takes no connection");
    pairs[on].conn = redis_connect(S);
    pairs[on].expected.length = pairs[on].expected.from = 0;
}

static void pair_close(int on)
{
    close(pairs[on].fd);
    redis_close(pairs[on].conn);
}

/* Both have closed it: nothing but the end may come. */
static void pair_reopen(int on)
{
    char byte;
    if (!pairs[on].conn->closed) fail("the simulated server has not closed a connection");
    if (recv(pairs[on].fd, &byte, 1, 0) > 0) fail("the real server has not closed a connection");
    pair_close(on);
    pair_open(on);
}

static void load_scripts(void)
{
    redis_slice args[3];
    args[0] = redis_slice_of("SCRIPT");
    args[1] = redis_slice_of("LOAD");
    args[2] = redis_slice_of(call_source);
    give(COMMAND, args, 3);
    args[2] = redis_slice_of(beat_source);
    give(COMMAND, args, 3);
    settle();
    redis_sha_hex(redis_slice_of(call_source), call_sha);
    redis_sha_hex(redis_slice_of(beat_source), beat_sha);
}

/* ---- random commands ---- */

enum { CHANNELS = 4, TRIES = 3, ARGS_MAX = 24 };

/* What stays the same for a round, mostly. */
static struct {
    int channels;
    int64_t count, age, keep, empty, retry, page;
    uint64_t transient;         /* of a hundred publishing calls                */
    int garbage;                /* one argument in so many is odd; 0: none is   */
    int db;
    int burst;                  /* one channel, and nothing is odd              */
} round_of;

typedef struct words {
    redis_slice at[ARGS_MAX];
    size_t n;
    char text[ARGS_MAX][64];
} words;

static void word(words *w, const char *text) { w->at[w->n++] = redis_slice_of(text); }

static REDIS_FORMAT(2, 3) void word_print(words *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(w->text[w->n], sizeof w->text[w->n], format, args);
    va_end(args);
    w->at[w->n] = redis_slice_of(w->text[w->n]);
    w->n++;
}

static const char *const odd_numbers[] = {
    "", "x", " 5", "5 ", "0x10", "1e3", "-1", "0", "01", "1.5",
    "9007199254740993", "18446744073709551616", "1e300",
    "5x", "--1", "+3"};

static void word_number(words *w, int64_t n)
{
    if (!round_of.burst && round_of.garbage && one_in((uint64_t)round_of.garbage))
        word(w, odd_numbers[below(sizeof odd_numbers / sizeof *odd_numbers)]);
    else word_print(w, "%" PRId64, n);
}

static void key_of(char kind, int channel, char out[32])
{
    if (kind == 'i') snprintf(out, 32, "lp1:{00%d}i:c%d\nk%d", channel, channel, (int)below(TRIES));
    else snprintf(out, 32, "lp1:{00%d}%c:c%d", channel, kind, channel);
}

static double channel_field(int channel, const char *field)
{
    char name[32];
    double value = 0;
    const redis_key *key;
    const redis_field *f;
    key_of('h', channel, name);
    key = redis_keyspace_find(&S->keys, round_of.db, redis_slice_of(name));
    f = key && key->type == REDIS_HASH ? redis_hash_find(key, redis_slice_of(field)) : NULL;
    if (f && redis_run_number(redis_view(&f->value), &value)) value = 0;
    return value < 9e15 && value > -9e15 ? value : 0;
}

/* About that number: most often exactly. */
static int64_t near_to(double value)
{
    int64_t n = (int64_t)value;
    switch (below(12)) {
    case 0: return n + 1;
    case 1: return n - 1;
    case 2: return n + (int64_t)below(1000000);
    case 3: return n > 1 ? (int64_t)below((uint64_t)n) : 0;
    case 4: return 0;
    default: return n;
    }
}

/* What the caller last knew of the channel: all of it, nothing, or something else. */
static void add_witness(words *w, int channel)
{
    double b = channel_field(channel, "b"), s = channel_field(channel, "s");
    double t = channel_field(channel, "t");
    int64_t known[4] = {(int64_t)b, (int64_t)s, (int64_t)t, 0};
    int i;
    if (one_in(4)) known[0] = known[1] = known[2] = 0;
    else if (one_in(6)) known[0] = near_to(b), known[1] = near_to(s), known[2] = near_to(t);
    else if (!one_in(4) && s > 0) known[1] = (int64_t)below((uint64_t)s + 1);
    if (!one_in(3)) known[3] = one_in(20) ? near_to(t + 1000000) : known[2];
    for (i = 0; i < 4; i++) word_number(w, known[i]);
}

static redis_slice random_body(int transient)
{
    static char bodies[8][80000]; /* one call has fewer than so many */
    static unsigned turn;
    char *body = bodies[turn++ % 8];
    redis_slice s;
    size_t i;
    s.at = body;
    s.length = (size_t)(one_in(500) ? below(sizeof bodies[0]) : one_in(10) ? below(2000) : below(120));
    for (i = 0; i < s.length; i++) body[i] = (char)(one_in(20) ? below(256) : 'a' + below(26));
    if (transient) *body = '~';
    if (transient && !s.length) s.length = 1;
    return s;
}

static int64_t sometimes(int64_t usual, const int64_t *others, size_t n)
{
    return !round_of.burst && one_in(30) ? others[below(n)] : usual;
}

#define SOMETIMES(usual, ...)                  \
    sometimes(usual, (const int64_t[]){__VA_ARGS__}, \
              sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

static void add_page(words *w, int channel)
{
    static const char *const odd[] = {
        "-", "+", "x", "0", "5", "5-", "-5", "1-1", "99999999999999999999"};
    double s = channel_field(channel, "s");
    if (one_in(3)) word(w, "");
    else if (round_of.garbage && one_in(10)) word(w, odd[below(sizeof odd / sizeof *odd)]);
    else word_print(w, "%" PRIu64 "-0", s > 0 ? (uint64_t)below((uint64_t)s + 3) : 1);
    word_number(w, SOMETIMES(round_of.page, 0, 1, 2, 64, 4096));
}

static void give_call(int publish)
{
    words w;
    char h[32], x[32], i[32], name[16];
    int channel = round_of.burst ? 0 : (int)below((uint64_t)round_of.channels);
    int idempotent = publish && one_in(4);
    w.n = 0;
    key_of('h', channel, h);
    key_of('x', channel, x);
    key_of('i', channel, i);
    word(&w, "EVALSHA");
    word(&w, call_sha);
    word(&w, idempotent ? "3" : "2");
    word(&w, h);
    word(&w, x);
    if (idempotent) word(&w, i);
    word_print(&w, "%016" PRIx64, rnd());
    add_witness(&w, channel);
    word_number(&w, SOMETIMES(round_of.count, 0, 1, 2, 1000));
    word_number(&w, SOMETIMES(round_of.age, 0, 1, 50, 300000));
    word_number(&w, SOMETIMES(round_of.keep, 0, 1, 50, 3600000));
    snprintf(name, sizeof name, "lp1:c%d", channel);
    word(&w, publish ? name : "");
    if (publish) { /* without a body the history is dropped */
        uint64_t bodies = one_in(20) ? 0 : one_in(5) ? 1 + below(5) : 1;
        int transient = below(100) < round_of.transient;
        word_number(&w, SOMETIMES(round_of.retry, 0, 1, 300000));
        while (bodies--) w.at[w.n++] = random_body(transient);
    } else {
        add_page(&w, channel);
        word_number(&w, SOMETIMES(round_of.empty, 0, 1, 300000));
    }
    give(COMMAND, w.at, w.n);
    calls++;
}

static void give_beat(void)
{
    words w;
    w.n = 0;
    word(&w, "EVALSHA");
    word(&w, one_in(50) ? call_sha + 1 : beat_sha);
    word(&w, "1");
    word(&w, "lp1:layout");
    word(&w, one_in(5) ? "0/2 1000 300" : "0/1 1000 300");
    word_number(&w, SOMETIMES(round_of.keep, 0, 1, 6000));
    word(&w, one_in(2) ? "lp1:c0" : "lp1:me");
    give(COMMAND, w.at, w.n);
    calls++;
}

static void give_read(char kind, const char *key)
{
    words w;
    w.n = 0;
    if (kind == 'h' && one_in(2)) {
        static const char *const fields[] = {"e", "r", "s", "t", "b", "pe", "ps", "o", "none"};
        size_t i;
        word(&w, "HMGET");
        word(&w, key);
        for (i = 0; i < 9; i++) word(&w, fields[i]);
    } else if (kind == 'x' && one_in(2)) {
        word(&w, one_in(2) ? "XRANGE" : "XREVRANGE");
        word(&w, key);
        word(&w, one_in(2) ? "-" : "+");
        word(&w, one_in(2) ? "+" : "-");
        word(&w, "COUNT");
        word_print(&w, "%" PRIu64, below(20));
    } else {
        static const char *const reads[] = {"GET", "PTTL", "TYPE", "EXISTS", "XLEN", "PTTL"};
        word(&w, reads[below(6)]);
        word(&w, key);
    }
    give(COMMAND, w.at, w.n);
}

/* What nobody but the server itself, or somebody else, does to the keys. */
static void give_change(char kind, int channel, const char *key)
{
    static const char *const fields[] = {"s", "t", "b", "ps", "o", "e", "r", "pe"};
    words w;
    const char *field = fields[below(8)];
    w.n = 0;
    switch (below(8)) {
    case 0:
        word(&w, "PEXPIRE"), word(&w, key);
        word_number(&w, (int64_t)below(5000) - 10);
        break;
    case 1:
        word(&w, "HSET"), word(&w, key), word(&w, field);
        if (round_of.garbage && one_in(6)) word(&w, one_in(2) ? "x" : "");
        else word_number(&w, near_to(channel_field(channel, field)));
        break;
    case 2:
        word(&w, "XADD"), word(&w, key);
        if (one_in(3)) word(&w, "MAXLEN"), word_number(&w, 3);
        word_print(&w, "%" PRId64 "-%" PRId64, near_to(channel_field(channel, "s") + 1),
                   near_to(channel_field(channel, "t") + 1));
        word(&w, "m"), word(&w, "foreign");
        break;
    case 3:
        word(&w, "LPUSH"), word(&w, key), word(&w, "a"), word(&w, "b");
        break;
    case 4:
        word(&w, "SET"), word(&w, key), word(&w, "text");
        if (one_in(2)) word(&w, "PX"), word_number(&w, (int64_t)below(3000));
        break;
    case 5: /* the last message: of the others only Redis knows the whole ID */
        word(&w, "XDEL"), word(&w, key);
        word_print(&w, "%.0f-%.0f", channel_field(channel, "s"),
                   channel_field(channel, "t") + one_in(4));
        break;
    default:
        word(&w, "DEL"), word(&w, key);
    }
    (void)kind;
    give(COMMAND, w.at, w.n);
}

static void give_other(void)
{
    char key[32], kind = "hxi"[below(3)];
    int channel = (int)below((uint64_t)round_of.channels);
    key_of(kind, channel, key);
    if (one_in(300)) give_words(COMMAND, "FLUSHALL");
    else if (one_in(40)) give_words(COMMAND, "TIME");
    else if (one_in(40)) give_words(COMMAND, "SELECT 99");
    else if (one_in(40)) give_words(COMMAND, "NOSUCH command with words");
    else if (one_in(20)) give_words(COMMAND, "PUBLISH lp1:c1 hello");
    else if (one_in(60)) give_words(COMMAND, "EVALSHA 0000000000000000000000000000000000000000 0");
    else if (one_in(60))
        give_words(COMMAND, "EVALSHA 0000000000000000000000000000000000000000 3 a");
    else if (one_in(3)) give_change(kind, channel, key);
    else give_read(kind, key);
}

static void batch_commands(void)
{
    size_t n = 1 + (size_t)(one_in(3) ? 0 : below(BATCH_MAX - 1));
    while (n--) {
        if (one_in(15)) give_beat();
        else if (one_in(8)) give_other();
        else give_call(!one_in(3));
    }
    settle();
}

/* The clock comes to where an entry is just about too old, or just is. */
static void clock_to_entry(void)
{
    char name[32];
    const redis_key *key;
    key_of('x', 0, name);
    key = redis_keyspace_find(&S->keys, round_of.db, redis_slice_of(name));
    if (key && key->type == REDIS_STREAM && key->count) {
        size_t index = (size_t)below(key->count);
        uint64_t at =
            redis_stream_entry(key, one_in(2) ? index : key->count - 1 - index / 8)->id.seq;
        int64_t us = (int64_t)at + round_of.age * 1000 + (int64_t)below(3) - 1;
        if (at < UINT64_C(4000000000000000) && us > now_us) set_clock(us);
    }
}

/* Many messages; then many of them are too old at once. */
static void batch_burst(void)
{
    size_t i, n = 1 + (size_t)below(BATCH_MAX - 1), times = 1 + (size_t)below(6);
    const int64_t count = round_of.count, age = round_of.age;
    round_of.burst = 1;
    round_of.count = 1000;
    if (!age) round_of.age = 50;
    for (; times; times--) {
        for (i = 0; i < n; i++) give_call(1);
        settle();
        if (one_in(8)) set_clock(now_us + (int64_t)below(1000000));
    }
    clock_to_entry();
    for (i = 0; i < 8; i++) give_call(one_in(3));
    settle();
    round_of.burst = 0;
    round_of.count = count;
    round_of.age = age;
}

/* On a connection that may subscribe; what it may not do then is tried too. */
static void batch_subscriber(void)
{
    static const char *const names[] = {"lp1:c0", "lp1:c1", "lp1:c2", "lp1:c3", "lp1:me"};
    int on = 1 + (int)below(CONNS - 1);
    words w;
    size_t i, n;
    w.n = 0;
    switch (below(6)) {
    case 0: word(&w, "PING"); break;
    case 1: word(&w, "PING"), word(&w, "text"); break;
    case 2: word(&w, "GET"), word(&w, "key"); break;
    case 3:
    case 4:
    default:
        word(&w, one_in(2) ? "SUBSCRIBE" : "UNSUBSCRIBE");
        if (pairs[on].conn->name_count < 2 && *w.at[0].at == 'U' && one_in(3)) break;
        for (i = 0, n = 1 + (size_t)below(4); i < n; i++) word(&w, names[below(5)]);
    }
    give(on, w.at, w.n);
    settle();
}

static void move_clock(void)
{
    int64_t us = now_us;
    switch (below(8)) {
    case 0: case 1: break;
    case 2: us += 1; break;
    case 3: us += (int64_t)below(1000); break;
    case 4: us += (int64_t)below(100000); break;
    case 5: us += (int64_t)below(1000000); break;
    case 6: us += one_in(10) ? (int64_t)below(400000000) : (int64_t)below(3000000); break;
    default: us -= one_in(20) ? (int64_t)below(2000000) : 0;
    }
    set_clock(us);
}

/* A state of the server that refuses something, in both; and back again. */
static int mode;

static void mode_set(int next)
{
    static const char *const denied[] = {"xadd", "hset", "hmget", "info", "xtrim", "del", "publish",
                                         "set", "pexpire", "xlen", "get", "evalsha", "xrange",
                                         "xrevrange", "time", "ping"};
    static char word_denied[32];
    char line[64];
    switch (mode) {
    case 1: must_real("CONFIG SET maxmemory 0"); S->oom = 0; break;
    case 2: must_real("CONFIG SET min-replicas-to-write 0"); S->no_replicas = 0; break;
    case 3:
    case 4:
        must_real("REPLICAOF NO ONE");
        must_real("CONFIG SET replica-serve-stale-data yes");
        redis_promote(S);
        S->stale = 0;
        take_identity();
        break;
    case 5: must_real("ACL SETUSER default +@all"); S->denied = NULL; break;
    default: break;
    }
    mode = next;
    switch (mode) {
    case 1: must_real("CONFIG SET maxmemory 1"); S->oom = 1; break;
    case 2: must_real("CONFIG SET min-replicas-to-write 1"); S->no_replicas = 1; break;
    case 3:
    case 4:
        if (mode == 4) must_real("CONFIG SET replica-serve-stale-data no"), S->stale = 1;
        must_real("REPLICAOF 127.0.0.1 1");
        redis_demote(S);
        break;
    case 5:
        snprintf(word_denied, sizeof word_denied, " %s ", denied[below(16)]);
        snprintf(line, sizeof line, "ACL SETUSER default -%.*s", (int)strlen(word_denied) - 2,
                 word_denied + 1);
        must_real(line);
        S->denied = word_denied;
        break;
    case 6: must_real("REPLICAOF 127.0.0.1 1"); redis_demote(S); mode = 3; mode_set(0); break;
    case 7:
        must_real("SCRIPT FLUSH");
        redis_forget_scripts(S);
        break;
    default: break;
    }
}

static void kill_subscribers(void)
{
    int on;
    must_real("CLIENT KILL TYPE pubsub");
    redis_kill_subscribers(S);
    for (on = 1; on < CONNS; on++)
        if (pairs[on].conn->closed) pair_reopen(on);
}

static void round_begin(void)
{
    static const int64_t counts[] = {1, 2, 3, 10, 50, 1000},
                         times[] = {0, 1, 20, 500, 5000, 300000};
    char line[32];
    random_state = seed;
    round_of.channels = 1 + (int)below(CHANNELS);
    round_of.count = counts[below(6)];
    round_of.age = times[below(6)];
    round_of.keep = one_in(3) ? times[below(6)] : round_of.age * 2;
    round_of.empty = times[below(6)];
    round_of.retry = times[1 + below(5)];
    round_of.page = one_in(4) ? 64 : 16;
    round_of.transient = one_in(3) ? 0 : one_in(2) ? 20 : 95;
    round_of.garbage = one_in(3) ? 0 : one_in(2) ? 1000 : 60;
    round_of.db = one_in(4) ? (int)below(16) : 0;
    set_clock(INT64_C(1500000000000000) + (int64_t)below(INT64_C(500000000000000)));
    snprintf(line, sizeof line, "SELECT %d", round_of.db);
    both(COMMAND, line);
    both(COMMAND, "FLUSHALL");
    load_scripts();
}

static void round_run(uint64_t until)
{
    round_begin();
    while (calls < until) {
        if (one_in(60)) mode_set(mode ? 0 : 1 + (int)below(7));
        if (mode == 7 && one_in(3)) mode_set(0), load_scripts();
        if (one_in(200)) kill_subscribers();
        if (one_in(8)) clock_to_entry();
        if (one_in(25)) batch_burst();
        else if (one_in(6)) batch_subscriber();
        else batch_commands();
        move_clock();
    }
    mode_set(0);
    passed++;
}

/* ---- scenarios: what the random rounds do not come to ---- */

static const char *call_line(const char *rest)
{
    static char line[512];
    snprintf(line, sizeof line, "EVALSHA %s 2 lp1:{001}h:s lp1:{001}x:s %s", call_sha, rest);
    return line;
}

static const char *beat_line(void)
{
    static char line[512];
    snprintf(line, sizeof line, "EVALSHA %s 1 lp1:layout 0/1 6000 lp1:me", beat_sha);
    return line;
}

#define PUBLISH_LINE call_line("0123456789abcdef 0 0 0 0 10 1000 2000 lp1:s 0 body")
#define TRANSIENT_LINE call_line("0123456789abcdef 0 0 0 0 5000 100000 200000 lp1:s 0 ~body")
#define DROP_LINE call_line("00112233445566ff 0 0 0 0 10 1000 2000 lp1:s 0")
#define OPEN_LINE call_line("fedcba9876543210 0 0 0 0 10 1000 2000 \"\" \"\" 16 1000")

/* Each sort of command, in the state that the server is in. */
static void every_command(void)
{
    both(COMMAND, "PING");
    both(COMMAND, "GET lp1:none");
    both(COMMAND, "SET lp1:set 1 PX 100000");
    both(COMMAND, "HMGET lp1:{001}h:s e s t");
    both(COMMAND, "SELECT 3");
    both(COMMAND, "SELECT 0");
    both(COMMAND, PUBLISH_LINE);
    both(COMMAND, TRANSIENT_LINE);
    both(COMMAND, OPEN_LINE);
    both(COMMAND, DROP_LINE);
    both(COMMAND, OPEN_LINE);
    both(COMMAND, beat_line());
    both(COMMAND, "SCRIPT LOAD \"return 1\"");
    both(COMMAND, "PUBLISH lp1:s text");
    both(COMMAND, "AUTH secret");
    both(COMMAND, "DEL lp1:set");
    both(1, "SUBSCRIBE lp1:s");
    both(COMMAND, PUBLISH_LINE);
    both(1, "PING");
    both(1, "GET x");
    both(1, "UNSUBSCRIBE lp1:s");
}

static void scenario_begin(void)
{
    set_clock(INT64_C(1700000000000000));
    both(COMMAND, "SELECT 0");
    both(COMMAND, "FLUSHALL");
    load_scripts();
}

static void scenario_plain(void) { every_command(); }

static void scenario_errors(void)
{
    static const char *const lines[] = {
        "GET", "GET a b", "HMGET", "HMGET a", "AUTH", "AUTH x", "AUTH a b", "AUTH default b",
        "AUTH a b c", "SELECT", "SELECT x", "SELECT -1", "SELECT 16", "SELECT 99999999999",
        "PING a b",
        "SCRIPT", "SCRIPT LOAD", "SCRIPT LOAD a b", "SCRIPT NOSUCH", "NOSUCH", "NOSUCH a",
        "SUBSCRIBE",
        "EVALSHA", "EVALSHA a", "EVALSHA a 0", "EVALSHA a x", "EVALSHA a -1", "EVALSHA a 1",
        "EVALSHA ffffffffffffffffffffffffffffffffffffffff x",
        "EVALSHA ffffffffffffffffffffffffffffffffffffffff -1",
        "EVALSHA ffffffffffffffffffffffffffffffffffffffff 1",
        "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0",
        "XADD s 0-0 m a", "XADD s 2-2 m a", "XADD s 2-2 m a", "XADD s x m a",
        "XADD s MAXLEN x 3-0 m a",
        "XADD s MAXLEN -1 3-0 m a", "XADD s MAXLEN 0 3-0 m a", "XLEN s", "TYPE s", "XADD s 3-0 m a",
        "XDEL s x", "XDEL s 1-1", "XDEL s 3-0", "XDEL s 3-0", "XDEL none 1-1", "XADD s 3-0 m a",
        "XADD s 4-0 m a", "XADD s 5-0 m a", "XDEL s 4-0", "XLEN s",
        "XRANGE s - + COUNT 0", "XRANGE s x +", "XRANGE s - + COUNT x", "XRANGE s - +", "GET s",
        "XREVRANGE s + - COUNT 1", "HMGET s a", "LPUSH s a", "HSET s a b", "PEXPIRE s x",
        "PEXPIRE s 0",
        "PEXPIRE none 10", "SET a b PX 0", "SET a b PX x", "SET a b PX -1", "HSET a b",
        "HSET a b c d",
        "UNSUBSCRIBE", "UNSUBSCRIBE a", "PTTL none", "SET a b", "PTTL a", "EXISTS a a none",
        "NOSUCH \"a line\r\nbreak\" b"};
    size_t i;
    for (i = 0; i < sizeof lines / sizeof *lines; i++) both(COMMAND, lines[i]);
}

/* After what is no RESP the connection ends. */
static void scenario_protocol(void)
{
    static const char *const texts[] = {
        "*x\r\n", "*99999999999\r\n", "*1\r\nGET\r\n", "*1\r\n$x\r\n", "*1\r\n$-1\r\n",
        "*1\r\n$99999999999\r\n", "*2\r\n$3\r\nGET\r\n:1\r\n", "*1\r\n$4\r\nQUIT\r\n", "QUIT\r\n",
        "*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n"};
    size_t i;
    for (i = 0; i < sizeof texts / sizeof *texts; i++) {
        sent *e = &batch[batch_count++];
        redis_assign(&e->command, redis_slice_of(texts[i]));
        e->on = 1;
        e->at = 0;
        give_simulated(pairs[1].conn, redis_slice_of(texts[i]));
        take_output();
        settle();
        pair_reopen(1);
    }
}

static void reopen_all(void)
{
    int on;
    for (on = 0; on < CONNS; on++) {
        pair_close(on);
        pair_open(on);
    }
}

static void scenario_auth(void)
{
    must_real("ACL SETUSER someone on >secret ~* &* +@all");
    must_real("CONFIG SET requirepass secret");
    S->password = "secret";
    S->user = "someone";
    every_command();            /* who is here already needs none */
    reopen_all();
    both(COMMAND, "GET a");
    both(COMMAND, "NOSUCH a");
    both(COMMAND, "GET");
    both(COMMAND, "PING");
    both(1, "SUBSCRIBE a");
    both(1, "AUTH wrong");
    both(1, "AUTH default wrong");
    both(1, "AUTH nobody secret");
    both(1, "AUTH someone wrong");
    both(1, "AUTH someone secret");
    both(1, "PING");
    both(2, "AUTH default secret");
    both(2, "PING");
    both(3, "SUBSCRIBE 1 2 3 4 5 6 7 8 9 10");
    pair_reopen(3);
    both(COMMAND, "AUTH secret");
    every_command();
    must_real("CONFIG SET requirepass \"\"");
    S->password = S->user = NULL;
    reopen_all();
    must_real("ACL DELUSER someone");
}

static void scenario_denied(void)
{
    size_t i;
    static const char *const names[] = {
        "get", "hmget", "xlen", "time", "info", "xadd", "xtrim", "evalsha",
        "hset", "pexpire", "publish", "script|load", "select",
                                        "subscribe"};
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        char line[64], word_denied[32];
        snprintf(line, sizeof line, "ACL SETUSER default -%s", names[i]);
        snprintf(word_denied, sizeof word_denied, " %s ", names[i]);
        must_real(line);
        S->denied = word_denied;
        every_command();
        must_real("ACL SETUSER default +@all");
        S->denied = NULL;
    }
}

static void scenario_oom(void)
{
    both(COMMAND, OPEN_LINE);
    must_real("CONFIG SET maxmemory 1");
    S->oom = 1;
    every_command();
    must_real("CONFIG SET maxmemory 0");
    S->oom = 0;
    every_command();
}

static void scenario_replica(void)
{
    int stale;
    for (stale = 0; stale < 2; stale++) {
        both(COMMAND, PUBLISH_LINE);
        both(2, "SUBSCRIBE lp1:s");
        if (stale) must_real("CONFIG SET replica-serve-stale-data no");
        must_real("REPLICAOF 127.0.0.1 1");
        redis_demote(S);
        S->stale = stale;
        every_command();
        both(2, "PING");
        if (strstr(ask_real("INFO replication"), "master_link_status:down") == NULL) fail("a link");
        redis_promote(S);
        must_real("REPLICAOF NO ONE");
        must_real("CONFIG SET replica-serve-stale-data yes");
        S->stale = 0;
        if (!strncmp(strstr(ask_real("INFO replication"), "master_replid:") + 14, S->replid, 40))
            fail("two servers of one identity");
        if (strncmp(strstr(ask_real("INFO replication"), "master_replid2:") + 15, S->replid2, 40))
            fail("after a promotion the second identity is the one before");
        take_identity();
        every_command();
        both(2, "UNSUBSCRIBE lp1:s");
    }
}

static void scenario_replicas_missing(void)
{
    must_real("CONFIG SET min-replicas-to-write 1");
    S->no_replicas = 1;
    every_command();
    must_real("CONFIG SET min-replicas-to-write 0");
    S->no_replicas = 0;
}

static void wait_for(const char *section, const char *text)
{
    int i;
    for (i = 0; i < 1000 && !strstr(ask_real(section), text); i++) usleep(5000);
    if (i == 1000) fail(text);
}

static void scenario_misconf(void)
{
    char line[200], path[160];
    snprintf(path, sizeof path, "%s/lost", directory);
    mkdir(path, 0700);
    snprintf(line, sizeof line, "CONFIG SET dir %s", path);
    must_real(line);
    rmdir(path);
    ask_real("BGSAVE");
    wait_for("INFO persistence", "rdb_last_bgsave_status:err");
    must_real("CONFIG SET save \"2000000000 1\"");
    S->misconf = 1;
    every_command();
    must_real("CONFIG SET save \"\"");
    S->misconf = 0;
    snprintf(line, sizeof line, "CONFIG SET dir %s", directory);
    must_real(line);
    every_command();
}

/* Something that keeps the real server busy, said on a connection of its own. */
static int keep_busy(const char *line)
{
    redis_slice parts[8];
    redis_bytes b;
    int fd = dial();
    memset(&b, 0, sizeof b);
    put_args(&b, parts, split_words(line, parts, 8));
    if (fd < 0) fail("no connection");
    send_all(fd, redis_view(&b));
    redis_bytes_free(&b);
    return fd;
}

static void scenario_busy(void)
{
    int fd = keep_busy("EVAL \"while true do end\" 0");
    usleep(20000);
    S->busy = 1;
    every_command();
    must_real("SCRIPT KILL");
    while (*ask_real("PING") == '-') usleep(1000);
    S->busy = 0;
    close(fd);
    every_command();
}

static void scenario_loading(void)
{
    char path[160];
    int fd;
    must_real("DEBUG POPULATE 50000");
    must_real("CONFIG SET key-load-delay 100");
    fd = keep_busy("DEBUG RELOAD");
    wait_for("INFO persistence", "\nloading:1");
    S->loading_until_us = UINT64_MAX;
    every_command();
    if (!strstr(ask_real("INFO persistence"), "\nloading:1")) fail("it was loaded too early");
    must_real("CONFIG SET key-load-delay 0");
    wait_for("INFO persistence", "\nloading:0");
    S->loading_until_us = 0;
    close(fd);
    snprintf(path, sizeof path, "%s/dump.rdb", directory);
    unlink(path);
    both(COMMAND, "FLUSHALL");
    every_command();
}

static int identity_changed(void)
{
    char was[REDIS_REPLID];
    memcpy(was, S->replid, sizeof was);
    take_identity();
    return strcmp(was, S->replid) != 0;
}

static int simulated_changed(const char *was)
{
    const int changed = strcmp(was, S->replid) != 0;
    memcpy(S->replid, was, sizeof S->replid);
    return changed;
}

/* When the identity changes: at a promotion, when a first replica comes, and when the backlog
   goes after the last has left. */
static void scenario_identity(void)
{
    char was[REDIS_REPLID], zeros[REDIS_REPLID];
    int i, fd;
    memcpy(was, S->replid, sizeof was);
    memset(zeros, '0', sizeof zeros - 1);
    zeros[sizeof zeros - 1] = 0;
    must_real("CONFIG SET repl-backlog-ttl 5");
    S->backlog_ttl_s = 5;
    must_real("REPLICAOF 127.0.0.1 1");
    must_real("REPLICAOF NO ONE");
    redis_demote(S), redis_promote(S);
    if (!simulated_changed(was) || !identity_changed()) fail("a promotion");
    memcpy(was, S->replid, sizeof was);
    set_clock(now_us + 20000000);   /* a replica that was never in step has no backlog */
    usleep(1300000);
    if (simulated_changed(was) || identity_changed()) fail("a promotion without a backlog");

    for (i = 0; i < 2; i++) {       /* the second finds the backlog of the first */
        fd = keep_busy("PSYNC ? -1");
        wait_for("INFO replication", "connected_slaves:1");
        redis_attach(S);
        if (simulated_changed(was) != !i || identity_changed() != !i) fail("a replica comes");
        if (strcmp(S->replid2, zeros)) fail("a first replica: the identity before stays");
        memcpy(was, S->replid, sizeof was);
        close(fd);
        wait_for("INFO replication", "connected_slaves:0");
        redis_detach(S);
    }
    set_clock(now_us + 4000000);
    usleep(1300000);
    if (simulated_changed(was) || identity_changed()) fail("the backlog went too early");
    set_clock(now_us + 4000000);
    wait_for("INFO replication", "repl_backlog_active:0");
    if (S->backlog) fail("the simulated backlog stays");
    if (!simulated_changed(was) || !identity_changed()) fail("the backlog has gone");
    every_command();
}

/* The fields of the simulated INFO are fields of the real one, in its order; of some the values
   are the same. */
static void info_compare(const char *line)
{
    static const char *const same[] = {
        "redis_version", "redis_mode", "server_time_usec", "maxclients",
        "maxmemory_policy", "loading", "async_loading", "rdb_last_bgsave_status", "aof_enabled",
        "aof_last_write_status", "role", "master_host", "master_link_status", "connected_slaves",
        "master_failover_state", "master_replid", "master_replid2", "repl_backlog_active",
        "repl_backlog_size", "slave_priority", "slave_read_only", "replica_announced",
        "master_sync_in_progress", "cluster_enabled"};
    const char *real = strstr(ask_real(line), "\r\n") + 2, *at;
    redis_conn *c = redis_connect(S);
    redis_bytes b, simulated;
    redis_slice args[4];
    char *field, *next;
    size_t n, i;
    memset(&b, 0, sizeof b);
    memset(&simulated, 0, sizeof simulated);
    put_args(&b, args, split_words(line, args, 4));
    redis_receive(c, b.at, b.length);
    at = redis_output(c, &n);
    redis_append(&simulated, at, n);
    redis_append(&simulated, "", 1);
    for (field = strstr(simulated.at, "\r\n") + 2; *field; field = next) {
        size_t name = strcspn(field, ":\r"), whole = strcspn(field, "\r");
        next = field + whole + 2;
        while (*real && strncmp(real, field, name + (field[name] == ':')))
            real = strstr(real, "\r\n") + 2;
        for (i = 0; i < sizeof same / sizeof *same; i++)
            if (strlen(same[i]) == name && !strncmp(same[i], field, name) && *real &&
                strncmp(real, field, whole + 2)) break;
        if (!*real || i < sizeof same / sizeof *same) {
            printf("%s: %.*s\n", line, (int)whole, field);
            fail("a field of INFO");
        }
    }
    redis_bytes_free(&b);
    redis_bytes_free(&simulated);
    redis_close(c);
}

static void scenario_info(void)
{
    static const char *const lines[] = {"INFO", "INFO replication", "INFO memory", "info SERVER",
                                        "INFO persistence", "INFO cluster",
                                        "INFO memory replication",
                                        "INFO nosuch"};
    size_t i;
    for (i = 0; i < sizeof lines / sizeof *lines; i++) info_compare(lines[i]);
    must_real("REPLICAOF 127.0.0.1 1");
    redis_demote(S);
    info_compare("INFO replication");
    must_real("REPLICAOF NO ONE");
    redis_promote(S);
    take_identity();
    info_compare("INFO replication");
}

/* Each command needs as many words, and is refused in the same states. */
static void scenario_commands(void)
{
    static const struct { const char *name; unsigned flag; } flags[] = {
        {"+write\r", REDIS_WRITE}, {"+denyoom\r", REDIS_DENYOOM}, {"+loading\r", REDIS_IN_LOADING},
        {"+stale\r", REDIS_IN_STALE}, {"+no_auth\r", REDIS_NO_AUTH},
        {"+allow_busy\r", REDIS_IN_BUSY}};
    size_t i, k;
    for (i = 0; i < sizeof redis_commands / sizeof *redis_commands; i++) {
        const redis_command *c = &redis_commands[i];
        char line[64], arity[16];
        char *reply, *end;
        snprintf(line, sizeof line, "COMMAND INFO %s", c->name);
        snprintf(arity, sizeof arity, "\r\n:%d\r\n", c->arity);
        reply = strdup(ask_real(line));
        end = strstr(reply, "\r\n+@");
        if (end) *end = 0;
        if (!strstr(reply, arity)) printf("%s\n", c->name), fail("arity");
        for (k = 0; k < sizeof flags / sizeof *flags; k++)
            if (!strstr(reply, flags[k].name) == !!(c->flags & flags[k].flag))
                printf("%s %s\n", c->name, flags[k].name + 1), fail("a command's flags");
        free(reply);
    }
}

/* More marks than a page has room for, behind a message and then at the head. */
static void scenario_marks(void)
{
    static const char *const froms[] = {"1", "2", "3", "70", "1200", "2000", "2600", "\"\""};
    char line[160];
    size_t i;
    int n;
    both(COMMAND, TRANSIENT_LINE); /* none is left where nothing is held */
    both(COMMAND, OPEN_LINE);
    both(COMMAND, call_line("0123456789abcdef 0 0 0 0 5000 100000 200000 lp1:s 0 body"));
    for (n = 0; n < 2500; n++) {
        both(COMMAND, TRANSIENT_LINE);
        if (n % 50 == 0) settle();
    }
    both(COMMAND, call_line("0123456789abcdef 0 0 0 0 5000 100000 200000 lp1:s 0 body"));
    for (i = 0; i < sizeof froms / sizeof *froms; i++) {
        snprintf(line, sizeof line, "fedcba9876543210 0 0 0 0 5000 100000 200000 \"\" %s 64 1000",
                 froms[i]);
        both(COMMAND, call_line(line));
    }
    both(COMMAND, call_line("0123456789abcdef 0 0 0 0 2500 100000 200000 lp1:s 0 body"));
    both(COMMAND, OPEN_LINE);
    both(COMMAND, "XLEN lp1:{001}x:s");
    both(COMMAND, "XRANGE lp1:{001}x:s - + COUNT 2");
}


static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {{"plain", scenario_plain}, {"errors", scenario_errors},
                 {"protocol", scenario_protocol}, {"auth", scenario_auth},
                 {"denied", scenario_denied}, {"oom", scenario_oom},
                 {"replica", scenario_replica}, {"no replicas", scenario_replicas_missing},
                 {"misconf", scenario_misconf}, {"busy", scenario_busy},
                 {"loading", scenario_loading}, {"identity", scenario_identity},
                 {"info", scenario_info}, {"commands", scenario_commands},
                 {"marks", scenario_marks}};

/* ---- the run ---- */

static char *read_file(const char *path)
{
    FILE *f = path ? fopen(path, "rb") : NULL;
    redis_bytes b;
    int c;
    memset(&b, 0, sizeof b);
    if (!f)
        fail(path ? path : "usage: differential --call FILE --beat FILE [--calls N] [--seed S]");
    while ((c = getc(f)) != EOF) {
        char byte = (char)c;
        redis_append(&b, &byte, 1);
    }
    redis_append(&b, "", 1);
    fclose(f);
    return b.at;
}

static void world_open(void)
{
    char path[160];
    int fd, on;
    const char *base = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%.100s/longpoll-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(directory)) fail("no directory");
    snprintf(path, sizeof path, "%s/clock", directory);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *shared_clock)) fail("no clock");
    shared_clock = (volatile int64_t *)mmap(NULL, sizeof *shared_clock, PROT_READ | PROT_WRITE,
                                            MAP_SHARED, fd, 0);
    if (shared_clock == MAP_FAILED) fail("no clock");
    close(fd);
    *shared_clock = now_us = INT64_C(1700000000000000);
    server_start();
    S = redis_create(seed, (uint64_t)now_us);
    /* Which keys go before they are asked for is chance, and shows after the clock is set back. */
    S->expires_lazily = 1;
    must_real("DEBUG SET-ACTIVE-EXPIRE 0");
    take_identity();
    for (on = 0; on < CONNS; on++) pair_open(on);
    both(COMMAND, "TIME");
}

static void world_close(void)
{
    int i;
    redis_destroy(S);
    for (i = 0; i < BATCH_MAX; i++) redis_bytes_free(&batch[i].command);
    for (i = 0; i < CONNS; i++) redis_bytes_free(&pairs[i].expected);
    free(call_source);
    free(beat_source);
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    uint64_t calls_max = 100000, first, told = 0;
    double began = seconds_now();
    size_t i;
    int k;
    seed = 1;
    for (k = 1; k + 1 < argc; k += 2) {
        if (!strcmp(argv[k], "--calls")) calls_max = strtoull(argv[k + 1], NULL, 10);
        else if (!strcmp(argv[k], "--seed")) seed = strtoull(argv[k + 1], NULL, 10);
        else if (!strcmp(argv[k], "--call")) call_path = argv[k + 1];
        else if (!strcmp(argv[k], "--beat")) beat_path = argv[k + 1];
        else break;
    }
    if (k < argc) fail("usage: differential --call FILE --beat FILE [--calls N] [--seed S]");
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    setvbuf(stdout, NULL, _IOLBF, 0);
    call_source = read_file(call_path);
    beat_source = read_file(beat_path);
    world_open();
    if (!strstr(ask_real("INFO server"), "redis_version:7.0.")) {
        printf("skip this redis-server is not of version 7.0, whose errors are the ones "
               "simulated\n");
        skipped++;
        return finish();
    }
    random_state = seed;
    for (i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        scenario_begin();
        scenarios[i].run();
        printf("ok %s\n", scenarios[i].name);
        passed++;
    }
    for (first = seed; calls < calls_max; seed++) {
        round_run(calls + ROUND_CALLS);
        if (calls - told < 100000) continue;
        printf("%" PRIu64 " calls, %.1f s\n", calls, seconds_now() - began);
        told = calls;
    }
    printf("%" PRIu64 " calls among %" PRIu64 " commands, seeds %" PRIu64 " to %" PRIu64
           ", %.1f s\n",
           calls, commands, first, seed - 1, seconds_now() - began);
    k = finish();
    world_close();
    return k;
}
