# a cursor beyond the cache is ahead
# found by tests/sim/many.c
# seed 70
/^static lpi_reason lpi_remote_judge_cursor(/,/^}/ s/if (ch->last >= r->store_last \&\& opened) return LPI_AHEAD;/return LPI_AHEAD;/
