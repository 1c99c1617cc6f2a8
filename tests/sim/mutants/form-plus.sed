# a + in a form is a +
# found by tests/unit/route.c
/^LPDEF lp_slice lp_form(/,/^}/ s/\&value, 1/\&value, 0/
