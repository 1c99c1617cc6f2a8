# a client's name counts without its address
/^static.* lpi_client_key(/,/^}/ s/lpi_put(to, bytes)/to/
