# the listener is closed and not taken out of the poller
/^static.* lpi_listener_close(/,/^}/ s/if (!server->rest_ms)/if (0)/
