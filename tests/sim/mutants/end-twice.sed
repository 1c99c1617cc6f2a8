# a loop that has ended counts twice
/^static.* \**lpi_loop_end(/,/^}/ s/server->serving, 1/& + !!loop->index/
