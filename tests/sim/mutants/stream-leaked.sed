# the record of a stream that is closed is not given back
/^static void lpi_close(/,/^}/ s/lpi_stream_drop(loop, index);/(void)0;/
