# a new epoch may begin before the end of the old one
/^static.* \**lpi_channel_make(/,/^}/ s/hub->forgotten_us + 1/0/
