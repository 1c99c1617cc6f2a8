# the drain waits for those who never read
/^static.* lpi_loop_drain_end(/,/^}/ s/(write_ms < LPI_DRAIN_WRITE_MS ? write_ms/(1 ? write_ms/
