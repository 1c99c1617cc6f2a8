# pinned replies do not count against the history
/^static.* \**lpi_channel_add(/,/^}/ s/ + hub->stats\.pinned_bytes//
