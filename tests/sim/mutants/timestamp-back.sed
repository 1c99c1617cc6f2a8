# a timestamp follows the wall clock back
/^static.* \**lpi_hub_append(/,/^}/ s/lpi_max64(hub->os->wall_us(hub->os->ctx), ch->last_us + 1)/hub->os->wall_us(hub->os->ctx)/
