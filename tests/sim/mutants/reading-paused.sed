# reading is not watched again once there is room
/^static.* \**lpi_read_serve(/,/^}/ s/else lpi_read_set_interest(loop, index);/else (void)0;/
