# an address keeps its polls
/^static.* \**lpi_waiters_unpark(/,/^}/ s/node\.count--/node.count/
