# an address may hold up all that slow readers may together
/^static.* \**lpi_hub_pin(/,/^}/ s/lpi_account_may(/1 || &/
