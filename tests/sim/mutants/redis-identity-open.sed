# the identity is not looked at in the answer to an open
# found by tests/unit/redis.c
/^static void lpi_store_take_open(/,/^}/ s/if (!lpi_store_is_same(store, lpi_resp_take(&reply).text)) return;/lpi_resp_take(\&reply);/
