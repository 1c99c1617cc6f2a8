# an empty or cut reply gives the newest cursor
/^static.* \**lpi_reply_note(/,/^}/ s/seq = at\[i\]\.seq/seq = ch->last/
