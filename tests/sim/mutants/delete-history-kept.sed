# a deletion drops all messages but the newest
/^static.* \**lpi_channel_renew(/,/^}/ s/while (ch->held)/while (ch->held > 1)/
