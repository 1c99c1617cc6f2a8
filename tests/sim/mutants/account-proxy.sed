# a poll counts under the address of the proxy that passes it on
/^static.* lpi_poll_park_or_reply(/,/^}/ s/c->flags & LPI_TRUSTED)$/0)/
