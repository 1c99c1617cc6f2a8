# an address pays nothing for a send buffer that another's connection waits for too
/^static.* \**lpi_send_buffer_is_held(/,/^}/ s/buffer->account != account/0/
