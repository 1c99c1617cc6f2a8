/* unit.h: the harness of the unit tests, and an allocator that watches and fails.

   A test file is a program of its own, or one with others, which then share what is static:

       #define LONGPOLL_IMPLEMENTATION
       #define LONGPOLL_DEBUG
       #include "../../longpoll.h"
       #include "unit.h"

       TEST(wheel_rings_in_order) {
           CHECK(!wheel.bits[0]);
           CHECK_INT(lpi_wheel_next(&wheel), 7);
           CHECK_STR(slice, "text");
       }

   Each test runs in a child process: a crash, a hang, a leak and a sanitizer's word
   are all told under the test's name. The first check that fails ends the test.

       NAME [PART] [--file F] [--seed N] [--no-fork] [--first]

   PART of a test's name; F for the tests of F.c alone; --no-fork for gdb; --first to stop at
   the first failure.

   From the environment: SEED; UNIT_SECONDS, how long one test may take [60];
   UNIT_DIVIDE, by which unit_rounds() divides, where all is slow [1]. */

#ifndef UNIT_H
#define UNIT_H

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__GNUC__)
#define UNIT_UNUSED __attribute__((unused))
#define UNIT_PRINTF __attribute__((format(printf, 3, 4), noreturn))
#endif

/* ---- tests and checks ---- */

typedef struct unit_test {
    const char *name, *file;
    void (*run)(void);
    struct unit_test *next;
} unit_test;

/* Exit codes. A sanitizer has others, of its own. */
enum { UNIT_PASSED = 0, UNIT_FAILED = 76, UNIT_SKIPPED = 77 };

static unit_test *unit_first, **unit_last = &unit_first, *unit_current;
static uint64_t unit_seed, unit_random_state;
static int *unit_told; /* shared with the child: it has said why it failed */

#define TEST(test_name)                                                    \
    static void unit_run_##test_name(void);                                \
    static unit_test unit_test_##test_name = {#test_name, __FILE__,        \
                                              unit_run_##test_name, 0};    \
    __attribute__((constructor)) static void unit_add_##test_name(void) {  \
        *unit_last = &unit_test_##test_name;                               \
        unit_last = &unit_test_##test_name.next;                           \
    }                                                                      \
    static void unit_run_##test_name(void)

#define CHECK(x) \
    do { if (!(x)) unit_fail(__FILE__, __LINE__, "%s", #x); } while (0)

/* Integers of any type: the first is what came, the second what should have. */
#define CHECK_INT(got, want)                                               \
    do {                                                                   \
        long long unit_got = (long long)(got);                             \
        long long unit_want = (long long)(want);                           \
        if (unit_got != unit_want)                                         \
            unit_fail(__FILE__, __LINE__, "%s is %lld, not %lld", #got,    \
                      unit_got, unit_want);                                \
    } while (0)

/* An lp_slice against a C string. */
#define CHECK_STR(got, want)                                               \
    do {                                                                   \
        lp_slice unit_got = (got);                                         \
        unit_check_bytes(__FILE__, __LINE__, #got, unit_got.bytes,         \
                         unit_got.length, (want), strlen(want));           \
    } while (0)

#define CHECK_BYTES(got, got_length, want, want_length)                    \
    unit_check_bytes(__FILE__, __LINE__, #got, (got), (got_length),        \
                     (want), (want_length))

/* Ends the test, which then counts as skipped. */
#define SKIP(reason)                                                       \
    do {                                                                   \
        printf("skip %s: %s\n", unit_current->name, (reason));             \
        fflush(stdout);                                                    \
        _exit(UNIT_SKIPPED);                                               \
    } while (0)

UNIT_PRINTF static void unit_fail(const char *file, int line,
                                  const char *format, ...);

static void unit_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    printf("FAIL %s %s:%d: ", unit_current->name, file, line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
    if (unit_told) *unit_told = 1;
    _exit(UNIT_FAILED); /* and not exit(): no leaks are to be told now */
}

/* Bytes as a C string would have them, into `out`, cut with dots if too long. */
UNIT_UNUSED static const char *unit_quote(char *out, size_t out_size,
                                          const char *bytes, size_t length) {
    size_t at = 0, i;
    for (i = 0; i < length && at + 8 < out_size; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '\n') at += (size_t)sprintf(out + at, "\\n");
        else if (c == '\r') at += (size_t)sprintf(out + at, "\\r");
        else if (c == '"' || c == '\\') at += (size_t)sprintf(out + at, "\\%c", c);
        else if (c >= 32 && c < 127) out[at++] = (char)c;
        else at += (size_t)sprintf(out + at, "\\x%02x", c);
    }
    if (i < length) at += (size_t)sprintf(out + at, "...");
    out[at] = '\0';
    return out;
}

UNIT_UNUSED static void unit_check_bytes(
    const char *file, int line, const char *what, const char *got,
    size_t got_length, const char *want, size_t want_length) {
    char a[600], b[600];
    size_t same = 0;
    if (got_length == want_length &&
        (got_length == 0 || memcmp(got, want, got_length) == 0))
        return;
    while (same < got_length && same < want_length && got[same] == want[same])
        same++;
    if (same < 300) same = 0; /* else the quotes begin near the difference */
    else same -= 20;
    unit_fail(file, line, "%s, from byte %lu, is\n     \"%s\" (%lu), not\n     \"%s\" (%lu)",
              what, (unsigned long)same,
              unit_quote(a, sizeof a, got + same, got_length - same),
              (unsigned long)got_length,
              unit_quote(b, sizeof b, want + same, want_length - same),
              (unsigned long)want_length);
}

/* ---- randomness: the same seed and test give the same numbers ---- */

UNIT_UNUSED static uint64_t unit_random(void) { /* splitmix64 */
    uint64_t z = (unit_random_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* From 0 up to, not including, `limit`. */
UNIT_UNUSED static uint32_t unit_below(uint32_t limit) {
    return (uint32_t)(((unit_random() >> 32) * limit) >> 32);
}

/* True once in `n` times. */
UNIT_UNUSED static int unit_one_in(uint32_t n) { return unit_below(n) == 0; }

static unsigned unit_environment(const char *name, unsigned fallback) {
    const char *value = getenv(name);
    return value && *value ? (unsigned)strtoul(value, NULL, 10) : fallback;
}

/* How often a loop should go round: fewer times where everything is slow. */
UNIT_UNUSED static int unit_rounds(int rounds) {
    int fewer = rounds / (int)unit_environment("UNIT_DIVIDE", 1);
    return fewer > 0 ? fewer : 1;
}

/* ---- memory: an lp_memory that checks the sizes it is told, counts, and can fail

   Every block moves when it is resized and is overwritten when it is freed, so that a
   stale pointer shows. Blocks end in a guard.

       unit_memory m = {0};                C++: {}
       cfg.memory = unit_memory_of(&m);
       m.fail_at = 7;                      the seventh call that allocates fails,
       m.fail_forever = 1;                 and all after it
       ...
       CHECK_INT(m.blocks, 0);             nothing leaked

   For each allocation in turn:
       for (k = 1, failed = 1; failed; k++) {
           unit_memory m = {0}; m.fail_at = k;  ...  failed = m.failed != 0; } */

typedef struct unit_memory {
    size_t blocks, bytes, bytes_peak; /* held now, and at most           */
    size_t calls;                     /* that allocated or resized       */
    size_t fail_at;                   /* which of them fails, from 1     */
    int fail_forever;
    size_t failed;                    /* how many did                    */
} unit_memory;

typedef struct unit_block {
    unit_memory *owner;
    size_t size;
    uint64_t mark, padding;
} unit_block;

#define UNIT_MARK UINT64_C(0x6c6f6e67706f6c6c)

static pthread_mutex_t unit_memory_lock = PTHREAD_MUTEX_INITIALIZER;

static unit_block *unit_block_check(unit_memory *m, void *ptr, size_t size) {
    unit_block *block = (unit_block *)ptr - 1;
    uint64_t mark = UNIT_MARK;
    if (block->mark != mark || block->owner != m)
        unit_fail(__FILE__, __LINE__, "%p is no block of this memory", ptr);
    if (block->size != size)
        unit_fail(__FILE__, __LINE__, "a block of %lu bytes was told to be %lu",
                  (unsigned long)block->size, (unsigned long)size);
    if (memcmp((char *)ptr + size, &mark, sizeof mark) != 0)
        unit_fail(__FILE__, __LINE__, "written past the end of %lu bytes",
                  (unsigned long)size);
    return block;
}

static void *unit_block_make(unit_memory *m, size_t size) {
    unit_block *block = (unit_block *)malloc(sizeof *block + size + sizeof(uint64_t));
    uint64_t mark = UNIT_MARK;
    if (!block) unit_fail(__FILE__, __LINE__, "malloc failed");
    block->owner = m;
    block->size = size;
    block->mark = mark;
    memset(block + 1, 0xa5, size);
    memcpy((char *)(block + 1) + size, &mark, sizeof mark);
    m->blocks++;
    m->bytes += size;
    if (m->bytes > m->bytes_peak) m->bytes_peak = m->bytes;
    return block + 1;
}

static void unit_block_free(unit_memory *m, unit_block *block) {
    m->blocks--;
    m->bytes -= block->size;
    block->mark = 0;
    memset(block + 1, 0xdd, block->size);
    free(block);
}

static int unit_memory_fails(unit_memory *m) {
    m->calls++;
    if (!m->fail_at || m->calls < m->fail_at) return 0;
    if (m->calls > m->fail_at && !m->fail_forever) return 0;
    m->failed++;
    return 1;
}

static void *unit_memory_resize(void *ctx, void *ptr, size_t old_size, size_t new_size) {
    unit_memory *m = (unit_memory *)ctx;
    unit_block *old = NULL;
    void *fresh = NULL;
    pthread_mutex_lock(&unit_memory_lock);
    if (ptr) old = unit_block_check(m, ptr, old_size);
    else CHECK_INT(old_size, 0);
    if (new_size && !unit_memory_fails(m)) {
        fresh = unit_block_make(m, new_size);
        if (old) memcpy(fresh, ptr, old_size < new_size ? old_size : new_size);
    }
    if (old && (fresh || !new_size)) unit_block_free(m, old);
    pthread_mutex_unlock(&unit_memory_lock);
    return fresh;
}

UNIT_UNUSED static lp_memory unit_memory_of(unit_memory *m) {
    lp_memory memory;
    memory.resize = unit_memory_resize;
    memory.ctx = m;
    return memory;
}

/* ---- running ---- */

static void unit_run_here(unit_test *test) {
    const char *c;
    unit_current = test;
    unit_random_state = unit_seed;
    for (c = test->name; *c; c++)
        unit_random_state = unit_random_state * 31 + (unsigned char)*c;
    test->run();
}

/* Returns one of the exit codes above; all others have been told as failures. */
static int unit_run_forked(unit_test *test, unsigned seconds) {
    int status = 0;
    pid_t child;
    fflush(stdout);
    *unit_told = 0;
    child = fork();
    if (child == 0) {
        alarm(seconds);
        unit_run_here(test);
        fflush(stdout);
        exit(UNIT_PASSED); /* here the sanitizers look for leaks */
    }
    if (child < 0 || waitpid(child, &status, 0) < 0) {
        perror("fork");
        return UNIT_FAILED;
    }
    if (*unit_told) return UNIT_FAILED;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        printf("FAIL %s took longer than %u s\n", test->name, seconds);
    else if (WIFSIGNALED(status))
        printf("FAIL %s died of signal %d%s\n", test->name, WTERMSIG(status),
               WTERMSIG(status) == SIGABRT ? " (an assertion; gdb and --no-fork show it)" : "");
    else if (WEXITSTATUS(status) == UNIT_PASSED)
        printf("ok %s\n", test->name);
    else if (WEXITSTATUS(status) == UNIT_SKIPPED)
        return UNIT_SKIPPED;
    else
        printf("FAIL %s: exit code %d; what was found stands above\n",
               test->name, WEXITSTATUS(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : UNIT_FAILED;
}

static void unit_prepare(void) {
    static char output[4096]; /* or valgrind would call stdout's buffer a leak */
    void *shared = mmap(NULL, sizeof *unit_told, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    unit_told = (int *)shared;
    setvbuf(stdout, output, _IOLBF, sizeof output);
}

/* Is `path`, as a compiler has it, the file NAME.c? An empty name is that of any. */
static int unit_is_file(const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    size_t length = strlen(name);
    if (slash) path = slash + 1;
    return !length || (strncmp(path, name, length) == 0 && strcmp(path + length, ".c") == 0);
}

int main(int argc, char **argv) {
    int passed = 0, failed = 0, skipped = 0, forks = 1, first = 0, i;
    unsigned seconds = unit_environment("UNIT_SECONDS", 60);
    const char *part = "", *file = "", *seed = getenv("SEED");
    unit_test *test;
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) seed = argv[++i];
        else if (strcmp(argv[i], "--file") == 0 && i + 1 < argc) file = argv[++i];
        else if (strcmp(argv[i], "--no-fork") == 0) forks = 0;
        else if (strcmp(argv[i], "--first") == 0) first = 1;
        else part = argv[i];
    }
    unit_seed = seed && *seed ? strtoull(seed, NULL, 10)
                              : ((uint64_t)time(NULL) * 1000003 + (uint64_t)getpid()) % 1000000;
    unit_prepare();
    printf("seed %llu\n", (unsigned long long)unit_seed);
    for (test = unit_first; test && !(first && failed); test = test->next) {
        int code = UNIT_PASSED;
        if (!strstr(test->name, part) || !unit_is_file(test->file, file)) continue;
        if (forks) code = unit_run_forked(test, seconds);
        else unit_run_here(test);
        if (code == UNIT_PASSED) passed++;
        else if (code == UNIT_SKIPPED) skipped++;
        else failed++;
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed ? 1 : 0;
}

#endif /* UNIT_H */
