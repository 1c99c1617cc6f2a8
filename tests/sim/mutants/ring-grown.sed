# a ring that wraps is copied wrong when it grows
/^static.* \**lpi_channel_resize(/,/^}/ s/ring\[i\] = lpi_channel_message(.*/ring[i] = ch->ring[i];/
