# what is ready is always the first loop's
/^static.* \**lpi_view_make_ready(/,/^}/ s/&hub->loops\[view->loop\]/\&hub->loops[0]/
