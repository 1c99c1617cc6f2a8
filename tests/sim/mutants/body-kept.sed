# a body that a poll has no use for is kept
/^static.* \**lpi_drops_body(/,/^}/ s/return .*;/return (void)route, 0;/
