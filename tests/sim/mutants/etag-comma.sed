# a tag that has a comma is two
# found by tests/unit/reply.c
/^static.* \**lpi_etag_listed(/,/^}/ s/memchr(at + 1, '"'/memchr(at + 1, ','/
