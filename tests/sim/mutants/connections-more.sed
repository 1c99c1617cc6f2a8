# an address may have one connection too many
/^static.* \**lpi_accept_admit(/,/^}/ s/\*own < server/*own <= server/
