# fetching polls are not woken when their channel is loaded
/^static.* \**lpi_hub_loaded(/,/^}/ s/lpi_channel_wake(/(void)(/
