# the first loop to end stops the server, whoever still serves
/^static.* \**lpi_loop_end(/,/^}/ s/if (lpi_atomic_sub(&server->serving, 1)) return;/lpi_atomic_sub(\&server->serving, 1);/
