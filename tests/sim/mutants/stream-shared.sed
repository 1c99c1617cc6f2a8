# polls and streams share a reply
/^static int lpi_reply_fits(/,/^}/ s/ && reply->stream == wait->stream//
