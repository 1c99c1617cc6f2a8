# a closed connection stays in the queue
/^static.* \**lpi_close(/,/^}/ s/if (c->phase == LPI_QUEUED) lpi_queue_remove(loop, index);/(void)0;/
