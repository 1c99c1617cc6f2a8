# a loop is not signalled that a connection has come
/^static.* \**lpi_inbox_add(/,/^}/ s/loop->os->wake_signal(/(void)(/
