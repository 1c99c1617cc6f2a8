# a poller's timer is closed and not taken out of epoll
# found by tests/unit/os.c
/^static.* \**lpi_poller_timer_close(/,/^}/ s/epoll_ctl(/(void)(/
