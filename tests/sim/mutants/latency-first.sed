# whoever is given a message counts as the first of its loop
# found by tests/unit/delays.c
/^static.* \**lpi_hub_take_parked(/,/^}/ s/list->unseen = 0/list->unseen/
