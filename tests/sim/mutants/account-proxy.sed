# a poll counts under the address of the proxy that passes it on
# found by tests/unit/limit.c
/^static.* \**lpi_request_account(/,/^}/ s/LPI_TRUSTED/0/
