# calls in the queue are forgotten when the store goes
# found by tests/unit/redis.c
/^static void lpi_store_step(/,/^}/ s/if (store->state != LPI_STORE_UP) lpi_store_send_calls(store);//
