# a stream goes on after a recheck
/^static.* \**lpi_stream_ask(/,/^}/ s/ask->rechecks = stream->rechecks/ask->rechecks = lpi_hub_rechecks(lpi_hub_of(loop))/
