# a shorter age is not kept to
/^static.* \**lpi_message_is_old(/,/^}/ s/lpi_channel_policy(hub, lpi_channel_at(hub, m->channel))/(\&hub->policy)/
