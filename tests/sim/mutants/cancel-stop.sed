# a thread may be cancelled within lp_stop
/^LPDEF void lp_stop(/,/^}/ s/lpi_cancel_defer()/0/
