# no heartbeat is sent
# found by tests/unit/redis.c
/^static void lpi_store_step_up(/,/^}/ s/failed = lpi_store_beat(store);/failed = 0, store->beat_ms = loop->now_ms + 2000;/
