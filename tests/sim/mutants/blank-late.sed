# an empty line is a head that is late
/^static.* lpi_read_serve_one(/,/^}/ s/if (http->line == \*length && !http->in_fields)/if (0)/
