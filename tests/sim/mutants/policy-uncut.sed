# a policy may give more than the configuration
/^static.* \**lpi_policy_cut(/,/^}/ s/return value && value < max ? value : max/return value ? value : max/
