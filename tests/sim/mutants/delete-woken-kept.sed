# who waited before a deletion counts as woken by the next message
/^static.* \**lpi_channel_renew(/,/^}/ s/ch->waiters_since_publish = 0;//
