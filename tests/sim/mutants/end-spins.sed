# the end of a stream is reported for ever
/^static.* \**lpi_read_stream_ended(/,/^}/ s/lpi_set_interest(/(void)(/
