# the ids that an array is answered with are those before
/^static.* \**lpi_publish_put_ids(/,/^}/ s/published->count + 1;/published->count;/
