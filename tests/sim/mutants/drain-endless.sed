# the drain waits for those who never read
/^static.* \**lpi_loop_drain_end(/,/^}/ s/write_ms < LPI_DRAIN_WRITE_MS/1/
