# a tally is not released
/^static.* \**lpi_waiter_leave(/,/^}/ s/lpi_tally_give(hub, c->ceiling, now_ms);/(void)0;/
