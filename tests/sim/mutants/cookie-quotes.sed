# a cookie keeps its quotes
# found by tests/unit/route.c
/^static lp_slice lpi_http_cookie(/,/^}/ s/if (pair.length > 1 /if (0 /
