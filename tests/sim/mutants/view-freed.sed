# a view is freed while it is ready
/^static.* \**lpi_view_drop_if_empty(/,/^}/ s/if (view->seats || view->ready) return;/if (view->seats) return;/
