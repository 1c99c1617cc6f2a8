# a message that is dropped keeps its receipts
/^static.* \**lpi_channel_evict_one(/,/^}/ s/while (LPI_ADMINISTERED/while (0/
