# only the first Cookie field is looked at
# found by tests/unit/route.c
/^LPDEF lp_slice lp_cookie(/,/^}/ s/if (value.bytes) return value;/return value;/
