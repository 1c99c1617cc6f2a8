# the name that a key is compared with may have escapes
# found by tests/unit/json.c
/^LPDEF int lp_json_key_is(/,/^}/ s/lp_s(name), 0/lp_s(name), 1/
