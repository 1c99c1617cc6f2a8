# a call that was sent is said to be refused
# found by tests/sim/many.c
/^static void lpi_store_forget_asks(/,/^}/ s/sent ? LP_ERR_UNKNOWN : LP_ERR_AWAY/LP_ERR_AWAY/
