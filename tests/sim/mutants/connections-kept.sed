# a connection that is over counts on
/^static.* lpi_hub_discharge(/,/^}/ s/if (!trusted)/if (0)/
