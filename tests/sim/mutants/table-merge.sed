# a bucket is lost when two merge
/^static.* \**lpi_table_merge(/,/^}/ s/node->next = \*to;/node->next = LPI_NONE;/
