# a stream begins behind its first message
/^static void lpi_stream_start(const/,/^}/ s/->seq - 1;/->seq;/
