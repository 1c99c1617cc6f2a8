# a thread that has published cannot be cancelled any more
/^LPDEF lp_result lp_publish(/,/^}/ s/lpi_cancel_restore(/(void)(/
