# with a transient message the cache drops what the store still holds before it
# found by tests/unit/redis.c
/^static.* \**lpi_channel_end_transients(/,/^}/ s/!LPI_REMOTE(ch->remote)/1/
