# who asks for all that is held is told of texts that are gone
# found by tests/unit/transient.c
/^static.* \**lpi_reply_pass_mark(/,/^}/ s/ && !at->fresh//
