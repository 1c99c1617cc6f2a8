# waiters_since_publish is not cleared by an append
/^static.* \**lpi_hub_publish(/,/^}/ s/waiters_since_publish = 0/waiters_since_publish/
