# a token is asked about the first channel of a poll alone
/^static.* lpi_poll_begin(.*)$/,/^}/ s/i < ask->count;/i < 1;/
