# the query of a referer is told
# found by tests/unit/monitor.c
/^static.* \**lpi_access_until_query(/,/^}/ s/url\.bytes\[n\] != '?' \&\& //
