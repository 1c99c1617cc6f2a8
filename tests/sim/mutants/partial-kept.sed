# partial_bytes does not fall
/^static.* \**lpi_io_drop(/,/^}/ s/loop->partial_bytes -= .*/(void)0;/
