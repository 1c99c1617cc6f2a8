# making one channel of a poll may forget another
/^static.* \**lpi_hub_find_channels(/,/^}/ s/in_use = 1/in_use = 0/
