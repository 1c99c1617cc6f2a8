# a token is good at the very moment of its end
# found by tests/unit/token.c
/^static lpi_why lpi_route_token_read(/,/^}/ s/wall_us >= token->ends_us/wall_us > token->ends_us/
