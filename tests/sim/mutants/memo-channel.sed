# a poll that is like the last is parked on the channel of that one
/^static int lpi_memo_other(/,/^}/ s/ask->hashes\[0\] = lpi_channel_hash(hub, name);/ask->hashes[0] = memo->hash;/
