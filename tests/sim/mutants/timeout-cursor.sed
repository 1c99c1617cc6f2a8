# an empty or cut reply gives the newest cursor
/^static.* \**lpi_reply_note(/,/^}/ s/reply->at\[i\].seq = at\[i\].seq;/reply->at[i].seq = ch->last;/
