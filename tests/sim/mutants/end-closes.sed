# an end of the stream cuts off what is being answered
/^static.* \**lpi_stream_ended(/,/^}/ s/if (!lpi_still_serving(c))/if (1)/
