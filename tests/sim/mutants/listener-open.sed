# the listener is closed and not shut down
/^static.* lpi_listener_close(/,/^}/ s/os->shutdown(os->ctx, server->listener, LP_READ | LP_WRITE);/(void)0;/
