# the ring is read wrong where it wraps
/^static.* \**lpi_channel_message(/,/^}/ s/i < ch->ring_size/i <= ch->ring_size/
