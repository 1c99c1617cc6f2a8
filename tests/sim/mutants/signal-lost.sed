# a loop that sleeps is not signalled
/^static.* \**lpi_hub_sleepers(/,/^}/ s/mask |= [^;]*/mask |= 0/
