# partial_bytes does not fall
/^static.* lpi_request_buffer_drop(/,/^}/ s/lpi_read_count_partial(loop, c, 0, .*/(void)0;/
