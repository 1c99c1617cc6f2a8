# a transient message is kept in the store
# found by tests/unit/redis.c
/^static.* \**lpi_store_send_publish(/,/^}/ s/m->transient ? /0 ? /
