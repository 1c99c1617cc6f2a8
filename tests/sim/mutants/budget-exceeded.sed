# pinned replies do not count against the history
/^static.* \**lpi_history_limit(/,/^}/ s/ > budget)/ > budget * 2)/
