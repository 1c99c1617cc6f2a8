# a request that a proxy passes on counts where it is too much
/^static.* \**lpi_account_move(/,/^}/ s/if (bytes \&\& limit/if (0 \&\& limit/
