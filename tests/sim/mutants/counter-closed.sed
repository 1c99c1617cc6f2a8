# a counter that counts nobody stays when its connection closes
/^static.* lpi_hub_gone(/,/^}/ s/lpi_counter_drop(hub, c->client);/(void)0;/
