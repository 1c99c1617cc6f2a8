# an address may have one connection too many
/^static.* \**lpi_hub_admit(/,/^}/ s/\*own < /*own <= /
