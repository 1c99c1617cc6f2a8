# a later deadline is not looked at again
/^static.* \**lpi_wheel_pop(/,/^}/ s/timer->due = timer->deadline/& + 64/
