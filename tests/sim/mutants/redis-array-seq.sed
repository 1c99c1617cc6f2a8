# all messages of an array have the last one'\''s id here
# found by tests/sim/many.c
/^static.* \**lpi_store_append(/,/^}/ s/seq - before,/seq,/
