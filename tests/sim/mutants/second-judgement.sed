# no second judgement at delivery
/^static.* \**lpi_waiters_cursors(/,/^}/ s/if (.*) continue;/if (1) continue;/
