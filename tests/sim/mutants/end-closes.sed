# an end of the stream cuts off what is being answered
/^static.* \**lpi_read_stream_ended(/,/^}/ s/!lpi_is_answering(c)/1/
