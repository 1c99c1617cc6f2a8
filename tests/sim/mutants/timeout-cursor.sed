# an empty or cut reply gives the newest cursor
/^static.* \**lpi_plan_note(/,/^}/ s/plan->at\[i\].seq = at\[i\].seq;/plan->at[i].seq = ch->last;/
