# an array that is bad somewhere is published up to there
/^static.* \**lpi_message_new_array(/,/^}/ s/lpi_message_unref_all(memory, first);/if (first) return *result = LP_OK, first;/
