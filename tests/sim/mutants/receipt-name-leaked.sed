# a connection that ends keeps its client'\''s name
/^static.* \**lpi_close(/,/^}/ s/if (LPI_ADMINISTERED && c->flags & LPI_READER) lpi_reader_drop(loop, index);//
