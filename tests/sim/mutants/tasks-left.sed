# tasks that were left are lost when more come
/^static.* \**lpi_loop_do_tasks(/,/^}/ s/while (\*end)/while (0)/
