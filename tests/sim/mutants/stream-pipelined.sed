# what comes behind a stream's request is read as a request
/^static void lpi_read_serve(/,/^}/ s/!(c->flags & LPI_STREAM)/!(c->flags \& LPI_STREAM \& 0)/
