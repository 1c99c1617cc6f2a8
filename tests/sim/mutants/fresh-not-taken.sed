# fresh does not fall when a poll leaves
/^static.* \**lpi_seats_give(/,/^}/ s/ch->fresh--;/(void)0;/
