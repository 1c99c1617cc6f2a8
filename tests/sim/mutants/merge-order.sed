# several channels are merged in the order of the list
/^static.* \**lpi_plan_next(/,/^}/ s/if (us >= best_us) continue;/if (best < count) continue;/
