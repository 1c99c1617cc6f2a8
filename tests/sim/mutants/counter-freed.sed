# a counter is freed though it counts others' polls
/^static.* \**lpi_counter_let_go(/,/^}/ s/counter->node\.count/0/
