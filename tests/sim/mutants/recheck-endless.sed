# access is asked for without an end
# found by tests/unit/recheck.c
/^static.* \**lpi_poll(/,/^}/ s/why == LPI_WHY_RECHECKED && turns--/why == LPI_WHY_RECHECKED/
