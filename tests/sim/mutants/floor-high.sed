# the horizon one too high: a reset without a reason
/^static.* \**lpi_channel_judge_cursor(/,/^}/ s/seq < /seq <= /
