# an address may have all of partial_bytes_max
# seed 100
/^static.* \**lpi_hub_count_partial(/,/^}/ s/!lpi_account_may(/0 \&\& &/
