# a channel made again has its old epoch
/^static.* \**lpi_channel_make(/,/^}/ s/ch->epoch = epoch;/ch->epoch = hash;/
