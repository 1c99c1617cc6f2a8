# the others begin to drain before the queue is handed over
/^static.* \**lpi_accept_stop(/,/^}/ s/int left = \([^;]*\)/int left = (lpi_atomic_set(\&server->draining, 1), \1)/
