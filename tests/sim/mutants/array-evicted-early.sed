# an array drops more than history_bytes asks for
/^static.* \**lpi_channel_append(/,/^}/ s/lpi_history_limit(hub, now_us \/ 1000);/while (out->count > 1 \&\& hub->oldest != hub->newest) lpi_channel_evict(hub, hub->oldest, 0, 0);/
