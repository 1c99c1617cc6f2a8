# a page for which there is no room is dropped
# found by tests/sim/many.c
# seed 10
/^static void lpi_remote_take_page(/,/^}/ s/(!r->page || lpi_remote_has_room(hub, m->size))/lpi_remote_has_room(hub, m->size)/
