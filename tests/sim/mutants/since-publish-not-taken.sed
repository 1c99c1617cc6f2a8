# waiters_since_publish does not fall when a poll leaves
/^static.* \**lpi_waiters_remove(/,/^}/ s/ch->waiters_since_publish--;/(void)0;/
