# the first loop to end stops the server, whoever still serves
/^static.* \**lpi_loop_end(/,/^}/ s/last = /last = 1 | /
