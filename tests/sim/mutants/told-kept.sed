# a message that was told is never freed
/^static.* \**lpi_loop_tell_published(/,/^}/ s/lpi_message_unref([^;]*;/(void)0;/
