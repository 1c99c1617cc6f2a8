# a poller's timer that has fired keeps lp_fd readable
# found by tests/unit/os.c
/^static.* \**lpi_poller_timer_clear(/,/^}/ s/read([^)]*)/0/
