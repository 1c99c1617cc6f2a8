# a poll counts in the counter that its connection keeps, whoever asks
# found by tests/unit/limit.c
/^static.* \**lpi_counter_take(/,/^}/ s/ || .*node\.hash != key//
