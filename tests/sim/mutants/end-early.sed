# the first loop to end stops the server, whoever still serves
# seed 64
/^static.* \**lpi_loop_end(/,/^}/ s/last = /last = 1 | /
