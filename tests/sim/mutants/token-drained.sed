# a poll that is drained is told that its token has ended
# found by tests/unit/token.c
/^static void lpi_loop_drain_begin(/,/^}/ s/c->flags &= (uint8_t)~LPI_TOKEN_ENDS;/(void)0;/
