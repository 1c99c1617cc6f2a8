# an evicted message is released twice
/^static.* \**lpi_channel_evict(/,/^}/ s/lpi_message_unref([^;]*;/& &/
