# an escaped slash parts a file's path
# found by tests/unit/file.c
/^static.* \**lpi_file_slash_hidden(/,/^}/ s/return 1/return 0/
