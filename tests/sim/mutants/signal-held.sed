# a system call under the mutex of the hub
/^static.* \**lpi_hub_sleepers(/,/^}/ s/loop->woken = 1/&, hub->os->wake_signal(hub->os->ctx, loop->wake)/
