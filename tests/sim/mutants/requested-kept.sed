# what a fetching poll asked for is not released
/^static.* \**lpi_waiter_free(/,/^}/ s/if (fetching)/if (0)/
