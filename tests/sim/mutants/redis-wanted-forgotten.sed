# an open that is wanted while another is under way is not sent after it
# found by tests/unit/redis.c
/^static void lpi_hub_opened(/,/^}/ s/(r->opens_wanted - r->opens_done) > 0)/(r->opens_wanted - r->opens_done) > 99)/
