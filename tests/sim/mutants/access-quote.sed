# a quote is written as it is
# found by tests/unit/monitor.c
/^static.* \**lpi_access_put(/,/^}/ s/c < 0x7f && c != '"' &&/c < 0x7f \&\&/
