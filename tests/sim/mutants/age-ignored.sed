# a poll is given what is past its age
/^static.* \**lpi_channel_refresh(/,/^}/ s/while (ch->held/while (0 \&\& ch->held/
