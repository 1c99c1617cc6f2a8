# messages are told by whatever loop comes first
/^static.* \**lpi_loop_step(/,/^}/ s/if (!loop->index) lpi_loop_tell_published/lpi_loop_tell_published/
