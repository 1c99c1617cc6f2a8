# a shared send buffer is sent from too early on
/^static.* \**lpi_write_queue_unsent(/,/^}/ s/at = sent - head\.length/at = 0/
