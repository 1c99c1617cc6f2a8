# what is in a text is given before all of it was checked
# found by tests/unit/json.c
/^LPDEF void lp_json_each(/,/^}/ s/if (lpi_json_validate(&json))/if (*json.bytes != '[' \&\& lpi_json_validate(\&json))/
