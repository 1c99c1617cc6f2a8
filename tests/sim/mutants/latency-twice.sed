# a reply that the socket has not taken at once is counted twice
/^static.* \**lpi_deliver_note_reply(/,/^}/ s/else if/if/
