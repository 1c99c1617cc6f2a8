# a connection that no loop has taken in is closed and not shut down
/^static.* \**lpi_loop_free_tasks(/,/^}/ s/os->shutdown(/(void)(/
