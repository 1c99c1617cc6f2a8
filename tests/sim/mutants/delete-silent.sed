# who waits on a channel that is deleted is not woken
/^static.* \**lpi_hub_delete(/,/^}/ s/lpi_channel_wake(/(void)(/
