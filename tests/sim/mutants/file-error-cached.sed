# an error has the Cache-Control that is meant for the file
# found by tests/unit/file.c
/^static.* \**lpi_file_reply_error(/,/^}/ s/lpi_text_clear([^)]*)/(void)0/
