# a sweep is not told to the loop that sleeps
/^static.* \**lpi_hub_want_sweep(/,/^}/ s/sweep_moved = 1/sweep_moved/
