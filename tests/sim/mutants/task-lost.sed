# a task is lost when the inbox is not empty
/^static.* \**lpi_inbox_add(/,/^}/ s/was_empty = [^;]*/was_empty = 1/
