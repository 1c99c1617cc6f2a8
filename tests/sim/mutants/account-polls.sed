# an address keeps its polls
/^static.* lpi_waiter_leave(/,/^}/ s/lpi_account_at(hub, c->account)->node.own--;/(void)0;/
