# the loop sleeps though lists are ready
/^static.* \**lpi_loop_step(/,/^}/ s/lpi_loop_sleep(loop) ? 0 : /lpi_loop_sleep(loop) ? lpi_loop_due(loop) : /
