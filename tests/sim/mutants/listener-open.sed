# the listener is closed and not shut down
/^static.* \**lpi_accept_close_listener(/,/^}/ s/os->shutdown(/(void)(/
