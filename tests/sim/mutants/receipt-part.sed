# a receipt is noted when the socket took a part
/^static.* \**lpi_write_queue_unsent(/,/^}/ s/lpi_reader_keep(loop, index))/(lpi_reader_handed(loop, index), 0))/
