# of several connections that a loop was given it takes in one
/^static.* \**lpi_loop_do_tasks(/,/^}/ s/loop->tasks = task->next/loop->tasks = NULL/
