# reading is not watched again once there is room
/^static.* \**lpi_read_serve(/,/^}/ { /^ / s/lpi_read_set_interest(/(void)(/; }
