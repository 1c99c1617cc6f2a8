# a request whose connection closed before its answer is not told
/^static.* \**lpi_close_reap(/,/^}/ s/lpi_access_end(loop, index)/(void)0/
