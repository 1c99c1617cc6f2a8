# a system call under the mutex of the hub
/^static.* \**lpi_hub_publish(/,/^}/ s/sleepers = lpi_hub_sleepers(hub);/sleepers = 0, lpi_hub_signal(hub, lpi_hub_sleepers(hub));/
