# without a timer a poller's wait is rounded down
# found by tests/unit/os.c
/^static.* \**lpi_poller_wait_ms(/,/^}/ s/ + 999/ + 0/
