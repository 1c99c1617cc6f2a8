# the messages of an array have the same timestamp
/^static.* \**lpi_channel_append(/,/^}/ s/lpi_max64(wall_us, ch->last_us + 1)/wall_us/
