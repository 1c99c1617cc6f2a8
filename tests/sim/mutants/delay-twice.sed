# delays are counted once more with each turn
/^static.* \**lpi_delays_count(/,/^}/ s/delays->count = 0;/(void)0;/
