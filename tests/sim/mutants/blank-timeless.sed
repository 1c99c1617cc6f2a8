# a connection that was queued, and had but an empty line left, has no deadline
/^static.* lpi_queue_remove(/,/^}/ s/lpi_arm(loop, index, .*/(void)0;/
