# several channels are merged in the order of the list
/^static.* \**lpi_reply_next_channel(/,/^}/ s/us >= best_us/best < count/
