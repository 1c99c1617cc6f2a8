# a slow reader has no deadline
/^static.* \**lpi_write_queue_unsent(/,/^}/ s/lpi_arm(/(void)(/
