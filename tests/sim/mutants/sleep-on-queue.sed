# the loop sleeps though requests wait for their turn
/^static.* \**lpi_loop_due(/,/^}/ s/loop->queue\.head != LPI_NONE/0/
