# a decoded string may fill its buffer, with the NUL behind it
# found by tests/unit/json.c
/^static lp_result lpi_json_decode_ended(/,/^}/ s/size - 1/size/
