# an alarm or a pipe is closed and not taken out of the poller
/^static.* lpi_unwatch_and_close(/,/^}/ s/os->poller_set(.*/(void)tag;/
