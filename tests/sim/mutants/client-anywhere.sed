# a name counts whatever address it comes from
/^static.* lpi_client_key(/,/^}/ s/lpi_put(to, bytes)/to/
