# refusals are told as often as they happen
/^static.* lpi_refusals_take(/,/^}/ s/now_ms < r->told_ms + LPI_REFUSALS_MS/now_ms < r->told_ms/
