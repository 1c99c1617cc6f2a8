# a counter that counts nobody stays when its connection closes
/^static.* \**lpi_hub_dismiss(/,/^}/ s/lpi_counter_let_go(/(void)(/
