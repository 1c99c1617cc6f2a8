# a poll is parked in the list of another loop
/^static.* \**lpi_waiter_list_get(/,/^}/ s/if (list->loop == loop) return index;/if (loop != LPI_NONE) return index;/
