# a channel made again has its old epoch
/^static.* \**lpi_channel_new(/,/^}/ s/ch->epoch = [^;]*/ch->epoch = hub->hash_key[0]/
