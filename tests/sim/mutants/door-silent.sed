# the second loop is not signalled to drain
/^static.* \**lpi_shut_door(/,/^}/ s/for (i = 1;/for (i = 2;/
