# the horizon one too low: a cursor before it is continuous
/^static.* \**lpi_channel_judge_cursor(/,/^}/ s/seq < /seq + 1 < /
