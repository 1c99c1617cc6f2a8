# a record has the same generation each time
/^static.* \**lpi_accept_open(/,/^}/ s/c->generation = [^;]*/c->generation = 1/
