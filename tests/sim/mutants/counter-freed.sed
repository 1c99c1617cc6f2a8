# a counter is freed though it counts others' polls
/^static.* lpi_counter_drop(/,/^}/ s/if (counter->node.own != 1) return;/if (!counter->node.own) return;/
