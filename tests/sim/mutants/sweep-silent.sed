# the first loop is not signalled that another has moved the sweep
/^static.* \**lpi_hub_sleepers(/,/^}/ s/hub->sweep_moved/0/
