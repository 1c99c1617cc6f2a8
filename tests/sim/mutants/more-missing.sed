# a reply that was cut does not say more
/^static.* \**lpi_reply_gather(/,/^}/ s/more = 1/more = 0/
