# what was held before a deletion is held after it
# found by tests/sim/many.c
# seed 47
/^static.* \**lpi_remote_take_epoch(/,/^}/ s/stays = was_past &&/stays =/
