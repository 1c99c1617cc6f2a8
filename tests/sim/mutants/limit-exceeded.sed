# one waiter too many per client
# found by tests/unit/limit.c
/^static.* \**lpi_waiters_refusal(/,/^}/ s/lpi_counter_at(/-1 + &/
