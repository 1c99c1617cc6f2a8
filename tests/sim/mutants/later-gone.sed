# a request whose client has gone can still be answered
/^static.* lpi_close(/,/^}/ s/if (c->phase == LPI_DEFERRED) lpi_later_drop(loop, index);//
