# a poller's timer is left as it is though it fires too late
# found by tests/unit/os.c
/^static.* \**lpi_poller_timer_set(/,/^}/ s/poller->timer_us <= until_us/poller->timer_us < UINT64_MAX/
