# a reset does not wait with its poll
/^static.* \**lpi_poll_settle(/,/^}/ s/c->reset = at\[0\].reason;/(void)0;/
