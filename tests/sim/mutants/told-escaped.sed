# the channel's name is told as JSON has it
/^static.* \**lpi_message_channel(/,/^}/ s/if (\*at == '\\\\') at++;/(void)0;/
