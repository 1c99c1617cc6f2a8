# a stream that begins with a reset has its cursor before it
# found by tests/unit/stream.c
/^static void lpi_stream_send(/,/^}/ s/reply->resets ? 0 : reply->channel_count/reply->channel_count/
