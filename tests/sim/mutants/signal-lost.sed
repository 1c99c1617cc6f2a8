# a loop that sleeps is not signalled
/^static.* \**lpi_hub_sleepers(/,/^}/ s/mask |= 1u << i;/(void)mask;/
