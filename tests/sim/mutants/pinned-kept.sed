# pinned bytes are not released
/^static.* \**lpi_blob_unref(/,/^}/ s/hub->stats.pinned_bytes -= size;/(void)0;/
