# a full table of receipts takes no more
/^static.* \**lpi_receipt_add(/,/^}/ s/if (lpi_receipt_has(hub, m, name, hash)) return;/if (lpi_receipt_has(hub, m, name, hash) || hub->receipts.used >= hub->config->track_receipts) return;/
