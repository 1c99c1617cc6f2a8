# a connection is closed and not taken out of the poller
/^static void lpi_close(lpi_loop \*loop, uint32_t index)$/,/^}/ s/(void)lpi_poller_change(loop, index, 0);/(void)0;/
