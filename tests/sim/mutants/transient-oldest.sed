# a mark stays when nothing stands before it
/^static.* \**lpi_channel_evict_oldest(/,/^}/ s/while (ch->held && .*/while (0);/
