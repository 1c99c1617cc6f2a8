# several channels are merged in the order of the list
/^static.* \**lpi_reply_next_channel(/,/^}/ s/m->timestamp_us >= best_us/best < count/
