# channels that a publisher makes have no policy of their own
/^static.* \**lpi_hub_publish(/,/^}/ s/want.policy = NULL/want.policy = \&hub->policy/
