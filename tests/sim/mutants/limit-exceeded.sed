# one waiter too many per client
/^static.* \**lpi_waiter_refusal(/,/^}/ s/lpi_tally_count(hub, c->client) >/lpi_tally_count(hub, c->client) > 1 +/
