# a token for one action is good for all
/^static int lpi_token_covers(/,/^}/ s/if (!(t->actions >> action \& 1))/if (!t->actions)/
