# of a channel that was waited on and forgotten only the first is told
# seed 146
/^static.* \**lpi_hub_take_event(/,/^}/ s/if (!ch->forgotten/if (1 || !ch->forgotten/
