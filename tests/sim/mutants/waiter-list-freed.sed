# a list is freed while it is ready
/^static.* \**lpi_waiter_list_drop_if_empty(/,/^}/ s/ || list->ready//
