# an address may have all of partial_bytes_max
/^static.* lpi_read_count_partial(/,/^}/ s/!lpi_account_may(account, account->partial_bytes, limit)/0/
