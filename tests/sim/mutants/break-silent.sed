# a loop that fails leaves the others asleep
/^static.* \**lpi_loops_break(/,/^}/ s/i < server->hub.loop_count/i < 1/
