# a proxy may have no more than an address
# found by tests/unit/read.c
/^static.* \**lpi_account_may(/,/^}/ s/account->trusted/0/
