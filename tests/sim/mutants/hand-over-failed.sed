# a connection that no loop could watch stays counted
/lpi_slab_give(&loop->connections, index);/{n;s/lpi_atomic_sub(&server->hub.connections, 1);/(void)0;/;}
