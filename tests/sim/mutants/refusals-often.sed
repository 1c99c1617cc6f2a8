# refusals are told as often as they happen
/^static.* \**lpi_hub_take_refusals(/,/^}/ s/ + LPI_REFUSALS_MS//
