# a poller's timer that has fired is not set anew
# found by tests/unit/os.c
/^static.* \**lpi_poller_timer_clear(/,/^}/ s/poller->timer_us = UINT64_MAX//
