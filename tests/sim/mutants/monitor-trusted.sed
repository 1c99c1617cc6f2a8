# a trusted proxy is taken for this machine
# found by tests/unit/monitor.c
/^static.* \**lpi_monitor_is_local(/,/^}/ s/ || c->flags & LPI_TRUSTED//
