# the end behind the last bytes is not asked for again
/^static.* \**lpi_read_hangup(/,/^}/ s/lpi_poller_repeat(/(void)(/
