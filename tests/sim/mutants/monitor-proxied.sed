# what a proxy passes on is taken for this machine's own
# found by tests/unit/monitor.c
/^static.* \**lpi_monitor_is_local(/,/^}/ s/lp_header(r, others\[i\])/lp_header(r, "")/
