# a connection that no loop could watch stays counted
/^static.* \**lpi_accept_open(/,/^}/ { /^ / s/lpi_accept_undo(/(void)(/; }
