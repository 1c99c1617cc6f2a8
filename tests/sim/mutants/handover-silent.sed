# a loop is not signalled that a connection has come
/^static.* \**lpi_accept_hand_over(/,/^}/ s/if (result > 0)/if (result > 1)/
