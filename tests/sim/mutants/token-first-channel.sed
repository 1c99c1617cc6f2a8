# a token is asked about the first channel of a poll alone
/^static void lpi_poll(/,/^}/ s/i < ask\.count;/i < 1;/
