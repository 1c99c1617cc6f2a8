/* As much of kqueue as longpoll.h may use, for machines that have epoll: so that the
   half of the poller that is for macOS and the BSDs is compiled, and run, on Linux too. */
#ifndef KQUEUE_ON_EPOLL_H
#define KQUEUE_ON_EPOLL_H

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kevent { /* as on macOS */
    uintptr_t ident;
    int16_t filter;
    uint16_t flags;
    uint32_t fflags;
    intptr_t data;
    void *udata;
};

#define EVFILT_READ (-1)
#define EVFILT_WRITE (-2)

#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_ENABLE 0x0004
#define EV_CLEAR 0x0020
#define EV_RECEIPT 0x0040
#define EV_ERROR 0x4000
#define EV_EOF 0x8000

#define EV_SET(event, ident_, filter_, flags_, fflags_, data_, udata_) \
    do {                                                               \
        struct kevent *ev_set = (event);                               \
        ev_set->ident = (uintptr_t)(ident_);                           \
        ev_set->filter = (int16_t)(filter_);                           \
        ev_set->flags = (uint16_t)(flags_);                            \
        ev_set->fflags = (uint32_t)(fflags_);                          \
        ev_set->data = (intptr_t)(data_);                              \
        ev_set->udata = (void *)(udata_);                              \
    } while (0)

int kqueue(void);
int kevent(int kq, const struct kevent *changes, int change_count,
           struct kevent *events, int event_max, const struct timespec *timeout);

#ifdef __cplusplus
}
#endif
#endif
