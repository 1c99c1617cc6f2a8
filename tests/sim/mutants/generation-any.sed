# an event is taken whatever connection it was meant for
/^static.* \**lpi_tag_connection(/,/^}/ s/c->generation == tag >> 24/1/
