# who comes behind a recheck waits among those that it lets go
# found by tests/unit/recheck.c
/^static.* \**lpi_waiter_list_get(/,/^}/ s/ && !list->recheck//
