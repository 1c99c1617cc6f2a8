# an address may have half of what all share
/^static.* lpi_account_may(/,/^}/ s/limit \/ 4/limit \/ 2/
