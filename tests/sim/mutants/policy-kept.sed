# a channel that is forgotten leaves its policy behind
/^static.* \**lpi_channel_free_extra(/,/^}/ s/if (ch->extra == LPI_NONE) return/return/
