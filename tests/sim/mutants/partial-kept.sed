# partial_bytes does not fall
/^static.* lpi_io_drop(/,/^}/ s/lpi_partial(loop, c, 0, .*/(void)0;/
