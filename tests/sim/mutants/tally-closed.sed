# a tally that counts nobody stays when its connection closes
/^static.* lpi_waiter_gone(/,/^}/ s/lpi_tally_drop(hub, c->client);/(void)0;/
