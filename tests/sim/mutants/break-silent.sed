# a loop that fails leaves the others asleep
/^static.* \**lpi_loops_break(/,/^}/ s/i < [^;]*/i < 1/
