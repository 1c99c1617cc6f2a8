# a pipe is closed and not taken out of the poller
/^static.* \**lpi_loop_free(/,/^}/ s/os->poller_set(/(void)(/
