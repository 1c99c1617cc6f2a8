# a route that takes the rest hides those that come before it
# found by tests/unit/route.c
/^static.* \**lpi_route_pattern_hidden(/,/^}/ s/ && route->takes_rest == takes_rest/ \&\& (takes_rest || 1)/
