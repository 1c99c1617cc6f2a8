# a loop does not tell the first, before it sleeps, of what it has moved
/^static.* \**lpi_loop_sleep(/,/^}/ s/sleepers = lpi_hub_sleepers(hub);/sleepers = 0;/
