# a connection is closed and not taken out of the poller
/^static.* \**lpi_close(/,/^}/ s/lpi_poller_change(/(/
