# an alarm that could not be set is waited for
/^static int lpi_loop_alarm_set(/,/^}/ s/if (os->alarm_set(os->ctx, loop->alarm, at_us)) {/if (os->alarm_set(os->ctx, loop->alarm, at_us), 0) {/
