# who lists channels and forgets some wakes nobody
# seed 129
/^static.* \**lpi_hub_list(/,/^}/ s/lpi_hub_unlock_and_signal(/lpi_hub_unlock(/
