# more is read than the loop's buffer has room for
# found by tests/unit/read.c
/^static.* \**lpi_read_arrived(/,/^}/ s/ || loop->in_length > LPI_READ_SIZE//
