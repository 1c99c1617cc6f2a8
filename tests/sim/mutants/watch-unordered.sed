# deserted channels are told of outside the mutex that orders news
/^static.* \**lpi_loop_sweep(/,/^}/ s/lpi_tell_deserted(loop);/lpi_unlock(\&loop->server->watching), lpi_tell_deserted(loop), lpi_lock(\&loop->server->watching);/
