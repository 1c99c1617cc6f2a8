# several channels are merged in the order of the list
/^static.* \**lpi_reply_next_channel(/,/^}/ s/if (us >= best_us) continue;/if (best < count) continue;/
