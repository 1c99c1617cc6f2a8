# the second loop is not signalled to drain
/^static.* \**lpi_accept_stop(/,/^}/ s/for (i = 1/for (i = 2/
