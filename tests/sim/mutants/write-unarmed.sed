# a slow reader has no deadline
/^static.* \**lpi_pend(/,/^}/ s/lpi_arm(loop, index, .*/(void)0;/
