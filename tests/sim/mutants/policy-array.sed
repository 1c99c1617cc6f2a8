# an array may be longer than what its channel holds
/^static.* \**lpi_channel_append(/,/^}/ s/if (out->count > /if (out->count \/ 2 > /
