# an open that failed is not sent again
# found by tests/unit/redis.c
/^static void lpi_remote_resume(/,/^}/ s/which == LPI_DELAYED_FAILED ||/0 ||/
