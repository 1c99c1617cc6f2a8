# messages beyond a gap are never taken
# found by tests/unit/redis.c
/^static void lpi_remote_take_early(/,/^}/ s/while ((m = r->early) != NULL) {/while ((m = NULL) != NULL) {/
