# a negative number is read without its sign
# found by tests/unit/json.c
/^LPDEF lp_result lp_json_get_uint(/,/^}/ s/ || (n.negative \&\& magnitude)//
