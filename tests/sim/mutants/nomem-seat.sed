# without memory for a view its seat is lost
/^static.* \**lpi_seat_take(/,/^}/ s/if (index != LPI_NONE) lpi_slab_give(&hub->seats, index);/(void)0;/
