# no second judgement at delivery
/^static.* \**lpi_waiters_cursors(/,/^}/ s/else if (waiter->seq >= lpi_channel_floor(ch)) continue;/else if (1) continue;/
