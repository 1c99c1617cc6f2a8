# an address keeps its polls
/^static.* lpi_hub_unpark(/,/^}/ s/lpi_account_at(hub, c->account)->node.own--;/(void)0;/
