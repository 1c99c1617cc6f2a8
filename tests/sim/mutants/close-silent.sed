# a connection is closed and not shut down
/^static.* \**lpi_close(/,/^}/ s/os->shutdown(/(void)(/
