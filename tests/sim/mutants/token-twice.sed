# a token in the header and one in the query may stand together
# found by tests/unit/token.c
/^static lpi_why lpi_route_query_token(/,/^}/ s/if (given->bytes) return LPI_WHY_TOKEN_TWICE;/(void)0;/
