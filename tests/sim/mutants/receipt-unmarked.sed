# that the oldest receipt was dropped is not told
/^static.* \**lpi_receipt_add(/,/^}/ s/oldest->receipts_lost = 1;//
