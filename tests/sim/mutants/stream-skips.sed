# a stream goes on from now, and not from its cursor
/^static void lpi_stream_send(/,/^}/ s/from\.kind = LPI_FROM_CURSOR;/from.kind = LPI_FROM_NOW;/
