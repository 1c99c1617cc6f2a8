# messages of two epochs are taken together
# found by tests/unit/messages.c
/^static.* \**lpi_hub_read(/,/^}/ s/if (r->epoch == ch->epoch)/if (1)/
