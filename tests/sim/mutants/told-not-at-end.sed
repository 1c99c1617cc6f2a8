# what is left at the end is not told
/^LPDEF void lp_destroy(/,/^}/ s/if (server->loop_count) lpi_loop_tell_published/if (0) lpi_loop_tell_published/
