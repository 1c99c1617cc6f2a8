# of several connections that a loop was given it takes in one
/^static.* \**lpi_inbox_arrived(/,/^}/ s/else inbox->arrival_at = inbox/inbox->arrival_at = inbox/
