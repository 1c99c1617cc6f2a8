# who waits on a channel that is deleted is woken and parked again
/^static.* \**lpi_channel_renew(/,/^}/ s/ch->epoch_number++;//
