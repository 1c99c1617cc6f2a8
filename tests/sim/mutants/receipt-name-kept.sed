# a poll without a name has the receipts of the one before on its connection
/^static.* \**lpi_reader_name(/,/^}/ s/if (!(c->flags & LPI_READER)) {/if (!client_id.bytes) return LPI_WHY_NONE; if (!(c->flags \& LPI_READER)) {/
