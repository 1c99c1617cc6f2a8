# an array may be longer than the history
/^static.* \**lpi_publish_messages(/,/^}/ s/> server->config.history_count/> server->config.history_count + 1/
