# a caller's own wait makes a loop sleep over a deadline
/^static.* \**lpi_loop_until(/,/^}/ s/ || due_us < callers_us//
