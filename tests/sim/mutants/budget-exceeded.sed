# pinned replies do not count against the history
/^static.* \**lpi_channel_append(/,/^}/ s/ + hub->stats\.pinned_bytes//
