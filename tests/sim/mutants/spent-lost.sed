# a spent tally is kept for ever
/^static.* \**lpi_spent_drop(/,/^}/ s/if (tally->node.own) return;/return;/
