# a poll is parked in the list of another loop
/^static.* \**lpi_waiter_list_get(/,/^}/ s/list->loop == loop/1/
