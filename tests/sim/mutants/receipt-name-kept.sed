# a poll without a name has the receipts of the one before on its connection
/^static.* \**lpi_reader_name(/,/^}/ s/if (!named && !client_id.bytes)/if (!client_id.bytes)/
