# a client counts as one with a shorter or longer name when its fields are those of the last head
/^static.* lpi_http_take(/,/^}/ s/h->values\[i\].length = (uint16_t)id_length;/(void)0;/
