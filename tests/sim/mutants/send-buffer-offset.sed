# a shared rest begins too early
/^static.* \**lpi_write_queue_unsent(/,/^}/ s/at = sent - head.length;/at = 0;/
