# a loop goes to sleep before it says so: what comes between does not signal
/^static.* \**lpi_loop_sleep(/,/^}/ s/loop->sleeping = !work;/loop->sleeping = 0;/
