# a closed connection stays in the queue
/^static.* \**lpi_close(/,/^}/ s/lpi_queue_remove(/(void)(/
