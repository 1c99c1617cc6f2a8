# a connection that was queued, and had but an empty line left, has no deadline
/^static.* lpi_read_serve_one(/,/^}/ s/lpi_timer_armed(&loop->wheel, index))$/1)/
