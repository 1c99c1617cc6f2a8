# a sweep does not look again at a channel that still holds something
# found by tests/unit/policy.c
/^static.* \**lpi_hub_sweep(/,/^}/ s/if (lpi_channel_refresh(hub, i, now_ms) != LPI_NONE)/if (!lpi_channel_refresh(hub, i, now_ms) \&\& 0)/
