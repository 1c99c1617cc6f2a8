# no second judgement at delivery
/^static.* \**lpi_waiter_positions(/,/^}/ s/else if (seat->seq >= lpi_channel_floor(ch)) continue;/else if (1) continue;/
