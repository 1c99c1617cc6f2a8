# a thread may be cancelled within lp_publish
/^LPDEF lp_result lp_publish(/,/^}/ s/cancel = lpi_cancel_defer();/cancel = 0;/
