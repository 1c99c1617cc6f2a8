# a client may have two receipts for a message
/^static.* \**lpi_receipt_add(/,/^}/ s/if (lpi_receipt_has(.*/(void)lpi_receipt_has;/
