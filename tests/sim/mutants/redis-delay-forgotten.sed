# a delayed open is forgotten
# found by tests/unit/redis.c
/^static void lpi_remote_resume(/,/^}/ s/lpi_remote_want_open(hub, index, lpi_remote_next_open(r));/{}/
