# a thread may be cancelled within lp_stop
/^LPDEF void lp_stop(/,/^}/ s/cancel = lpi_cancel_defer();/cancel = 0;/
