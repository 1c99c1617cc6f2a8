# a body is measured by the limit of messages
# found by tests/unit/route.c
/^static.* \**lpi_route_body_max(/,/^}/ s/cfg->body_bytes_max/cfg->message_bytes_max/
