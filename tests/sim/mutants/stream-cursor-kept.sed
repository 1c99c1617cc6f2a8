# a stream does not move on after what it was sent
/^static void lpi_stream_send(/,/^}/ s/from\.seq = reply->at\[i\]\.seq;/from.seq = reply->at[i].seq - (reply->count != 0);/
