# the others begin to drain before the queue is handed over
# seed 146
/^static.* \**lpi_accept_stop(/,/^}/ s/int left = \([^;]*\)/int left = (lpi_atomic_set(\&server->draining, 1), \1)/
