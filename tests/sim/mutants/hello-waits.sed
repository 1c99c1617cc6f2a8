# a byte that begins no request is waited on
/^static int lpi_http_head(/,/^}/ s/if (!h->in_fields && h->line < seen/if (0 \&\& h->line < seen/
