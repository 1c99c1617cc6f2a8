# a shared rest begins too early
/^static.* \**lpi_pend(/,/^}/ s/at = sent - head.length;/at = 0;/
