# messages are told without a reference
/^static.* \**lpi_hub_read(/,/^}/ s/lpi_atomic_add(&m->refs, 1)/(void)0/
