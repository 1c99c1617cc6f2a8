# pinned bytes are not released
/^static.* \**lpi_send_buffer_unref(/,/^}/ s/hub->stats.pinned_bytes -= size;/(void)0;/
