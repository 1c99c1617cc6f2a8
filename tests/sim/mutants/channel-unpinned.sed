# making one channel of a poll may forget another
/^static.* \**lpi_hub_find_channels(/,/^}/ s/pinned = 1/pinned = 0/
