# of a key that is there twice the first counts
# found by tests/unit/json.c
/^static lp_slice lpi_json_find(/,/^}/ s/found = value;/{ found = value; break; }/
