# an address may have half of what all share
/^static.* \**lpi_account_may(/,/^}/ s/ \/ 4/ \/ 2/
