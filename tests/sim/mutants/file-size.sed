# a file of just file_bytes_max is refused
# found by tests/unit/file.c
/^static.* \**lpi_file_read(/,/^}/ s/> max/>= max/
