# of all that has arrived the first is served, over and over
/^static.* \**lpi_read_serve_arrivals(/,/^}/ s/bytes += arrival->length/(void)0/
