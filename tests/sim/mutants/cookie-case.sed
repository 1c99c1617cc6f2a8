# the case of a cookie's name does not count
# found by tests/unit/route.c
/^static lp_slice lpi_http_cookie(/,/^}/ s/!lpi_equal(key, name)/!lpi_alike(key, name)/
