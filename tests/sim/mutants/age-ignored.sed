# a poll is given what is past its age
/^static.* \**lpi_channel_refresh(/,/^}/ s/while (/&0 \&\& /
