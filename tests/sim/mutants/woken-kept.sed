# a loop that was signalled once is not signalled again
/^static.* \**lpi_hub_wake(/,/^}/ s/= .*woken = 0/= 0/
