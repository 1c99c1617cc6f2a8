# a byte that begins no request is waited on
/^static int lpi_http_head(/,/^}/ s/h->line < seen \&\& bytes\[h->line\] != /0 \&\& /
