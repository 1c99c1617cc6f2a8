# a transient message stays
# found by tests/unit/transient.c
/^static.* \**lpi_channel_refresh(/,/^}/ s/if (ch->extra != LPI_NONE) lpi_channel_end/if (0) lpi_channel_end/
