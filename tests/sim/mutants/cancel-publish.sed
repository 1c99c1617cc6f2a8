# a thread may be cancelled within lp_publish
/^static.* \**lpi_publish_json(/,/^}/ s/lpi_cancel_defer()/0/
