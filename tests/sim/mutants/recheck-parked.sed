# who waits and has had all stays after a recheck
/^static.* \**lpi_hub_take_parked(/,/^}/ s/if (!list->recheck && !lpi_waiter_is_behind(waiter, ch))/if (!lpi_waiter_is_behind(waiter, ch))/
