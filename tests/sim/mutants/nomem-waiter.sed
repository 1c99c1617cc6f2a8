# without memory for a list its waiter is lost
/^static.* \**lpi_waiter_add(/,/^}/ s/if (index != LPI_NONE) lpi_slab_give(&hub->waiters, index);/(void)0;/
