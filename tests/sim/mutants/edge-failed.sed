# a read that was interrupted is not tried again
/^static.* \**lpi_read_ready(/,/^}/ s/if (n < 0 || (size_t)n == room - head)/if ((size_t)n == room - head)/
