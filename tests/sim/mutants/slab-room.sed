# a chunk with room is forgotten
/^static.* \**lpi_slab_give(/,/^}/ s/lpi_slab_list_chunk(/(void)(/
