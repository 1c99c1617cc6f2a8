# a poll that fetches is parked after a recheck
# found by tests/unit/redis.c
/^static.* \**lpi_hub_recall(/,/^}/ s/if (list->recheck)/if (0)/
