# delivered messages are not released
/^static.* \**lpi_deliver_batch(/,/^}/ s/lpi_message_unref(/(void)(/
