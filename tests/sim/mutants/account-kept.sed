# an account outlives its connections
/^static.* \**lpi_account_give(/,/^}/ s/--account->refs/& + 1/
