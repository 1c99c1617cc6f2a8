# a stream whose token has ended goes on
# found by tests/unit/token.c
/^static void lpi_stream_go_on(/,/^}/ s/ask\.ends_ms <= loop->now_ms/ask.ends_ms == 1/
