# the first loop to end stops the server, whoever still serves
/^static.* \**lpi_loop_end(/,/^}/ s/last = !lpi_atomic_sub(&server->serving, 1);/lpi_atomic_sub(\&server->serving, 1); last = 1;/
