# waiters_since_publish is not cleared by an append
/^static.* \**lpi_hub_publish(/,/^}/ s/ch->waiters_since_publish = 0;/(void)0;/
