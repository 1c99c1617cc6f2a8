# of several connections that a loop was given it takes in one
/^static.* \**lpi_inbox_handed_over(/,/^}/ s/else inbox->handover_at = inbox/inbox->handover_at = inbox/
