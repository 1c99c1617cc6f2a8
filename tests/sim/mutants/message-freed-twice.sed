# an evicted message is released twice
/^static.* \**lpi_channel_evict_one(/,/^}/ s/lpi_message_unref([^;]*;/& &/
