# a counter that counts nobody stays when its connection polls for another client
/^static.* \**lpi_counter_take(/,/^}/ s/lpi_counter_let_go(/(void)(/
