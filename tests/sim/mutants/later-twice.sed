# two answers to one request are both taken
/^static.* lpi_later_leave(/,/^}/ s/later && !later->answered/later != NULL/
