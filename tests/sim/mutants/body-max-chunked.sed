# a chunked body is measured by the limit of messages
# found by tests/unit/route.c
/^static.* \**lpi_read_serve_head(/,/^}/ s/lpi_route_body_max(&r)/loop->server->config.message_bytes_max/
