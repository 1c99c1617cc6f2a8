# a stream that has ended still counts
/^static.* \**lpi_stream_drop(/,/^}/ s/counts\.streams--/counts.streams += 0/
