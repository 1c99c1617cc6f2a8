# fetching polls are not woken when their channel is loaded
/^static.* \**lpi_remote_opened(/,/^}/ s/lpi_channel_wake(/(void)(/
