# what is no regular file is read
# found by tests/unit/file.c
/^static.* \**lpi_file_read(/,/^}/ s/!S_ISREG/0 \&\& !S_ISREG/
