# fresh is not cleared by an append
/^static.* \**lpi_hub_publish(/,/^}/ s/ch->fresh = 0;/(void)0;/
