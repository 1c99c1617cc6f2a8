# a ring that wraps is copied wrong when it grows
/^static.* \**lpi_channel_resize(/,/^}/ s/lpi_channel_message(.*;/ch->ring[i];/
