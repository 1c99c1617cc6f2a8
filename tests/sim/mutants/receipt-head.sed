# what HEAD asked for has receipts
# seed 202
/^static.* \**lpi_reader_begin(/,/^}/ s/if (.*LPI_HEAD_REQUEST) return;//
