# the drain waits for those who never read
# seed 229
/^static.* \**lpi_loop_drain_end(/,/^}/ s/more_ms = LPI_DRAIN_WRITE_MS;/more_ms += 0;/
