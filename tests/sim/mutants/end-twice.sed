# a loop that has ended counts twice
/^static.* \**lpi_loop_end(/,/^}/ s/lpi_atomic_sub(&server->serving, 1)/lpi_atomic_sub(\&server->serving, 1 + !!loop->index)/
