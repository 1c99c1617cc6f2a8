# the listener is closed and not taken out of the poller
/^static.* \**lpi_accept_close_listener(/,/^}/ s/!server->accept_resume_ms/0/
