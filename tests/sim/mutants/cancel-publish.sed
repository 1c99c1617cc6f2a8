# a thread may be cancelled within lp_publish
/^LPDEF lp_result lp_publish(/,/^}/ s/lpi_cancel_defer()/0/
