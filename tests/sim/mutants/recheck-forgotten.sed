# a channel that is made again has never been rechecked
# found by tests/unit/recheck.c
/^static.* \**lpi_channel_make(/,/^}/ s/ch->rechecked = hub->forgotten_recheck/ch->rechecked = 0/
