# the loop sleeps though lists are ready
/^static.* \**lpi_loop_step(/,/^}/ s/\(lpi_loop_sleep(loop) ? \)0 /\1lpi_loop_due(loop) /
