# what is left of a poll's body is read as a request
/^static.* \**lpi_read_serve_body(/,/^}/ s/done = !chunked->left/done = 1/
