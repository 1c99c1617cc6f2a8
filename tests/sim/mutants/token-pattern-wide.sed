# a pattern matches a name that it begins with
/^static int lpi_token_matches(/,/^}/ s/return p == pattern\.length;/return 1;/
