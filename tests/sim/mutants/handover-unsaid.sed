# a connection that no loop has taken in is closed and not shut down
/^static.* lpi_loop_free(/,/^}/ s/os->shutdown(os->ctx, handover.fd, LP_READ | LP_WRITE);/(void)0;/
