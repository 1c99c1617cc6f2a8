# a thread that has published cannot be cancelled any more
/^static.* \**lpi_publish_json(/,/^}/ s/lpi_cancel_restore(/(void)(/
