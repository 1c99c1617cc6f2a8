# a loop does not tell the first, before it sleeps, of what it has moved
/^static.* \**lpi_hub_sleep(/,/^}/ s/lpi_hub_unlock_and_signal(/lpi_hub_unlock(/
