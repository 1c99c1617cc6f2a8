# an address pays nothing for a rest that another's connection waits for too
/^static.* lpi_blob_is_held(/,/^}/ s/while (buffer && buffer->account != account) buffer/while (0) buffer/
