# a file above the folder is served
# found by tests/unit/file.c
/^static.* \**lpi_file_part_good(/,/^}/ s/ && \*part\.bytes != '\.'//
