# a reset has all that is held again
# found by tests/sim/many.c
/^static int lpi_remote_take_epoch(/,/^}/ s/r->past_epoch = .*/r->past_epoch = 0;/
