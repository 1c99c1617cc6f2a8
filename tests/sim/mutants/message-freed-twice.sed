# an evicted message is released twice
/^static.* \**lpi_hub_evict(/,/^}/ s/lpi_message_unref(hub->memory, m);/lpi_message_unref(hub->memory, m), lpi_message_unref(hub->memory, m);/
