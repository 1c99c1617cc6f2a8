# what HEAD asked for has receipts
/^static.* \**lpi_reader_begin(/,/^}/ s/if (.*LPI_HEAD_REQUEST) return;//
