# a receipt is noted before the socket took anything
/^static.* \**lpi_deliver_reply(/,/^}/ s/lpi_reader_begin(loop, index, reply);/lpi_reader_begin(loop, index, reply), lpi_reader_handed(loop, index);/
