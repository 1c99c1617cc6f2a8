# a poll that is refused counts on
/^static.* \**lpi_waiters_park(/,/^}/ s/lpi_counter_give(/(void)(/
