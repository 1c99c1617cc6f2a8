# a counter that counts nobody stays when its connection counts elsewhere
/^static.* lpi_counter_take(/,/^}/ s/lpi_counter_drop(hub, last);/(void)0;/
