# a spent tally is freed though it counts again
/^static.* \**lpi_spent_drop(/,/^}/ s/if (tally->node.own) return;/(void)tally;/
