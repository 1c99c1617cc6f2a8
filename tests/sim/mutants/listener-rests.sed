# a listener that rests is not resumed
/^static.* \**lpi_loop_due(/,/^}/ s/if (!loop->index && server->accept_resume_ms)/if (0)/
