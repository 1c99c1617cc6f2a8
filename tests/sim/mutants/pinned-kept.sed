# pinned bytes are not released
/^static.* \**lpi_hub_unpin(/,/^}/ s/stats\.pinned_bytes -=/stats.pinned_bytes +/
