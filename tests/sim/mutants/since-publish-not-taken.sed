# waiters_since_publish does not fall when a poll leaves
/^static.* \**lpi_waiters_remove(/,/^}/ s/waiters_since_publish--/waiters_since_publish/
