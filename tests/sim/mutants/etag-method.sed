# If-None-Match counts for a POST
# found by tests/unit/file.c
/^static.* \**lpi_request_has_tag(/,/^}/ s/r->http->method != LPI_GET/0/
