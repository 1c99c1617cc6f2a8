# the identity of the greeting is believed for ever
# found by tests/unit/redis.c
/^static int lpi_store_is_same(/,/^}/ s/if (lpi_equal(replid.*/(void)replid; return 1;/
