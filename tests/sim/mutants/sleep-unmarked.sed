# a loop goes to sleep before it says so: what comes between does not signal
/^static.* \**lpi_hub_sleep(/,/^}/ s/sleeping = [^;]*/sleeping = 0/
