# a deadline may pass a tick early
/^static.* \**lpi_arm(/,/^}/ s/ms + 1/ms/
