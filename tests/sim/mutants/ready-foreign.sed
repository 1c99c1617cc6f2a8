# what is ready is always the first loop's
/^static.* \**lpi_waiter_list_make_ready(/,/^}/ s/loops\[list->loop\]/loops[0]/
