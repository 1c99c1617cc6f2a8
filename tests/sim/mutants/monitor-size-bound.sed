# a body of just the size of a bucket's bound counts in the next
# found by tests/unit/monitor.c
/^static.* \**lpi_reply_size_index(/,/^}/ s/(bytes - 1)/bytes/
