# a deleted channel may begin before its last message
/^static.* \**lpi_channel_renew(/,/^}/ s/lpi_max64(\(.*\), ch->last_us + 1)/(\1)/
