# an instance does not hear of a deletion by another
# found by tests/sim/many.c
/^static.* \**lpi_store_take_news(/,/^}/ s/lpi_hub_renewed(.*/;/
