# an address pays on for a rest that others still wait for
/^static.* lpi_blob_release(/,/^}/ s/if (!lpi_blob_is_held(blob, io->account))/if (!blob->holders)/
