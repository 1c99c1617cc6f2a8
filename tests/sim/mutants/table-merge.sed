# a bucket is lost when two merge
/^static.* \**lpi_table_merge(/,/^}/ s/lpi_table_link(/(void)(/
