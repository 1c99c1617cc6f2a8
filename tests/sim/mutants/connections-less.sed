# an address may have one connection too few
/^static.* \**lpi_hub_admit(/,/^}/ s/\*own < /*own + 1 < /
