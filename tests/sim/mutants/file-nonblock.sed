# a fifo in the folder is waited for
# found by tests/unit/file.c
/^static.* \**lpi_file_enter(/,/^}/ s/O_NONBLOCK |/0 |/
