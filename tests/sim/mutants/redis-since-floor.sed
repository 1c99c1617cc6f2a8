# since goes on from the floor in a new epoch
# found by tests/sim/many.c
/^static lpi_reason lpi_remote_judge_time(/,/^}/ s/reason = lpi_channel_judge_time(ch, requested->seq);/& if (reason) *seq = ch->remote->floor;/
