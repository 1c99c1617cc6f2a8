# publishing wakes no poll
/^static.* \**lpi_hub_publish(/,/^}/ s/lpi_channel_wake(/(void)(/
