# a connection that was queued, and had but an empty line left, has no deadline
# found by tests/unit/read.c
/^static.* \**lpi_read_await_head(/,/^}/ s/lpi_timer_armed([^)]*)/1/
