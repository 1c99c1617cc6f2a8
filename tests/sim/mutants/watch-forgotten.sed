# a poll's news come before those of the forgotten channel of its name
/^static.* \**lpi_poll_watch(/,/^}/ s/lpi_tell_deserted(loop);/(void)0;/
