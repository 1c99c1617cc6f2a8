# a poller's timer that could not be set is waited for
# found by tests/unit/os.c
/^static.* \**lpi_poller_timer_set(/,/^}/ s/^ *return -1/return 0/
