# a poll counts in the counter of its connection's last poll, kept or not
/^static.* \**lpi_counter_take(/,/^}/ s/!wait->keeps/0/
