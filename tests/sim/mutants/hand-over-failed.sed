# a connection that no loop could watch stays counted
/^static.* lpi_welcome(/,/^}/ s/lpi_unadmit(server, arrival);/(void)0;/
