# what another instance has published is told here too
# found by tests/sim/many.c
/^static.* \**lpi_store_take_news(/,/^}/ s/if (m) lpi_hub_append(/if (m) lpi_hub_stored(hub, m), lpi_hub_append(/
