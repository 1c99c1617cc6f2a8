# without memory for a list its waiter is lost
/^static.* \**lpi_waiter_add(/,/^}/ s/lpi_waiter_free(/(void)(/
