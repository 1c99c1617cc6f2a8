# what has arrived waits for the next step
/^static.* \**lpi_loop_step(/,/^}/ s/lpi_read_serve_arrivals(loop)/(void)0/
