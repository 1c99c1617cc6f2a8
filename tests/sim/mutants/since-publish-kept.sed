# waiters_since_publish is not cleared by an append
/^static.* \**lpi_channel_add(/,/^}/ s/waiters_since_publish = 0/waiters_since_publish/
