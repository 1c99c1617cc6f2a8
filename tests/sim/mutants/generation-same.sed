# a record has the same generation each time
/^static.* lpi_welcome(/,/^}/ s/c->generation = ++loop->generation;/c->generation = 1;/
