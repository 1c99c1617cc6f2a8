# who asks for all that is held and who has a cursor share a reply
# found by tests/unit/redis.c
/^static.* \**lpi_reply_fits(/,/^}/ s/reply->fresh == at->fresh/1/
