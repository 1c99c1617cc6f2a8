# the first loop is not told, while it sleeps, that there is news of a channel
/^static.* lpi_channel_news(/,/^}/ s/hub->sweep_moved = 1;/(void)0;/
