# the loop sleeps though views are ready
/^static.* \**lpi_loop_sleep(/,/^}/ s/work = loop->ready_first != LPI_NONE;/work = 0;/
