# the loop sleeps though requests wait for their turn
/^static.* \**lpi_loop_due(/,/^}/ s/if (loop->queue.head != LPI_NONE) return 0;/(void)0;/
