# no connection keeps a counter that counts nobody
/^static.* \**lpi_counter_give(/,/^}/ s/wait->keeps = //
