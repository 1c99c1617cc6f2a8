# partial_bytes does not fall
/^static.* \**lpi_request_buffer_drop(/,/^}/ s/lpi_hub_count_partial(/(void)(/
