# escapes in a path stand for themselves
# found by tests/unit/json.c
/^static int lpi_json_path_brackets(/,/^}/ s/step->escapes = 1/step->escapes = 0/
