# a program's own routes come behind those of the library
# found by tests/unit/monitor.c
/^static.* \**lpi_route_add(/,/^}/ s/ && !lpi_route_is_monitor(kind)//
