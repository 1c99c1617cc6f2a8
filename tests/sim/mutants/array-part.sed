# an array that is bad somewhere is published up to there
/^static.* \**lpi_message_new_array(/,/^}/ s/if (!more && first && scan.at == scan.end) return first;/if (first) return first;/
