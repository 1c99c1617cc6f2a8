# a channel is opened before its news are sure to come
# found by tests/unit/redis.c
/^static void lpi_remote_send(/,/^}/ s/r->state = LPI_SUBSCRIBING;/r->state = LPI_OPENING; lpi_remote_want_open(hub, index, lpi_remote_next_open(r));/
