# marks that were passed are fetched again
# found by tests/unit/redis.c
/^static.* \**lpi_hub_pass_marks(/,/^}/ s/requested->after = requested->before = at->seq;/{}/
