# the events of channels are told the last first
/^static.* \**lpi_hub_next_event(/,/^}/ s/events\.head/events.tail/
