# an alarm that has rung rings on while the loop waits without it
/^static int lpi_loop_set_alarm(/,/^}/ s/} else if (rung) {/} else if (0) {/
