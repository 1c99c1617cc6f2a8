# a route that takes the rest serves what another one should
# found by tests/unit/route.c
/^static.* \**lpi_route_add(/,/^}/ s/while (route->takes_rest/while (0/
