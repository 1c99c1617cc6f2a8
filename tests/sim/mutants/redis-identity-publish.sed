# the identity is not looked at in the answer to a publish
# found by tests/unit/redis.c
/^static void lpi_store_take_published(/,/^}/ s/lpi_store_is_same(store, replid);/(void)replid;/
