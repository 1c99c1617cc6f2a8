# what was told is told again
/^static.* \**lpi_hub_take_untold(/,/^}/ s/hub->first_untold = NULL;/(void)0;/
