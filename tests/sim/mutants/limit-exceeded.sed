# one waiter too many per client
/^static.* \**lpi_hub_park_refusal(/,/^}/ s/lpi_counter_value(hub, c->client) >/lpi_counter_value(hub, c->client) > 1 +/
