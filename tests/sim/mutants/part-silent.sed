# a loop that ends does not signal the first that it has something to do
# found by tests/unit/loops.c
/^static.* \**lpi_hub_loop_ended(/,/^}/ s/lpi_hub_unlock_and_signal(/lpi_hub_unlock(/
