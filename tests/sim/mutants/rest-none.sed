# a rest that is empty is no rest
# found by tests/unit/route.c
/^static.* \**lpi_route_matches(/,/^}/ s/return path\.bytes != NULL/return path.length != 0/
