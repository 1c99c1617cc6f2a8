# a poll is parked though a recheck came while its access was asked for
/^static.* \**lpi_hub_recheck_refusal(/,/^}/ s/return LPI_WHY_RECHECKED/continue/
