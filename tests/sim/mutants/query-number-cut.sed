# a number in the query with more escapes than room is cut
# found by tests/unit/route.c
/^LPDEF lp_result lp_query_int(/,/^}/ s/3 \* 20/2 * 20/
