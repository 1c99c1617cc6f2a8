# a reply that was cut does not say more
/^static.* \**lpi_plan_gather(/,/^}/ s/plan->more = 1;/(void)0;/
