# a message too few is passed over between two holds of the mutex
# found by tests/unit/messages.c
/^static.* \**lpi_hub_read(/,/^}/ s/if (!r->begun) r->seq = ch->last/if (r->first) r->seq = ch->last/
