# a client that is refused is read over what has arrived
# found by tests/unit/read.c
/^static.* \**lpi_loop_event(/,/^}/ { /LPI_TAG_LISTENER/ { n
s/lpi_read_serve_arrivals(loop)/(void)0/
} }
