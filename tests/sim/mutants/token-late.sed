# a message is released while ends of tokens are overdue
# found by tests/unit/token.c
/^static lp_result lpi_loop_step(/,/^}/ s/LPI_SIGNED(late \&\& /LPI_SIGNED(late > 1 \&\& /
