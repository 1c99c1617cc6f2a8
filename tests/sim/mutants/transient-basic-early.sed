# in the basic dialect marks behind the message are passed with it
# found by tests/unit/transient.c
/^static.* \**lpi_reply_gather(/,/^}/ s/ \&\& !(reply->basic \&\& reply->count)//
