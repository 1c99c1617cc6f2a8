# the first loop goes to sleep before messages that are to be told
/^static.* \**lpi_hub_has_first_work(/,/^}/ s/hub->first_untold ||/0 ||/
