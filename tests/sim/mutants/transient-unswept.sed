# no sweep drops the text
# found by tests/unit/transient.c
/^static.* \**lpi_channel_arm(/,/^}/ s/if (over_ms < when_ms) when_ms = over_ms/(void)over_ms/
