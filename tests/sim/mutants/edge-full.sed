# what a read had no room for is not asked for again
# found by tests/unit/read.c
/^static.* \**lpi_read_ready(/,/^}/ s/if (n < 0 || (size_t)n == room - head)/if (n < 0)/
