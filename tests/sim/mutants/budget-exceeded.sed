# pinned replies do not count against the history
/^static.* \**lpi_hub_append(/,/^}/ s/ + hub->stats.pinned_bytes > budget/ > budget/
