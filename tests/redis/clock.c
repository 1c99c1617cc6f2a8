/* clock.c: a wall clock that a test sets, for a real redis-server.

   Loaded before the C library (LD_PRELOAD), it answers the calls by which the server reads the
   time of day with what stands in a file of eight bytes, which the test maps too: microseconds
   since 1970. So scripts and the expiry of keys see exactly the time that the simulated server
   is given. The monotonic clock is left alone. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shared;

__attribute__((constructor)) static void clock_open(void)
{
    const char *path = getenv("LONGPOLL_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED) shared = (const volatile int64_t *)p;
    if (fd >= 0) close(fd);
}

int clock_gettime(clockid_t id, struct timespec *out)
{
    if (id != CLOCK_REALTIME || !shared) return (int)syscall(SYS_clock_gettime, id, out);
    out->tv_sec = (time_t)(*shared / 1000000);
    out->tv_nsec = (long)(*shared % 1000000) * 1000;
    return 0;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
