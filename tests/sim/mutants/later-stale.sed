# an answer goes to whoever has the connection's record now
/^static.* \*lpi_later_find(/,/^}/ s/later && later->number == request->number/later/
