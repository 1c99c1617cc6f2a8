# an old epoch is taken for the new one
/^static.* \**lpi_channel_judge_cursor(/,/^}/ s/epoch != ch->epoch/0/
