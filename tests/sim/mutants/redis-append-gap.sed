# a message is appended though some before it are missing
# found by tests/unit/redis.c
/^static uint32_t lpi_hub_append(/,/^}/ s/ours \&\& m->seq == ch->last + 1/ours \&\& m->seq > ch->last/
