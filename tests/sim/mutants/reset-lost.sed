# a reset does not wait with its poll
/^static.* \**lpi_poll_park_or_reply(/,/^}/ s/c->reset = at\[0\].reason;/(void)0;/
