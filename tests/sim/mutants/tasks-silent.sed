# a loop does not signal itself that tasks are left
# seed 340
/^static.* \**lpi_loop_do_tasks(/,/^}/ s/loop->os->wake_signal(/(void)(/
