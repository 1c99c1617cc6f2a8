# before_publish is asked about a request with a bad key
# found by tests/unit/hooks.c
/^static.* \**lpi_publish(/,/^}/ s/(LPI_REMOTE(r->server->stores) \&\& lpi_publish_key_refused(r))/(0)/
