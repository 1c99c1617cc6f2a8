# one waiter too many per client
/^static.* \**lpi_waiters_refusal(/,/^}/ s/lpi_counter_at(/-1 + &/
