# a tally is not released
/^static.* lpi_waiter_leave(/,/^}/ s/lpi_tally_give(hub, c->client);/(void)0;/
