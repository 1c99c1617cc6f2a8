# reading is not watched again once there is room
/^static.* \**lpi_serve(/,/^}/ s/else lpi_watch_reading(loop, index);/else (void)0;/
