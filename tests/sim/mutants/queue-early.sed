# a queued connection keeps its timer armed
/^static.* \**lpi_queue_add(/,/^}/ s/lpi_wheel_cancel(/(void)(/
