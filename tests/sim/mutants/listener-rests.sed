# a listener that rests is not resumed
/^static.* \**lpi_loop_due(/,/^}/ s/if (!loop->index && server->rest_ms)/if (0)/
