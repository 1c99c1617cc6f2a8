# a reset does not wait with its poll
/^static.* \**lpi_hub_park_or_reply(/,/^}/ s/reset = at\[0\]\.reason/reset = 0/
