# a page of channels begins one too late
/^static.* \**lpi_hub_list(/,/^}/ s/index < end ? index : 0/index < end ? index + 1 : 0/
