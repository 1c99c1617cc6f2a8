# a proxy may have no more than an address
/^static.* \**lpi_account_may(/,/^}/ s/account->trusted/0/
