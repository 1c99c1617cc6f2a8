# latencies are counted once more with each turn
/^static.* \**lpi_latencies_count(/,/^}/ s/latencies->count = 0;/(void)0;/
