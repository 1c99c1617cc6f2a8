# the last of several loops is never signalled that it has something to do
/^static.* \**lpi_hub_sleepers(/,/^}/ s/i < hub->loop_count/& \&\& (!i || i + 1 < hub->loop_count)/
