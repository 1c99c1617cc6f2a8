/* kqueue on epoll, for the tests: see sys/event.h. A descriptor may be in one queue. */
#define _GNU_SOURCE 1
#include "sys/event.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FD_MAX 65536

static struct filters {
    uint32_t mask; /* of EPOLLIN and EPOLLOUT */
    uint32_t clear; /* those of them that are told once only */
    void *read_udata, *write_udata;
} filters_of[FD_MAX];

int kqueue(void) { return epoll_create1(EPOLL_CLOEXEC); }

static int set_mask(int kq, int fd, uint32_t mask, uint32_t added) {
    struct filters *f = &filters_of[fd];
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.data.fd = fd;
    event.events = mask | (mask & EPOLLIN ? (uint32_t)EPOLLRDHUP : 0u);
    if (f->clear) event.events |= (uint32_t)EPOLLET;
    if (!mask) {
        f->mask = f->clear = 0;
        return epoll_ctl(kq, EPOLL_CTL_DEL, fd, &event);
    }
    f->mask = mask;
    if (epoll_ctl(kq, EPOLL_CTL_MOD, fd, &event) == 0) return 0;
    if (errno != ENOENT || !added) return -1;
    f->mask = added; /* the number was closed since and is another's now */
    event.events = added | (added & EPOLLIN ? (uint32_t)EPOLLRDHUP : 0u);
    if (f->clear & added) event.events |= (uint32_t)EPOLLET;
    return epoll_ctl(kq, EPOLL_CTL_ADD, fd, &event);
}

static int apply(int kq, const struct kevent *change) {
    int fd = (int)change->ident;
    uint32_t bit = change->filter == EVFILT_READ ? (uint32_t)EPOLLIN : (uint32_t)EPOLLOUT;
    struct filters *f;
    if (fd < 0 || fd >= FD_MAX) return errno = EBADF, -1;
    f = &filters_of[fd];
    if (change->flags & EV_DELETE) {
        if (!(f->mask & bit)) return errno = ENOENT, -1;
        return set_mask(kq, fd, f->mask & ~bit, 0);
    }
    if (bit == (uint32_t)EPOLLIN) f->read_udata = change->udata;
    else f->write_udata = change->udata;
    f->clear = change->flags & EV_CLEAR ? f->clear | bit : f->clear & ~bit;
    return set_mask(kq, fd, f->mask | bit, bit);
}

static int collect(const struct epoll_event *ready, struct kevent *events) {
    const struct filters *f = &filters_of[ready->data.fd];
    uint32_t gone = ready->events & (uint32_t)(EPOLLHUP | EPOLLERR);
    uint32_t ended = gone | (ready->events & (uint32_t)EPOLLRDHUP);
    int count = 0, waiting = 0;
    if ((f->mask & EPOLLIN) && ((ready->events & EPOLLIN) || ended)) {
        (void)ioctl(ready->data.fd, FIONREAD, &waiting);
        EV_SET(&events[count], ready->data.fd, EVFILT_READ, ended ? EV_EOF : 0, 0, waiting,
               f->read_udata);
        count++;
    }
    if ((f->mask & EPOLLOUT) && ((ready->events & EPOLLOUT) || gone)) {
        EV_SET(&events[count], ready->data.fd, EVFILT_WRITE, gone ? EV_EOF : 0, 0, 0,
               f->write_udata);
        count++;
    }
    return count;
}

int kevent(int kq, const struct kevent *changes, int change_count,
           struct kevent *events, int event_max, const struct timespec *timeout) {
    struct epoll_event ready[256];
    int count = 0, found, i, max = event_max / 2, wait_ms = -1;
    for (i = 0; i < change_count; i++) {
        int error = apply(kq, &changes[i]) == 0 ? 0 : errno;
        if (!error && !(changes[i].flags & EV_RECEIPT)) continue;
        if (count == event_max) return errno = error, -1;
        events[count] = changes[i];
        events[count].flags = EV_ERROR;
        events[count++].data = error;
    }
    if (count || event_max == 0) return count;
    if (timeout) wait_ms = (int)(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000);
    if (max > 256) max = 256;
    if (max < 1) return errno = EINVAL, -1;
    found = epoll_wait(kq, ready, max, wait_ms);
    if (found < 0) return -1;
    for (i = 0; i < found; i++) count += collect(&ready[i], events + count);
    return count;
}
