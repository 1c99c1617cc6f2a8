# an address pays on for a rest that others still wait for
/^static.* lpi_send_buffer_release(/,/^}/ s/if (!lpi_blob_is_held(send_buffer, buffer->account))/if (!send_buffer->holders)/
