# a cursor that was never given is taken
# seed 139
/^static.* \**lpi_channel_judge_cursor(/,/^}/ s/seq > ch->last/& + 1/
