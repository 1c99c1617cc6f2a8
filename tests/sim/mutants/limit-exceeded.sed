# one waiter too many per client
/^static.* \**lpi_waiter_refusal(/,/^}/ s/lpi_tally_count(hub, client_key) >=/lpi_tally_count(hub, client_key) >/
