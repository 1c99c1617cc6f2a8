# an address may have an eighth of what all share
/^static.* \**lpi_account_may(/,/^}/ s/ \/ 4/ \/ 8/
