# an open has no witness
# found by tests/unit/redis.c
/^static void lpi_remote_send(/,/^}/ s/work->birth_us = .*/work->birth_us = 0;/
