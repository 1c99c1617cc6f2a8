# the bit of an empty slot is not cleared
/^static.* \**lpi_wheel_unlink(/,/^}/ s/link->next == LPI_NONE/0/
