# the horizon one too low: a cursor before it is continuous
/^static.* \**lpi_channel_judge_cursor(/,/^}/ s/seq < lpi_channel_floor(ch)/seq + 1 < lpi_channel_floor(ch)/
