# accepting that pauses is not resumed
/^static.* \**lpi_loop_due(/,/^}/ s/if (!loop->index && server/if (0 \&\& server/
