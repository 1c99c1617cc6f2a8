# the cache judges, and not the store
# found by tests/sim/many.c
/^static uint64_t lpi_channel_floor(/,/^}/ s/ch->remote->floor/lpi_channel_ring_floor(ch)/
