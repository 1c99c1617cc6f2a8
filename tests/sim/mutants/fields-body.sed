# a body's length is lost when the fields are those of the last head
/^static.* lpi_http_take(/,/^}/ s/h->content_length = from->content_length;/(void)0;/
