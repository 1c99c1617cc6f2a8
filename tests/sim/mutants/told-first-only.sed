# of several messages that are to be told only the first is
/^static.* \**lpi_hub_published(/,/^}/ s/hub->last_untold->next_untold = m;/(void)0;/
