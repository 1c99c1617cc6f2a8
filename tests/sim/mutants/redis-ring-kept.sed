# a ring stays in an epoch that it is not of
# found by tests/sim/many.c
/^static int lpi_remote_take_epoch(/,/^}/ s/stays = was_past.*/stays = 1;/
