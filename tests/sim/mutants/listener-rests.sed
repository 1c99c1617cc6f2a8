# a listener that rests is not resumed
/^static.* \**lpi_loop_due(/,/^}/ s/if (server->rest_ms) .*/(void)0;/
