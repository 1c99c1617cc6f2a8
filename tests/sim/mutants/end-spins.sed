# the end of a stream is reported for ever
/^static.* \**lpi_stream_ended(/,/^}/ s/lpi_watch(loop, index, c->interest & LP_WRITE);/(void)0;/
