# an address may have one connection too few
/^static.* \**lpi_accept_admit(/,/^}/ s/\*own < server/*own + 1 < server/
