# what was held before a deletion is held after it
# found by tests/sim/many.c
/^static.* \**lpi_remote_take_epoch(/,/^}/ s/stays = was_past &&/stays =/
