# channels stay LIVE when the connection was lost
# found by tests/unit/redis.c
/^static int lpi_remote_is_current(/,/^}/ s/ \&\& r->connection == store->connection//
