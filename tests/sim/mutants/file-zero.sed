# a name with a NUL is that of the file before it
# found by tests/unit/file.c
/^static.* \**lpi_file_part_good(/,/^}/ s/!memchr(part\.bytes, 0, part\.length)/1/
