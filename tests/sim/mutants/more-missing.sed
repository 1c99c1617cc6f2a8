# a reply that was cut does not say more
/^static.* \**lpi_reply_gather(/,/^}/ s/reply->more = 1;/(void)0;/
