# a list is freed while it is served
/^static.* \**lpi_hub_take_list(/,/^}/ s/list->ready = 1/list->ready = 0/
