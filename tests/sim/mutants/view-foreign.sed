# a poll is parked in the view of another loop
/^static.* \**lpi_view_get(/,/^}/ s/if (view->loop == loop) return index;/if (loop != LPI_NONE) return index;/
