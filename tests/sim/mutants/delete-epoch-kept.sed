# a channel that is deleted keeps its epoch
/^static.* \**lpi_channel_renew(/,/^}/ s/ch->epoch = epoch;/(void)epoch;/
