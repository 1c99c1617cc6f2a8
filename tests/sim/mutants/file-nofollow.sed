# a symbolic link leads out of the folder
# found by tests/unit/file.c
/^static.* \**lpi_file_enter(/,/^}/ s/O_NOFOLLOW | //
