# an empty line is a head that is late
/^static.* \**lpi_read_await_head(/,/^}/ s/http->line == length/0/
