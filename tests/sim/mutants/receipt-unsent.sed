# a reply that the socket took in parts has no receipts
/^static.* \**lpi_write_drained(/,/^}/ s/lpi_write_note_taken(loop, c, index);//
