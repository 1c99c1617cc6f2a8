# an address pays nothing for a rest that another's connection waits for too
/^static.* lpi_blob_is_held(/,/^}/ s/while (io && io->account != account) io/while (0) io/
