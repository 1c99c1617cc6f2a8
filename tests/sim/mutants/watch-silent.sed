# the first loop is not told, while it sleeps, that there is news of a channel
/^static.* \**lpi_channel_add_event(/,/^}/ s/sweep_moved = 1/sweep_moved/
