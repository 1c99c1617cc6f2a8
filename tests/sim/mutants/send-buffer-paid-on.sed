# an address pays on for a send buffer that others still wait for
/^static.* \**lpi_send_buffer_release(/,/^}/ s/lpi_send_buffer_is_held([^)]*)/out->holders/
