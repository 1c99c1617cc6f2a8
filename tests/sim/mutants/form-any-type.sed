# a body of any type is read as a form
# found by tests/unit/route.c
/^LPDEF lp_slice lp_form(/,/^}/ s/if (lpi_route_type_is(r, .*))$/if (r->body.bytes)/
