# a page is put into the ring
# found by tests/sim/many.c
# seed 5
/^static void lpi_remote_take_page(/,/^}/ s/if (m->seq == ch->last + 1) {/if (m->seq == ch->last + 1 || (m->seq <= ch->last \&\& !ch->held \&\& (ch->last = m->seq - 1, 1))) {/
