# a poll counts under the address of the proxy that passes it on
/^static.* \**lpi_request_account(/,/^}/ s/LPI_TRUSTED/0/
