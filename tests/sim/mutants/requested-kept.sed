# the requested of a fetching poll is not released
/^static.* \**lpi_waiters_remove(/,/^}/ s/if (fetching) lpi_slab_give(&hub->requested, (uint32_t)waiter->seq);/if (fetching) (void)0;/
