# the listener is closed and not taken out of the poller
/^static.* lpi_accept_close_listener(/,/^}/ s/if (!server->accept_resume_ms)/if (0)/
