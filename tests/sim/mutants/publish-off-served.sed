# the route is there, though nobody may publish
# found by tests/unit/hooks.c
/^static.* \**lpi_route_is_wanted(/,/^}/ s/return !lpi_config_publish_off(cfg);/return 1;/
