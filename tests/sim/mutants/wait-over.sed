# a caller's own wait makes a loop sleep over a deadline
/^static uint64_t lpi_loop_until(/,/^}/ s/wait_ms < 0 || due_us < callers_us/wait_ms < 0/
