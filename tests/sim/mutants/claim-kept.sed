# the claim of a fetching poll is not released
/^static.* \**lpi_seats_give(/,/^}/ s/if (fetching) lpi_slab_give(&hub->claims, (uint32_t)seat->seq);/if (fetching) (void)0;/
