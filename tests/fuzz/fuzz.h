/* fuzz.h: what the fuzzers share: the library, text at the edge of readable memory, and how
   to fail.

   A fuzzer is one C file with LLVMFuzzerTestOneInput, as libFuzzer and AFL++ call it; or
   replay.c gives it a main() that reads files. An oracle is a MUST: it aborts, so that any
   of them keeps the input. */

#ifndef FUZZ_H
#define FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_STATIC
#define LONGPOLL_NO_THREADS
#define LONGPOLL_DEBUG
#include "longpoll.h"

/* Coverage of the library is to guide the fuzzer, not that of the oracles. What calls the
   library cannot be blind, since the library may be inlined there. */
#if defined(__clang__)
#define BLIND __attribute__((no_sanitize("coverage")))
#else
#define BLIND
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- failure ---- */

#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 3, 4)))
#endif
static void fuzz_fail(const char *file, int line, const char *format, ...)
{
    va_list args;
    fflush(stdout);
    fprintf(stderr, "FAIL: %s:%d: ", file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    fflush(stderr);
    abort();
}

#define MUST(x, ...) ((x) ? (void)0 : fuzz_fail(__FILE__, __LINE__, __VA_ARGS__))

/* ---- memory between two pages that may not be touched: even without AddressSanitizer one
   byte too far ends the run ---- */

enum { FUZZ_ROOM = 1 << 18 };

typedef struct fuzz_pages {
    char *begin, *end;
} fuzz_pages;

static void fuzz_pages_init(fuzz_pages *p)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *map;
    if (p->begin) return;
    map = (char *)mmap(NULL, FUZZ_ROOM + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(map != (char *)MAP_FAILED, "mmap");
    p->begin = map + page;
    p->end = p->begin + FUZZ_ROOM;
    MUST(!mprotect(p->begin, FUZZ_ROOM, PROT_READ | PROT_WRITE), "mprotect");
}

/* A copy whose last byte is the last that may be read. */
BLIND static lp_slice fuzz_guarded(fuzz_pages *p, const void *bytes, size_t length)
{
    fuzz_pages_init(p);
    MUST(length <= FUZZ_ROOM, "no room for %zu bytes", length);
    if (length) memcpy(p->end - length, bytes, length);
    return lpi_slice(p->end - length, length);
}

BLIND static int fuzz_same(lp_slice a, lp_slice b)
{
    return a.length == b.length && (!a.length || !memcmp(a.bytes, b.bytes, a.length));
}

/* ---- UTF-8, by code points: what a byte sequence stands for, and whether that is the
   shortest way to say it. Independent of lpi_utf8. The length, or 0. ---- */

BLIND static size_t fuzz_utf8(const char *bytes, size_t length, uint32_t *out)
{
    const unsigned char *p = (const unsigned char *)bytes;
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code;
    size_t n, i;
    if (!length) return 0;
    if (p[0] < 0x80) n = 1, code = p[0];
    else if ((p[0] & 0xe0) == 0xc0) n = 2, code = p[0] & 0x1f;
    else if ((p[0] & 0xf0) == 0xe0) n = 3, code = p[0] & 0x0f;
    else if ((p[0] & 0xf8) == 0xf0) n = 4, code = p[0] & 0x07;
    else return 0;
    if (length < n) return 0;
    for (i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (p[i] & 0x3f);
    }
    if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return 0;
    *out = code;
    return n;
}

#endif /* FUZZ_H */
