# a tally is freed though it counts others' polls
/^static.* lpi_tally_drop(/,/^}/ s/if (tally->node.own != 1) return;/if (!tally->node.own) return;/
