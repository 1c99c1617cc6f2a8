# a connection that is over counts on
/^static.* \**lpi_hub_dismiss(/,/^}/ s/->connections--/->connections/
