# an account outlives its connections
/^static.* lpi_account_give(/,/^}/ s/if (--account->refs) return;/if (--account->refs + 1) return;/
