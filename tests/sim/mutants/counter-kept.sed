# a counter is not released
/^static.* \**lpi_waiters_unpark(/,/^}/ s/lpi_counter_give(/(void)(/
