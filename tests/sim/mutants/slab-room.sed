# a chunk with room is forgotten
/^static.* \**lpi_slab_give(/,/^}/ s/if (chunk->free == LPI_NONE) lpi_slab_room(slab, c);/(void)0;/
