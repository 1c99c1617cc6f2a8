# a member of a token may be there twice
# found by tests/unit/token.c
/^static int lpi_token_read_payload(/,/^}/ s/seen >> i \& 1 || //
