# a poll that has been fetched waits on when its token has ended
# found by tests/unit/token.c
/^static void lpi_hub_fetched(/,/^}/ s/parked->ends_ms = .*;/parked->ends_ms = UINT64_MAX;/
