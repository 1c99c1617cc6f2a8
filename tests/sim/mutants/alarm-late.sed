# an alarm is left as it is though it rings too late
/^static int lpi_loop_set_alarm(/,/^}/ s/if (!rung && loop->alarm_ms <= when) return -1;/if (!rung \&\& loop->alarm_ms < UINT64_MAX) return -1;/
