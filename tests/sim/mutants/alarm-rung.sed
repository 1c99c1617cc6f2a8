# an alarm that has rung is not set anew, and rings on
/^static int lpi_loop_set_alarm(/,/^}/ s/if (!rung && loop->alarm_ms <= when) return -1;/if (loop->alarm_ms <= when) return -1;/
