# a request that a proxy passes on counts where it is too much
/^static.* \**lpi_hub_move(/,/^}/ s/!lpi_account_may(/0 \&\& &/
