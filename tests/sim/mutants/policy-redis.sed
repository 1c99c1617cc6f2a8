# the store is told to hold what the configuration says
# found by tests/unit/redis.c
/^static.* \**lpi_store_policy(/,/^}/ s/if (result != LP_OK) return result;/& call->policy = server->hub.policy;/
