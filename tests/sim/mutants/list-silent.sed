# who lists channels and forgets some wakes nobody
/^static.* \**lpi_hub_list(/,/^}/ s/lpi_hub_unlock_and_signal(/lpi_hub_unlock(/
