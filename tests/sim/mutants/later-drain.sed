# a drain does not end what waits without a deadline
# found by tests/unit/later.c
/^static.* lpi_loop_drain_begin(/,/^}/ s/if (c->phase == LPI_DEFERRED) lpi_later_limit(loop, index);//
