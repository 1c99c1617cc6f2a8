# a loop that was signalled once is not signalled again
/^static.* \**lpi_loop_wake(/,/^}/ s/loop->sleeping = loop->woken = 0;/loop->sleeping = 0;/
