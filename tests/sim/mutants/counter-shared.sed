# two connections keep the same counter
/^static.* \**lpi_counter_give(/,/^}/ s/ || counter->node\.kept//
