# whoever has made work for a loop that sleeps does not signal it
/^static.* \**lpi_hub_unlock_and_signal(/,/^}/ s/hub->os->wake_signal(/(void)(/
