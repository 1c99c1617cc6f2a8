# a timestamp follows the wall clock back
/^static.* \**lpi_channel_append(/,/^}/ s/ch->last_us + 1/0/
