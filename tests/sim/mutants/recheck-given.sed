# who is rechecked is given what has come meanwhile
/^static.* \**lpi_waiters_cursors(/,/^}/ s/if (list->recheck)/if (0)/
