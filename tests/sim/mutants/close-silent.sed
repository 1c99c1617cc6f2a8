# a connection is closed and not shut down
/^static void lpi_close(lpi_loop \*loop, uint32_t index)$/,/^}/ s/os->shutdown(os->ctx, c->fd, LP_READ | LP_WRITE);/(void)os;/
